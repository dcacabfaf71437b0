//! Latent steps: the model's own output goes back in as a vector, and no token is emitted.

use super::rows::Rows;
use super::salt::Salt;
use super::sampler::top;
use super::sequence::Sequence;
use super::usage::Usage;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::hidden::{Hidden, Space};
use crate::pool::call::Call;
use crate::vertex::Model;
use densecore_kernels::vector;
use std::time::Instant;

/// What is fed back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The probability-weighted mixture of the likeliest tokens' embeddings.
    #[default]
    Mixture,
    /// The final hidden state, scaled to the mean length of an embedding.
    State,
    /// The likeliest token's embedding: ordinary decoding, unprinted. The control of the other two.
    Token,
}

/// How to think.
#[derive(Debug, Clone)]
pub struct Thinking {
    /// Steps at most.
    pub steps: usize,
    /// What is fed back.
    pub mode: Mode,
    /// Softens (above 1) or sharpens (below) the mixture.
    pub temperature: f32,
    /// Tokens in the mixture; 0 for the whole vocabulary.
    pub top_k: usize,
    /// Ends when one of these is the likeliest token, beside the model's end tokens.
    pub stop: Vec<u32>,
    /// Do not end at the model's own end tokens.
    pub ignore_eos: bool,
    /// Who shares the prefixes it finds and keeps.
    pub cache_salt: Salt,
}

/// A finished chain of latent steps.
#[derive(Debug)]
pub struct Thought {
    /// What was fed back, `(steps, d)`, vectors of the input space.
    pub vectors: Hidden,
    /// The likeliest token at each step.
    pub ids: Vec<u32>,
    /// Whether a stop token ended it, and which.
    pub stopped: Option<u32>,
    /// The context after the last step, ready to go on.
    pub context: Context,
    /// What it cost.
    pub usage: Usage,
}

impl Thinking {
    fn check(&self, model: &Model) -> Result<()> {
        self.cache_salt.check(model.limits())?;
        if self.steps == 0 || self.steps > model.limits().context {
            return Err(Error::argument(
                "steps",
                self.steps,
                format!("it must be from 1 to {}", model.limits().context),
            ));
        }
        if !(self.temperature > 0.0 && self.temperature <= 100.0) {
            return Err(Error::argument(
                "temperature",
                self.temperature,
                "it must be above 0 and at most 100; mode=\"token\" is the limit at 0",
            ));
        }
        model.check_ids(&self.stop)
    }
}

impl Model {
    /// Takes each context's sequence through up to `steps` latent steps; the contexts given are left as they were.
    pub(crate) fn think_after(
        &self,
        call: Call<'_>,
        mut sequences: Vec<Sequence>,
        thinking: &Thinking,
    ) -> Result<Vec<Thought>> {
        let _span = tracing::info_span!("think", sequences = sequences.len(), steps = thinking.steps).entered();
        thinking.check(self)?;
        // The thoughts bring their contexts.
        let mut call = call.together();
        let start = Instant::now();
        let mut histories: Vec<Rows> = Vec::new();
        let mut usages = Vec::new();
        for s in &mut sequences {
            self.expect(s, thinking.steps)?;
            let (prompt_tokens, prompt_vectors) = s.rows.counts();
            histories.push(s.rows.clone());
            usages.push(Usage { prompt_tokens, prompt_vectors, cached_positions: s.held(), ..Usage::default() });
        }
        self.finish(&mut call, &mut sequences, usize::MAX, &mut |_, _, _| Ok(()))?;
        let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); sequences.len()];
        let mut ids: Vec<Vec<u32>> = vec![Vec::new(); sequences.len()];
        let mut stopped: Vec<Option<u32>> = vec![None; sequences.len()];
        for _ in 0..thinking.steps {
            let active: Vec<usize> = (0..sequences.len()).filter(|&i| stopped[i].is_none()).collect();
            for part in active.chunks(32) {
                let last: Vec<&Sequence> = part.iter().map(|&i| &sequences[i]).collect();
                let logits = self.last_logits(&mut call, &last)?;
                for (&i, logits) in part.iter().zip(logits.chunks_exact(self.config().vocab)) {
                    let id = vector::argmax(logits) as u32;
                    if thinking.stop.contains(&id) || (!thinking.ignore_eos && self.ends().contains(&id)) {
                        stopped[i] = Some(id);
                        continue;
                    }
                    let next = self.next_vector(thinking, logits, id, &sequences[i].last)?;
                    vectors[i].extend_from_slice(&next);
                    ids[i].push(id);
                    sequences[i].feed(Rows::vectors(next, self.config().width));
                }
            }
            if self.finish(&mut call, &mut sequences, usize::MAX, &mut |_, _, _| Ok(()))? == 0 {
                break;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let mut thoughts = Vec::new();
        for (((((s, vectors), ids), stopped), mut usage), prompt) in
            sequences.into_iter().zip(vectors).zip(ids).zip(stopped).zip(usages).zip(histories)
        {
            let mut history = prompt;
            // A copy: the thought's vectors are the caller's to write.
            history.append(&Rows::vectors(vectors.clone(), self.config().width));
            let vectors = self.hidden(vectors, Space::Input);
            usage.latent_steps = vectors.rows();
            usage.positions = s.computed;
            usage.cached_positions += s.found;
            usage.seconds = seconds;
            usage.waited_seconds = s.waited();
            thoughts.push(Thought {
                context: Context::new(self.clone(), s.cache, s.last, history, thinking.cache_salt.clone()),
                vectors,
                ids,
                stopped,
                usage,
            });
        }
        Ok(thoughts)
    }

    /// The vector that goes back in.
    fn next_vector(&self, thinking: &Thinking, logits: &[f32], id: u32, last: &[f32]) -> Result<Vec<f32>> {
        let decoder = self.decoder();
        let mut out = vec![0.0; decoder.config.width];
        match thinking.mode {
            Mode::Token => decoder.embedding.rows(&[id], &mut out)?,
            Mode::State => {
                out = decoder.head.finish(&decoder.pool, last);
                let norm = vector::norm(&out);
                let scale = decoder.embedding.mean_norm(&decoder.pool)? / norm.max(f32::MIN_POSITIVE);
                for v in &mut out {
                    *v *= scale;
                }
            }
            Mode::Mixture => {
                let k = if thinking.top_k == 0 { logits.len() } else { thinking.top_k };
                let best = top(logits, k);
                let largest = best.first().map_or(0.0, |b| b.1);
                let weights: Vec<f64> =
                    best.iter().map(|b| (f64::from(b.1 - largest) / f64::from(thinking.temperature)).exp()).collect();
                let total: f64 = weights.iter().sum();
                let mut row = vec![0.0; out.len()];
                for (&(id, _), weight) in best.iter().zip(&weights) {
                    // Weights below float32's smallest share add nothing.
                    let share = (weight / total) as f32;
                    if share > 0.0 {
                        decoder.embedding.rows(&[id], &mut row)?;
                        vector::add_scaled(&mut out, share, &row);
                    }
                }
            }
        }
        Ok(out)
    }
}
