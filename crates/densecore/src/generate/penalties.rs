//! What changes logits before a token is drawn: bias, and penalties for what was written before.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// How logits are changed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Penalties {
    /// Divides positive and multiplies negative logits of tokens that the prompt or the answer holds; 1 for none.
    pub repetition_penalty: f32,
    /// Taken off the logits of tokens that the answer holds; 0 for none.
    pub presence_penalty: f32,
    /// Taken off the logits of tokens as often as the answer holds them; 0 for none.
    pub frequency_penalty: f32,
    /// Added to the logits of some tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens before which the answer ends neither by a token nor by a stop string.
    pub min_tokens: usize,
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            min_tokens: 0,
        }
    }
}

/// What an end token's logit becomes where the answer may not end: below every other, and above what a form forbids.
const LAST: f32 = f32::MIN / 4.0;

impl Penalties {
    /// Refuses values outside their ranges, NaN included.
    pub fn check(&self, max_tokens: usize) -> Result<()> {
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty <= 100.0) {
            let remedy = "it must be above 0 and at most 100 (1 for none)";
            return Err(Error::argument("repetition_penalty", self.repetition_penalty, remedy));
        }
        for (name, value) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            if !(-100.0..=100.0).contains(&value) {
                return Err(Error::argument(name, value, "it must be from -100 to 100 (0 for none)"));
            }
        }
        if let Some((id, bias)) = self.logit_bias.iter().find(|(_, bias)| !(-1000.0..=1000.0).contains(bias)) {
            return Err(Error::argument("logit_bias", bias, format!("that of token {id} must be from -1000 to 1000")));
        }
        if self.min_tokens > max_tokens {
            let remedy = format!("it must be at most max_tokens, {max_tokens}");
            return Err(Error::argument("min_tokens", self.min_tokens, remedy));
        }
        Ok(())
    }

    /// Whether the tokens of the prompt matter.
    pub fn looks_back(&self) -> bool {
        self.repetition_penalty != 1.0
    }
}

/// The penalties of one answer as it grows.
#[derive(Debug)]
pub(crate) struct Penalised {
    penalties: Penalties,
    /// Of the prompt and the answer; kept only where repetition counts.
    seen: HashSet<u32>,
    /// How often each token of the answer was written.
    written: HashMap<u32, u32>,
}

impl Penalised {
    /// An answer at its beginning, behind a prompt with these tokens.
    pub fn new(penalties: &Penalties, prompt: impl IntoIterator<Item = u32>) -> Self {
        let seen = if penalties.looks_back() { prompt.into_iter().collect() } else { HashSet::new() };
        Self { penalties: penalties.clone(), seen, written: HashMap::new() }
    }

    /// Counts a token of the answer.
    pub fn wrote(&mut self, id: u32) {
        if self.penalties.looks_back() {
            self.seen.insert(id);
        }
        *self.written.entry(id).or_default() += 1;
    }

    /// Whether the answer may not end yet.
    pub fn holds_on(&self, length: usize) -> bool {
        length < self.penalties.min_tokens
    }

    /// The logits to draw the token behind `length` tokens from; `out` is used if they differ.
    pub fn apply<'a>(&self, logits: &'a [f32], length: usize, ends: &[u32], out: &'a mut Vec<f32>) -> &'a [f32] {
        let p = &self.penalties;
        let counted = p.presence_penalty != 0.0 || p.frequency_penalty != 0.0;
        if !p.looks_back() && !counted && p.logit_bias.is_empty() && !self.holds_on(length) {
            return logits;
        }
        out.clear();
        out.extend_from_slice(logits);
        for &(id, bias) in &p.logit_bias {
            out[id as usize] += bias;
        }
        for &id in &self.seen {
            let logit = &mut out[id as usize];
            *logit = if *logit > 0.0 { *logit / p.repetition_penalty } else { *logit * p.repetition_penalty };
        }
        if counted {
            for (&id, &times) in &self.written {
                out[id as usize] -= p.presence_penalty + p.frequency_penalty * times as f32;
            }
        }
        if self.holds_on(length) {
            for &id in ends {
                out[id as usize] = LAST;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changes_what_it_should() {
        let logits = [2.0f32, -2.0, 1.0, 0.5];
        let none = Penalties::default();
        let apply = |p: &Penalties, wrote: &[u32]| {
            let mut answer = Penalised::new(p, [0, 1]);
            for &id in wrote {
                answer.wrote(id);
            }
            answer.apply(&logits, wrote.len(), &[3], &mut Vec::new()).to_vec()
        };
        assert_eq!(apply(&none, &[2, 2]), logits);
        assert_eq!(apply(&Penalties { repetition_penalty: 2.0, ..none.clone() }, &[2]), [1.0, -4.0, 0.5, 0.5]);
        assert_eq!(apply(&Penalties { presence_penalty: 0.5, ..none.clone() }, &[2, 2]), [2.0, -2.0, 0.5, 0.5]);
        assert_eq!(apply(&Penalties { frequency_penalty: 0.5, ..none.clone() }, &[2, 2]), [2.0, -2.0, 0.0, 0.5]);
        assert_eq!(apply(&Penalties { logit_bias: vec![(1, 5.0)], ..none.clone() }, &[]), [2.0, 3.0, 1.0, 0.5]);
        assert_eq!(apply(&Penalties { min_tokens: 2, ..none.clone() }, &[2])[3], LAST);
        assert_eq!(apply(&Penalties { min_tokens: 2, ..none }, &[2, 2])[3], 0.5);
    }
}
