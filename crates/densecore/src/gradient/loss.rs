//! How unlikely targets are after vectors, and the gradient of that by the vectors.

use super::GradOptions;
use super::tape::{Begun, Keep, Tape};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::generate::rows::{INPUT, Rows, require_copies};
use crate::generate::sequence::Sequence;
use crate::generate::{Cancel, Prompt, Salt, Usage};
use crate::hidden::Hidden;
use crate::model::products::through;
use crate::vertex::Model;
use densecore_kernels::{KvGradients, Panels, gradient};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Positions whose logits are in memory at once.
const LOGIT_ROWS: usize = 64;

/// What comes before the vectors; constant, so it has no gradient of its own unless asked for.
#[derive(Debug, Clone, Default)]
pub enum Prefix {
    /// The vectors come first.
    #[default]
    Nothing,
    /// Text, ids or vectors, read once and kept like any prompt without a salt; a context has that of its prefill.
    Prompt(Prompt),
    /// What was read before.
    Context(Context),
}

/// One sequence: the model sees prefix, vectors and targets, in this order.
#[derive(Debug, Clone)]
pub struct LossItem {
    /// Before the vectors.
    pub prefix: Prefix,
    /// Vectors of the input space, `(T, d)`.
    pub vectors: Hidden,
    /// Tokens the model should say after the vectors.
    pub targets: Vec<u32>,
    /// What each of them counts; their mean by default.
    pub weights: Option<Vec<f32>>,
}

/// What came of one sequence.
#[derive(Debug, Clone)]
pub struct Loss {
    /// The weighted sum of the targets' negative log-probabilities.
    pub loss: f64,
    /// The log-probability of each target.
    pub logprobs: Vec<f32>,
    /// Gradient by the vectors, `(T, d)`; empty if none was wanted.
    pub grad: Vec<f32>,
    /// Gradients by keys and values of the prefix, a layer each, if they were wanted.
    pub kv: Vec<KvGradients>,
    /// What it cost.
    pub usage: Usage,
}

impl Model {
    /// The loss of each sequence and, if `grad`, its gradient by the vectors.
    pub fn loss_and_grad(
        &self,
        items: &[LossItem],
        grad: bool,
        options: GradOptions,
        cancel: &Cancel,
    ) -> Result<Vec<Loss>> {
        let _span = tracing::info_span!("loss_and_grad", sequences = items.len(), grad).entered();
        let start = Instant::now();
        let call = self.enter(items.len(), cancel)?.together();
        require_copies(items.iter().map(|item| &item.vectors))?;
        let (mut begun, mut losses, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for item in items {
            weights.push(self.check_targets(item)?);
            let mut live = self.live_rows(&item.vectors, options.raw)?;
            live.append(&Rows::ids(item.targets[..item.targets.len() - 1].to_vec()));
            let sequence = self.after_prefix(&item.prefix, options.raw, cancel)?;
            let (prompt_tokens, prompt_vectors) = sequence.rows.counts();
            let usage = Usage {
                prompt_tokens,
                prompt_vectors: prompt_vectors + item.vectors.rows(),
                cached_positions: sequence.held(),
                positions: live.len(),
                ..Usage::default()
            };
            losses.push(Loss { loss: 0.0, logprobs: Vec::new(), grad: Vec::new(), kv: Vec::new(), usage });
            begun.push(Begun { sequence, live });
        }
        let keep = if grad { Keep::UpTo(options.memory) } else { Keep::Nothing };
        let tape = Tape::record(self, call, begun, self.config().layers, keep)?;
        let mut d = vec![0.0; if grad { tape.out.len() } else { 0 }];
        self.judge(&tape, items, &weights, &mut losses, &mut d, cancel)?;
        if grad {
            let prefixes = tape.back(&mut d, options.kv, cancel)?;
            let width = self.config().width;
            for (((loss, kv), item), live) in losses.iter_mut().zip(prefixes).zip(items).zip(&tape.lives) {
                loss.grad = d[live.row * width..(live.row + item.vectors.rows()) * width].to_vec();
                loss.kv = kv;
            }
        }
        for (loss, live) in losses.iter_mut().zip(&tape.lives) {
            loss.usage.positions += live.computed;
            loss.usage.cached_positions += live.found;
            loss.usage.waited_seconds = live.waited;
            loss.usage.seconds = start.elapsed().as_secs_f64();
        }
        Ok(losses)
    }

    /// Refuses targets that mean nothing; the weight of each.
    fn check_targets(&self, item: &LossItem) -> Result<Vec<f32>> {
        let count = item.targets.len();
        if count == 0 {
            return Err(Error::argument("targets", "no tokens", "give at least one token to predict"));
        }
        self.check_ids(&item.targets)?;
        let Some(weights) = &item.weights else { return Ok(vec![1.0 / count as f32; count]) };
        if weights.len() != count {
            let remedy = format!("give one for each of the {count} target tokens");
            return Err(Error::argument("weights", format!("{} numbers", weights.len()), remedy));
        }
        if let Some(bad) = weights.iter().find(|w| !w.is_finite()) {
            return Err(Error::argument("weights", bad, "every weight must be finite"));
        }
        Ok(weights.clone())
    }

    /// Vectors as rows that will have gradients.
    pub(super) fn live_rows(&self, vectors: &Hidden, raw: bool) -> Result<Rows> {
        let data = vectors.read(self.config().width, self.fingerprint(), &INPUT, raw)?;
        if vectors.rows() == 0 {
            return Err(Error::argument("vectors", "none", "give at least one vector"));
        }
        Ok(Rows::vectors(data, vectors.width()))
    }

    /// A sequence that will have read the prefix.
    pub(super) fn after_prefix(&self, prefix: &Prefix, raw: bool, cancel: &Cancel) -> Result<Sequence> {
        match prefix {
            Prefix::Nothing => Ok(Sequence::new(self.cache(), Rows::default())),
            Prefix::Prompt(prompt) => Ok(self.begin(self.rows(prompt, raw, cancel)?, &Salt::default())),
            Prefix::Context(context) if Arc::ptr_eq(context.model().geometry(), self.geometry()) => {
                Ok(Sequence::new(context.cache().clone(), Rows::default()))
            }
            Prefix::Context(context) => Err(Error::argument(
                "prefix",
                format!("a context of another model ({})", context.model().config().name),
                "give one that this model prefilled",
            )),
        }
    }

    /// Losses from the states before each target; with room in `d`, their gradient by all states.
    fn judge(
        &self,
        tape: &Tape,
        items: &[LossItem],
        weights: &[Vec<f32>],
        losses: &mut [Loss],
        d: &mut [f32],
        cancel: &Cancel,
    ) -> Result<()> {
        let (decoder, width, vocab) = (self.decoder(), self.config().width, self.config().vocab);
        let (head, pool) = (&decoder.head, &*decoder.pool);
        // (sequence, target, row of the state that predicts it)
        let mut places = Vec::new();
        for (i, (item, live)) in items.iter().zip(&tape.lives).enumerate() {
            places.extend((0..item.targets.len()).map(|t| (i, t, live.row + item.vectors.rows() - 1 + t)));
        }
        let (mut logits, mut panels) = (Vec::new(), Panels::default());
        for places in places.chunks(LOGIT_ROWS) {
            cancel.check()?;
            let rows: Vec<&[f32]> = places.iter().map(|p| &tape.out[p.2 * width..(p.2 + 1) * width]).collect();
            let x = rows.concat();
            let finals = head.finish(pool, &x);
            head.precise_logits(pool, &finals, &mut logits);
            let parts: Vec<_> = logits.chunks_exact_mut(vocab).map(|row| Mutex::new((row, 0.0))).collect();
            pool.run(parts.len(), &|r| {
                let (i, t, _) = places[r];
                let (row, nll) = &mut *parts[r].lock().unwrap_or_else(PoisonError::into_inner);
                *nll = gradient::cross_entropy(row, items[i].targets[t] as usize, weights[i][t]);
            });
            for (&(i, t, _), part) in places.iter().zip(parts) {
                let nll = part.into_inner().unwrap_or_else(PoisonError::into_inner).1;
                losses[i].loss += f64::from(weights[i][t]) * nll;
                losses[i].logprobs.push(-nll as f32);
            }
            if d.is_empty() {
                continue;
            }
            let mut d_finals = vec![0.0; x.len()];
            through(pool, &mut panels, places.len(), &[(&head.output, &logits)], &mut d_finals)?;
            let mut d_x = vec![0.0; x.len()];
            head.norm.rows_back(pool, &x, &d_finals, &mut d_x);
            for (&(_, _, row), from) in places.iter().zip(d_x.chunks_exact(width)) {
                d[row * width..(row + 1) * width].copy_from_slice(from);
            }
        }
        Ok(())
    }
}
