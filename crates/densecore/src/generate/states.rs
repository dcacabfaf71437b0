//! Prompts to hidden states, and states to what they would say.

use super::cancel::Cancel;
use super::prompt::Prompt;
use super::rows::{INPUT, Rows, require_copies};
use super::sampler::top;
use super::sequence::Sequence;
use crate::error::{Error, Result};
use crate::hardware;
use crate::hidden::{Hidden, Space};
use crate::pool::call::Call;
use crate::vertex::Model;
use densecore_kernels::vector;

/// Which states [`Model::encode`] returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tap {
    /// Layers passed; all by default.
    pub layer: Option<usize>,
    /// Apply the final norm; by default only after the last layer.
    pub normed: Option<bool>,
    /// One vector a prompt instead of one a position.
    pub pool: Pooling,
}

impl Tap {
    /// Layers passed, and whether the final norm is applied, for a model.
    pub(crate) fn resolve(&self, model: &Model) -> Result<(usize, bool)> {
        let all = model.config().layers;
        let layer = self.layer.unwrap_or(all);
        if layer > all {
            return Err(Error::argument(
                "layer",
                layer,
                format!("it must be from 0 (input of the first layer) to {all} (after the last)"),
            ));
        }
        Ok((layer, self.normed.unwrap_or(layer == all)))
    }
}

/// How positions become one vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Every position.
    #[default]
    None,
    /// Their mean.
    Mean,
    /// The last one.
    Last,
}

/// What each position's final state would say next.
#[derive(Debug, Clone)]
pub struct Readout {
    /// Tokens, `(T, k)`, likeliest first.
    pub ids: Vec<u32>,
    /// Their probabilities, `(T, k)`.
    pub probabilities: Vec<f32>,
    /// Alternatives a position, k.
    pub k: usize,
}

/// Positions whose logits are in memory at once.
const LOGIT_ROWS: usize = 16;

/// Positions of several prompts.
fn count(rows: &[Rows]) -> usize {
    rows.iter().fold(0, |sum, each| sum.saturating_add(each.len()))
}

/// Bytes of so many rows of `width` numbers.
fn float_bytes(rows: usize, width: usize) -> u64 {
    (rows as u64).saturating_mul(width as u64).saturating_mul(4)
}

impl Model {
    /// Token embeddings of a prompt's text and ids: vectors of the input space.
    pub fn embed(&self, prompts: &[Prompt], cancel: &Cancel) -> Result<Vec<Hidden>> {
        self.check_call(prompts.len())?;
        let width = self.config().width;
        let rows = self.all_rows(prompts, false, cancel)?;
        self.require_vectors("the array of embeddings", count(&rows), "embed fewer or shorter prompts at once")?;
        rows.iter()
            .map(|rows| {
                let mut out = vec![0.0; rows.len() * width];
                rows.fill(&self.decoder().embedding, width, 0, &mut out)?;
                Ok(self.hidden(out, Space::Input))
            })
            .collect()
    }

    /// Hidden states of each prompt. Layers above the tapped one are not computed.
    pub fn encode(&self, prompts: &[Prompt], tap: Tap, raw: bool, cancel: &Cancel) -> Result<Vec<Hidden>> {
        let call = self.enter(prompts.len(), cancel)?;
        let (layer, normed) = tap.resolve(self)?;
        let rows = self.all_rows(prompts, raw, cancel)?;
        self.states(call, rows, layer, normed, tap.pool)
    }

    /// Input vectors to final states.
    pub fn forward(&self, inputs: &[Hidden], raw: bool, cancel: &Cancel) -> Result<Vec<Hidden>> {
        let call = self.enter(inputs.len(), cancel)?;
        require_copies(inputs.iter())?;
        let rows = inputs
            .iter()
            .map(|h| {
                let data = h.read(self.config().width, self.fingerprint(), &INPUT, raw)?;
                if h.rows() == 0 {
                    return Err(Error::Prompt("it holds no vectors; give at least one".into()));
                }
                Ok(Rows::vectors(data, h.width()))
            })
            .collect::<Result<Vec<_>>>()?;
        self.states(call, rows, self.config().layers, true, Pooling::None)
    }

    fn states(
        &self,
        mut call: Call<'_>,
        rows: Vec<Rows>,
        layer: usize,
        normed: bool,
        pooling: Pooling,
    ) -> Result<Vec<Hidden>> {
        let _span = tracing::info_span!("encode", prompts = rows.len(), layer).entered();
        let width = self.config().width;
        rows.iter().try_for_each(|r| self.check_room(0, r.len(), 0))?;
        let kept = if pooling == Pooling::None { count(&rows) } else { rows.len() };
        let remedy = "give fewer or shorter prompts at once, or keep one vector of each with pool=\"mean\" or \"last\"";
        self.require_vectors("the array of hidden states", kept, remedy)?;
        let mut out: Vec<Vec<f32>> =
            rows.iter().map(|r| vec![0.0; if pooling == Pooling::None { r.len() * width } else { width }]).collect();
        let lengths: Vec<usize> = rows.iter().map(Rows::len).collect();
        let head = &self.decoder().head;
        let mut take = |i: usize, first: usize, states: &[f32]| {
            let finals;
            let states = if normed {
                finals = head.finish(&self.decoder().pool, states);
                &finals
            } else {
                states
            };
            match pooling {
                Pooling::None => out[i][first * width..][..states.len()].copy_from_slice(states),
                Pooling::Last => {
                    if let Some(row) = states.chunks_exact(width).last() {
                        out[i].copy_from_slice(row);
                    }
                }
                Pooling::Mean => {
                    let share = 1.0 / lengths[i] as f32;
                    states.chunks_exact(width).for_each(|row| vector::add_scaled(&mut out[i], share, row));
                }
            }
            Ok(())
        };
        let mut sequences: Vec<Sequence> = rows.into_iter().map(|r| Sequence::passing(self.cache(), r)).collect();
        self.finish(&mut call, &mut sequences, layer, &mut take)?;
        let space = Space::Layer { layer, normed };
        Ok(out.into_iter().map(|data| self.hidden(data, space)).collect())
    }

    /// Refuses vectors that the memory free now cannot hold, before the first of them is computed.
    fn require_vectors(&self, what: &str, rows: usize, remedy: &str) -> Result<()> {
        hardware::require(what, float_bytes(rows, self.config().width), remedy)
    }

    /// Logits after every position, `(T, vocab)` for each prompt.
    pub fn logits(&self, prompts: &[Prompt], raw: bool, cancel: &Cancel) -> Result<Vec<Vec<f32>>> {
        let mut call = self.enter(prompts.len(), cancel)?;
        let rows = self.all_rows(prompts, raw, cancel)?;
        rows.iter().try_for_each(|r| self.check_room(0, r.len(), 0))?;
        let (width, vocab) = (self.config().width, self.config().vocab);
        let remedy = "score() keeps one number a token; or give shorter prompts";
        hardware::require("the array of logits", float_bytes(count(&rows), vocab), remedy)?;
        let mut out: Vec<Vec<f32>> = rows.iter().map(|r| Vec::with_capacity(r.len() * vocab)).collect();
        let mut sequences: Vec<Sequence> = rows.into_iter().map(|r| Sequence::passing(self.cache(), r)).collect();
        let (decoder, mut logits) = (self.decoder(), Vec::new());
        self.finish(&mut call, &mut sequences, usize::MAX, &mut |i, _, states| {
            for part in states.chunks(LOGIT_ROWS * width) {
                let finals = decoder.head.finish(&decoder.pool, part);
                decoder.head.logits(&decoder.pool, &finals, &mut logits);
                out[i].extend_from_slice(&logits);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// The `k` likeliest next tokens of each final state.
    pub fn readout(&self, states: &Hidden, k: usize, raw: bool) -> Result<Readout> {
        self.check_call(1)?;
        let space = Space::Layer { layer: self.config().layers, normed: true };
        require_copies(std::iter::once(states))?;
        let x = states.read(self.config().width, self.fingerprint(), &[space], raw)?;
        if k == 0 || k > self.limits().top {
            return Err(Error::argument("top_k", k, format!("it must be from 1 to {}", self.limits().top)));
        }
        let k = k.min(self.config().vocab);
        let (decoder, width) = (self.decoder(), self.config().width);
        let mut out = Readout { ids: Vec::new(), probabilities: Vec::new(), k };
        let (mut logits, mut scratch) = (Vec::new(), Vec::new());
        for part in x.chunks(LOGIT_ROWS * width) {
            decoder.head.logits(&decoder.pool, part, &mut logits);
            for row in logits.chunks_exact(self.config().vocab) {
                let total = vector::log_sum_exp(row, &mut scratch);
                for (id, l) in top(row, k) {
                    out.ids.push(id);
                    out.probabilities.push((l - total).exp());
                }
            }
        }
        Ok(out)
    }
}
