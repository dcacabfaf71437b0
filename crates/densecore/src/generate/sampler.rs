//! Logits to one token.

use crate::error::{Error, Result};
use densecore_kernels::vector;
use serde::Deserialize;
use std::hash::{BuildHasher, Hasher, RandomState};

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
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
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
        Ok(())
    }
}

/// A stream of random numbers (SplitMix64): small, seedable, the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed; without one, a fresh stream each time.
    pub fn new(seed: Option<u64>) -> Self {
        Self(seed.unwrap_or_else(|| RandomState::new().build_hasher().finish()))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
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
    pub fn new(sampling: Sampling, seed: Option<u64>) -> Self {
        Self { sampling, random: Random::new(seed) }
    }

    /// The next token.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        if self.sampling.temperature <= 0.0 {
            return vector::argmax(logits) as u32;
        }
        let kept = candidates(logits, &self.sampling);
        let total: f64 = kept.iter().map(|c| c.1).sum();
        let mut left = self.random.uniform() * total;
        for &(id, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return id;
            }
        }
        kept.last().map_or(0, |c| c.0)
    }
}

/// The tokens that may be drawn and their weights, most likely first.
fn candidates(logits: &[f32], sampling: &Sampling) -> Vec<(u32, f64)> {
    let largest = vector::max(logits);
    // Tokens e^-40 times as likely as the first one cannot be drawn with 53 random bits.
    let floor = largest - 40.0 * sampling.temperature;
    let mut kept: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .filter(|&(_, &l)| l >= floor)
        .map(|(id, &l)| (id as u32, (f64::from(l - largest) / f64::from(sampling.temperature)).exp()))
        .collect();
    let likelier = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if sampling.top_k > 0 && sampling.top_k < kept.len() {
        kept.select_nth_unstable_by(sampling.top_k - 1, likelier);
        kept.truncate(sampling.top_k);
    }
    kept.sort_unstable_by(likelier);
    if sampling.min_p > 0.0 {
        let least = kept.first().map_or(0.0, |c| c.1) * f64::from(sampling.min_p);
        kept.truncate(kept.partition_point(|c| c.1 >= least).max(1));
    }
    if sampling.top_p < 1.0 {
        let enough = kept.iter().map(|c| c.1).sum::<f64>() * f64::from(sampling.top_p);
        let mut reached = 0.0;
        let n = kept.iter().position(|c| {
            reached += c.1;
            reached >= enough
        });
        kept.truncate(n.map_or(kept.len(), |n| n + 1));
    }
    kept
}

/// The `n` largest logits with their places, largest first; ties by place.
pub fn top(logits: &[f32], n: usize) -> Vec<(u32, f32)> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(2 * n);
    let mut floor = f32::NEG_INFINITY;
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    for (id, &l) in logits.iter().enumerate() {
        if l > floor || best.len() < n {
            best.push((id as u32, l));
            if best.len() == 2 * n {
                best.select_nth_unstable_by(n - 1, order);
                best.truncate(n);
                floor = best.iter().map(|b| b.1).fold(f32::INFINITY, f32::min);
            }
        }
    }
    best.sort_unstable_by(order);
    best.truncate(n);
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_follow_the_probabilities() {
        let logits = [0.0f32, 1.0, 2.0, -50.0];
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        let mut sampler = Sampler::new(sampling, Some(3));
        let mut counts = [0u32; 4];
        for _ in 0..60_000 {
            counts[sampler.next(&logits) as usize] += 1;
        }
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        for (count, &l) in counts.iter().zip(&logits) {
            assert!((f64::from(*count) / 60_000.0 - f64::from(l).exp() / total).abs() < 0.01);
        }
    }

    #[test]
    fn filters_keep_what_they_should() {
        let logits = [1.0f32, 3.0, 2.0, 0.0];
        let ids = |s: Sampling| candidates(&logits, &s).iter().map(|c| c.0).collect::<Vec<_>>();
        let base = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(ids(Sampling { top_k: 2, ..base.clone() }), [1, 2]);
        assert_eq!(ids(Sampling { top_p: 0.5, ..base.clone() }), [1]);
        assert_eq!(ids(Sampling { min_p: 0.2, ..base.clone() }), [1, 2]);
        assert_eq!(ids(base), [1, 2, 0, 3]);
        assert_eq!(top(&logits, 3), [(1, 3.0), (2, 2.0), (0, 1.0)]);
        assert_eq!(top(&[2.0, 2.0, 2.0], 2), [(0, 2.0), (1, 2.0)]);
    }
}
