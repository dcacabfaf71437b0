//! Logits to one token.

use super::random::Random;
use crate::error::{Error, Result};
use densecore_kernels::vector;
use serde::Deserialize;

/// How a token is drawn. Temperature 0 takes the most likely one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Divides the logits; 0 means greedy.
    pub temperature: f32,
    /// Keeps the so many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest most likely tokens that together reach this probability.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the most likely one.
    pub min_p: f32,
    /// Of what these keep, keeps the tokens whose surprise is nearest to the expected one and that together reach this
    /// probability.
    pub typical_p: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, typical_p: 1.0 }
    }
}

impl Sampling {
    /// Refuses values outside their ranges, NaN included.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=100.0).contains(&self.temperature) {
            return Err(Error::argument("temperature", self.temperature, "it must be from 0 (greedy) to 100"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::argument("top_p", self.top_p, "it must be above 0 and at most 1 (1 keeps all)"));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(Error::argument("min_p", self.min_p, "it must be from 0 (keeps all) to 1"));
        }
        if !(self.typical_p > 0.0 && self.typical_p <= 1.0) {
            return Err(Error::argument("typical_p", self.typical_p, "it must be above 0 and at most 1 (1 keeps all)"));
        }
        Ok(())
    }
}

/// Draws tokens for one sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    random: Random,
}

impl Sampler {
    /// A sampler with its own stream of random numbers.
    pub fn new(sampling: Sampling, random: Random) -> Self {
        Self { sampling, random }
    }

    /// The next token. `weights` is working memory, kept from draw to draw.
    pub fn next(&mut self, logits: &[f32], weights: &mut Vec<f32>) -> u32 {
        let s = &self.sampling;
        if s.temperature <= 0.0 {
            return vector::argmax(logits) as u32;
        }
        if s.top_k > 0 || s.top_p < 1.0 || s.min_p > 0.0 || s.typical_p < 1.0 {
            let kept = candidates(logits, s, weights);
            return if s.typical_p < 1.0 { self.draw(&typical(&kept, s.typical_p)) } else { self.draw(&kept) };
        }
        // All may be drawn: no order is needed, only their sum.
        let total = all_weights(logits, s, weights);
        vector::place_of(weights, self.random.uniform() * total) as u32
    }

    fn draw(&mut self, kept: &[(u32, f64)]) -> u32 {
        let total: f64 = kept.iter().map(|c| c.1).sum();
        let mut left = self.random.uniform() * total;
        for &(id, weight) in kept {
            left -= weight;
            if left < 0.0 {
                return id;
            }
        }
        kept.last().map_or(0, |c| c.0)
    }
}

/// Every token's weight, 1 for the likeliest, and their sum.
fn all_weights(logits: &[f32], sampling: &Sampling, weights: &mut Vec<f32>) -> f64 {
    weights.resize(logits.len(), 0.0);
    vector::exp_shifted(logits, vector::max(logits), 1.0 / sampling.temperature, weights)
}

/// The tokens that may be drawn and their weights, most likely first.
fn candidates(logits: &[f32], sampling: &Sampling, weights: &mut Vec<f32>) -> Vec<(u32, f64)> {
    let largest = vector::max(logits);
    let weight = |l: f32| (f64::from(l - largest) / f64::from(sampling.temperature)).exp();
    let weighted = |list: Vec<(u32, f32)>| -> Vec<(u32, f64)> {
        list.into_iter().map(|(id, l)| (id, weight(l))).filter(|c| c.1 > 0.0).collect()
    };
    let mut kept = if sampling.top_k > 0 {
        weighted(top(logits, sampling.top_k))
    } else if sampling.min_p > 0.0 {
        // In one pass, a little wider than the limit, which is applied exactly below.
        let floor = largest + sampling.temperature * (sampling.min_p.ln() - 1e-3);
        let mut likely: Vec<(u32, f32)> =
            logits.iter().enumerate().filter(|(_, l)| **l >= floor).map(|(id, &l)| (id as u32, l)).collect();
        likely.sort_unstable_by(likelier);
        weighted(likely)
    } else if sampling.top_p >= 1.0 {
        weighted(top(logits, logits.len()))
    } else {
        // The likeliest that reach the share; a few hundred nearly always do.
        let enough = all_weights(logits, sampling, weights) * f64::from(sampling.top_p);
        let mut n = 256;
        loop {
            let kept = weighted(top(logits, n));
            if n >= logits.len() || kept.iter().map(|c| c.1).sum::<f64>() > enough {
                return reaching(kept, enough);
            }
            n *= 8;
        }
    };
    if sampling.min_p > 0.0 {
        let least = kept.first().map_or(0.0, |c| c.1) * f64::from(sampling.min_p);
        kept.truncate(kept.partition_point(|c| c.1 >= least).max(1));
    }
    if sampling.top_p < 1.0 {
        let enough = kept.iter().map(|c| c.1).sum::<f64>() * f64::from(sampling.top_p);
        kept = reaching(kept, enough);
    }
    kept
}

/// Those of `kept` whose surprise is nearest to its mean and that together have this share of the weight; ties with the
/// last of them as well.
fn typical(kept: &[(u32, f64)], share: f32) -> Vec<(u32, f64)> {
    let total: f64 = kept.iter().map(|c| c.1).sum();
    let surprise = |weight: f64| -(weight / total).ln();
    let mean: f64 = kept.iter().map(|c| c.1 / total * surprise(c.1)).sum();
    let odd = |weight: f64| (surprise(weight) - mean).abs();
    let mut order: Vec<f64> = kept.iter().map(|c| c.1).collect();
    order.sort_by(|a, b| odd(*a).total_cmp(&odd(*b)));
    let (mut reached, mut most) = (0.0, f64::INFINITY);
    for weight in order {
        (reached, most) = (reached + weight, odd(weight));
        if reached >= total * f64::from(share) {
            break;
        }
    }
    kept.iter().copied().filter(|c| odd(c.1) <= most).collect()
}

/// The first of `kept` that together weigh `enough`.
fn reaching(mut kept: Vec<(u32, f64)>, enough: f64) -> Vec<(u32, f64)> {
    let mut reached = 0.0;
    let n = kept.iter().position(|c| {
        reached += c.1;
        reached >= enough
    });
    kept.truncate(n.map_or(kept.len(), |n| n + 1));
    kept
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "what sorting asks for")]
fn likelier(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The `n` largest logits with their places, largest first; ties by place.
pub fn top(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(2 * n);
    let mut floor = f32::NEG_INFINITY;
    for (id, &l) in logits.iter().enumerate() {
        if l > floor || best.len() < n {
            best.push((id as u32, l));
            if best.len() == 2 * n {
                best.select_nth_unstable_by(n - 1, likelier);
                best.truncate(n);
                floor = best.iter().map(|b| b.1).fold(f32::INFINITY, f32::min);
            }
        }
    }
    best.sort_unstable_by(likelier);
    best.truncate(n);
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(logits: &[f32], sampling: &Sampling, draws: usize) -> Vec<f64> {
        let (mut sampler, mut weights) = (Sampler::new(sampling.clone(), Random::new(None, 0)), Vec::new());
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..draws {
            counts[sampler.next(logits, &mut weights) as usize] += 1.0;
        }
        counts
    }

    /// Draws of a long vocabulary against the softmax. With 200 degrees of freedom chi-square is above 300 once in 10^5 runs.
    #[test]
    fn draws_follow_the_full_softmax() {
        let draws = 400_000;
        for temperature in [1.0f32, 1.4, 1.9] {
            let logits: Vec<f32> = (0..5000).map(|i| (((i * 2_654_435_761_u64) % 1000) as f32) / 130.0).collect();
            let sampling = Sampling { temperature, ..Sampling::default() };
            let found = counts(&logits, &sampling, draws);
            let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / f64::from(temperature)).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
            // 200 bins of 25 tokens, likely and unlikely ones apart.
            let (mut chi, mut bins) = (0.0, 0);
            for bin in order.chunks(25) {
                let expected = draws as f64 * bin.iter().map(|&i| weights[i]).sum::<f64>() / total;
                let seen: f64 = bin.iter().map(|&i| found[i]).sum();
                assert!(expected > 5.0);
                (chi, bins) = (chi + (seen - expected).powi(2) / expected, bins + 1);
            }
            assert_eq!(bins, 200);
            assert!(chi < 300.0, "temperature {temperature}: chi-square {chi} of 199 degrees");
        }
    }

    #[test]
    fn filters_keep_what_they_should() {
        let logits = [1.0f32, 3.0, 2.0, 0.0];
        let ids = |s: Sampling| candidates(&logits, &s, &mut Vec::new()).iter().map(|c| c.0).collect::<Vec<_>>();
        let base = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(ids(Sampling { top_k: 2, ..base.clone() }), [1, 2]);
        assert_eq!(ids(Sampling { top_p: 0.5, ..base.clone() }), [1]);
        assert_eq!(ids(Sampling { top_p: 0.9999, ..base.clone() }), [1, 2, 0, 3]);
        assert_eq!(ids(Sampling { min_p: 0.2, ..base.clone() }), [1, 2]);
        assert_eq!(ids(Sampling { min_p: 0.01, top_p: 0.85, ..base.clone() }), [1, 2]);
        assert_eq!(ids(Sampling { top_k: 4, ..base }), [1, 2, 0, 3]);
        assert_eq!(top(&logits, 3), [(1, 3.0), (2, 2.0), (0, 1.0)]);
        assert_eq!(top(&[2.0, 2.0, 2.0], 2), [(0, 2.0), (1, 2.0)]);
    }

    #[test]
    fn typical_tokens_are_neither_the_likeliest_nor_the_rarest() {
        // One of a half, and ten that share the rest: their surprise is 3.0, the mean 1.84, that of the first 0.69.
        let kept: Vec<(u32, f64)> = (0..11).map(|i| (i, if i == 0 { 0.5 } else { 0.05 })).collect();
        let ids = |share: f32| typical(&kept, share).iter().map(|c| c.0).collect::<Vec<_>>();
        assert_eq!(ids(0.3), [0]);
        assert_eq!(ids(0.6), (0..11).collect::<Vec<u32>>());
        // One that is nearly certain, beside a hundred: of so little surprise is the mean that the first alone is near it.
        let kept: Vec<(u32, f64)> = (0..101).map(|i| (i, if i == 0 { 0.2 } else { 0.008 })).collect();
        assert_eq!(typical(&kept, 0.5).first().map(|c| c.0), Some(1));
    }

    #[test]
    fn a_share_of_many_like_tokens_is_kept_whole() {
        let logits = vec![0.0f32; 5000];
        let sampling = Sampling { temperature: 1.0, top_p: 0.5, ..Sampling::default() };
        let kept = candidates(&logits, &sampling, &mut Vec::new());
        assert!((2500..=2501).contains(&kept.len()), "{}", kept.len());
    }

    #[test]
    fn what_is_forbidden_is_never_drawn() {
        let mut logits = vec![f32::NEG_INFINITY; 1000];
        logits[613] = 0.5;
        logits[998] = -90.0;
        for temperature in [0.1f32, 1.0, 100.0] {
            let found = counts(&logits, &Sampling { temperature, ..Sampling::default() }, 500);
            assert_eq!(found[613] + found[998], 500.0);
        }
    }
}
