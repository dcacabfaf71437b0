//! How likely a given continuation is.

use super::cancel::Cancel;
use super::prompt::Prompt;
use super::rows::Rows;
use super::salt::Salt;
use super::sampler::top;
use super::sequence::{Sequence, first_failure};
use super::usage::Usage;
use super::writer::TokenLogprob;
use crate::error::{Error, Result};
use crate::pool::call::Call;
use crate::vertex::Model;
use densecore_kernels::vector;
use std::time::Instant;

/// Teacher-forced log-probabilities of a target.
#[derive(Debug, Clone)]
pub struct Score {
    /// One entry a target token.
    pub tokens: Vec<TokenLogprob>,
    /// What it cost.
    pub usage: Usage,
}

impl Model {
    /// Scores each target after its prompt.
    pub fn score(
        &self,
        pairs: &[(Prompt, Vec<u32>)],
        alternatives: usize,
        salt: &Salt,
        raw: bool,
        cancel: &Cancel,
    ) -> Result<Vec<Score>> {
        salt.check(self.limits())?;
        let call = self.enter(pairs.len(), cancel)?;
        let mut sequences = Vec::new();
        for (prompt, target) in pairs {
            sequences.push((self.begin(self.rows(prompt, raw, cancel)?, salt), target.clone()));
        }
        self.score_after(call, sequences, alternatives)
    }

    /// Scores targets after sequences that may hold a context already.
    pub(crate) fn score_after(
        &self,
        mut call: Call<'_>,
        pairs: Vec<(Sequence, Vec<u32>)>,
        alternatives: usize,
    ) -> Result<Vec<Score>> {
        let _span = tracing::info_span!("score", sequences = pairs.len()).entered();
        if alternatives > self.limits().top {
            return Err(Error::argument(
                "top",
                alternatives,
                format!("at most {} alternatives are reported", self.limits().top),
            ));
        }
        let start = Instant::now();
        let (decoder, width, vocab) = (self.decoder(), self.config().width, self.config().vocab);
        let mut scores: Vec<Score> = Vec::new();
        let mut sequences: Vec<Sequence> = Vec::new();
        let mut targets = Vec::new();
        for (mut s, target) in pairs {
            if target.is_empty() {
                return Err(Error::argument("target", "no tokens", "give at least one token to score"));
            }
            self.check_ids(&target)?;
            self.expect(&mut s, target.len() - 1)?;
            let (prompt_tokens, prompt_vectors) = s.rows.counts();
            scores.push(Score {
                tokens: Vec::new(),
                usage: Usage { prompt_tokens, prompt_vectors, cached_positions: s.held(), ..Usage::default() },
            });
            targets.push(target);
            sequences.push(s);
        }
        let (mut logits, mut scratch) = (Vec::new(), Vec::new());
        // A state at the position before a target token predicts that token.
        let mut judge = |score: &mut Score, target: &[u32], states: &[f32]| {
            for part in states.chunks(16 * width) {
                let finals = decoder.head.finish(&decoder.pool, part);
                decoder.head.logits(&decoder.pool, &finals, &mut logits);
                for row in logits.chunks_exact(vocab) {
                    let Some(&id) = target.get(score.tokens.len()) else { return };
                    let total = vector::log_sum_exp(row, &mut scratch);
                    score.tokens.push(TokenLogprob {
                        id,
                        logprob: row[id as usize] - total,
                        top: top(row, alternatives).into_iter().map(|(id, l)| (id, l - total)).collect(),
                    });
                }
            }
        };
        let mut reads_target = vec![false; sequences.len()];
        while !sequences.iter().all(Sequence::is_over) {
            call.admit(&mut sequences)?;
            for (i, s) in sequences.iter_mut().enumerate().filter(|(_, s)| s.at_work() && s.pending() == 0) {
                if !reads_target[i] {
                    reads_target[i] = true;
                    judge(&mut scores[i], &targets[i], &s.last);
                    s.feed(Rows::ids(targets[i][..targets[i].len() - 1].to_vec()));
                }
                if s.pending() == 0 {
                    scores[i].usage.seconds = start.elapsed().as_secs_f64();
                    s.retire();
                }
            }
            self.step(&mut call, &mut sequences, usize::MAX, &mut |i, _, states| {
                if reads_target[i] {
                    judge(&mut scores[i], &targets[i], states);
                }
                Ok(())
            })?;
            first_failure(&mut sequences)?;
        }
        for (score, s) in scores.iter_mut().zip(&sequences) {
            score.usage.positions = s.computed;
            score.usage.cached_positions += s.found;
            score.usage.waited_seconds = s.waited();
        }
        Ok(scores)
    }
}
