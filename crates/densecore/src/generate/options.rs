//! How to generate: one list of options for models, contexts and streams, in Rust and (through serde) from outside.

use super::cancel::Cancel;
use super::grammar::Grammar;
use super::sampler::{Sampler, Sampling};
use super::stop::Stops;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::vertex::Model;
use serde::Deserialize;

/// How to generate.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct GenerateOptions {
    /// Tokens at most.
    pub max_tokens: usize,
    /// How tokens are drawn.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Random streams: none for fresh ones, one for all prompts, or one a prompt.
    pub seeds: Vec<u64>,
    /// Texts that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// What every answer must look like.
    pub form: Option<Grammar>,
    /// Report logprobs, with so many alternatives a token.
    pub logprobs: Option<usize>,
    /// Keep going past end tokens (for measurements).
    pub ignore_eos: bool,
    /// Stops the call.
    #[serde(skip)]
    pub cancel: Cancel,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            sampling: Sampling::default(),
            seeds: Vec::new(),
            stop: Vec::new(),
            form: None,
            logprobs: None,
            ignore_eos: false,
            cancel: Cancel::default(),
        }
    }
}

impl GenerateOptions {
    /// Refuses values outside their ranges.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        self.sampling.check()?;
        if self.max_tokens == 0 || self.max_tokens > limits.context {
            return Err(Error::argument(
                "max_tokens",
                self.max_tokens,
                format!("it must be from 1 to {}", limits.context),
            ));
        }
        if self.stop.len() > limits.stops {
            return Err(Error::argument(
                "stop",
                format!("{} strings", self.stop.len()),
                format!("at most {} are allowed", limits.stops),
            ));
        }
        if let Some(s) = self.stop.iter().find(|s| s.is_empty() || s.len() > limits.stop_bytes) {
            return Err(Error::argument(
                "stop",
                format!("a string of {} bytes", s.len()),
                format!("each must have 1 to {} bytes", limits.stop_bytes),
            ));
        }
        if let Some(n) = self.logprobs.filter(|&n| n > limits.top) {
            return Err(Error::argument("logprobs", n, format!("at most {} alternatives are reported", limits.top)));
        }
        Ok(())
    }

    pub(crate) fn writer(&self, model: &Model, index: usize) -> Result<Writer> {
        let seed = self.seeds.get(index.min(self.seeds.len().saturating_sub(1))).copied();
        let mut form = match &self.form {
            Some(grammar) => Some(model.grammars()?.form(grammar, self.max_tokens)?),
            None => None,
        };
        if let (Some(form), true) = (&mut form, self.ignore_eos) {
            form.stay();
        }
        Ok(Writer {
            index,
            sampler: Sampler::new(self.sampling.clone(), seed),
            form,
            stream: Some(model.tokenizer().stream()),
            stops: Stops::new(self.stop.clone()),
            max_tokens: self.max_tokens,
            ends: if self.ignore_eos { Vec::new() } else { model.ends().to_vec() },
            alternatives: self.logprobs,
            text: String::new(),
            ids: Vec::new(),
            logprobs: Vec::new(),
            finish: None,
        })
    }
}
