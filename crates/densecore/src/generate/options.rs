//! How to generate: one list of options for models, contexts and streams, in Rust and (through serde) from outside.

use super::cancel::Cancel;
use super::grammar::{Compiled, Grammar};
use super::penalties::{Penalised, Penalties};
use super::random::Random;
use super::salt::Salt;
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
    /// What changes logits before that.
    #[serde(flatten)]
    pub penalties: Penalties,
    /// Answers to each prompt.
    pub n: usize,
    /// Seeds: none for fresh streams of random numbers, one for all prompts, or one a prompt. Answers that share a seed draw
    /// different streams of it, by their place; the first draws the seed's own.
    pub seeds: Vec<u64>,
    /// Texts that end an answer and are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end an answer beside the model's own.
    pub stop_token_ids: Vec<u32>,
    /// What every answer must look like.
    pub form: Option<Grammar>,
    /// Report logprobs, with so many alternatives a token.
    pub logprobs: Option<usize>,
    /// Keep going past end tokens (for measurements).
    pub ignore_eos: bool,
    /// Who shares the prefixes it finds and keeps.
    pub cache_salt: Salt,
    /// Stops the call.
    #[serde(skip)]
    pub cancel: Cancel,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            sampling: Sampling::default(),
            penalties: Penalties::default(),
            n: 1,
            seeds: Vec::new(),
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            form: None,
            logprobs: None,
            ignore_eos: false,
            cache_salt: Salt::default(),
            cancel: Cancel::default(),
        }
    }
}

impl GenerateOptions {
    /// Refuses values outside their ranges.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        self.sampling.check()?;
        self.cache_salt.check(limits)?;
        if self.max_tokens == 0 || self.max_tokens > limits.context {
            return Err(Error::argument(
                "max_tokens",
                self.max_tokens,
                format!("it must be from 1 to {}", limits.context),
            ));
        }
        self.penalties.check(self.max_tokens)?;
        if self.n == 0 || self.n > limits.batch {
            return Err(Error::argument("n", self.n, format!("it must be from 1 to {}", limits.batch)));
        }
        for (name, given) in
            [("stop_token_ids", self.stop_token_ids.len()), ("logit_bias", self.penalties.logit_bias.len())]
        {
            if given > limits.token_list {
                let remedy = format!("at most {} are allowed", limits.token_list);
                return Err(Error::argument(name, format!("{given} tokens"), remedy));
            }
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

    /// The same, and what depends on the model and on the number of prompts.
    pub(crate) fn check_for(&self, model: &Model, prompts: usize) -> Result<()> {
        self.check(model.limits())?;
        model.check_ids(&self.stop_token_ids)?;
        self.penalties.logit_bias.iter().try_for_each(|(id, _)| model.check_ids(&[*id]))?;
        if self.seeds.len() > 1 && self.seeds.len() != prompts {
            let remedy = format!("give one, or one for each of the {prompts} prompts");
            return Err(Error::argument("seed", format!("{} seeds", self.seeds.len()), remedy));
        }
        Ok(())
    }

    /// The stream of random numbers of answer `index`, counted over all prompts.
    fn random(&self, index: usize) -> Random {
        match self.seeds[..] {
            [] => Random::new(None, 0),
            [seed] => Random::new(Some(seed), index as u64),
            _ => Random::new(Some(self.seeds[index / self.n]), (index % self.n) as u64),
        }
    }

    /// The writer of answer `index`, behind a prompt with these tokens.
    pub(crate) fn writer(
        &self,
        model: &Model,
        index: usize,
        form: Option<&Compiled>,
        prompt: impl IntoIterator<Item = u32>,
    ) -> Result<Writer> {
        let mut form = form.map(|form| form.begin(self.max_tokens)).transpose()?;
        if let (Some(form), true) = (&mut form, self.ignore_eos) {
            form.stay();
        }
        let mut ends = if self.ignore_eos { Vec::new() } else { model.ends().to_vec() };
        ends.extend(&self.stop_token_ids);
        Ok(Writer {
            index,
            sampler: Sampler::new(self.sampling.clone(), self.random(index)),
            penalised: Penalised::new(&self.penalties, prompt),
            form,
            stream: Some(model.tokenizer().stream()),
            stops: Stops::new(self.stop.clone()),
            max_tokens: self.max_tokens,
            ends,
            alternatives: self.logprobs,
            text: String::new(),
            ids: Vec::new(),
            logprobs: Vec::new(),
            finish: None,
            error: None,
        })
    }
}
