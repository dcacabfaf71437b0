//! Prompts to text: the loop that steps a batch and draws from it.

use super::cancel::Cancel;
use super::grammar::{Form, Grammar};
use super::prompt::{Prompt, Rows};
use super::sampler::{Sampler, Sampling};
use super::step::Sequence;
use super::stop::Stops;
use super::usage::Usage;
use super::writer::{Event, Finish, TokenLogprob, Writer};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::pool::call::Call;
use crate::vertex::Model;
use std::time::Instant;

/// How to generate.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tokens at most.
    pub max_tokens: usize,
    /// How tokens are drawn.
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
    pub cancel: Cancel,
}

impl Default for Options {
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

/// An answer.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Its text, without stop strings and end tokens.
    pub text: String,
    /// Its tokens, the ending one included.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Texts of its form that were ended so that what follows has room, where the model would sooner have gone on.
    pub shortened: usize,
    /// Per token, if asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// What it cost.
    pub usage: Usage,
}

impl Options {
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

    fn writer(&self, model: &Model, index: usize) -> Result<Writer> {
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

impl Model {
    /// Continues each prompt. `raw` lets vectors of any space and model in.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        options: &Options,
        raw: bool,
        each: &mut dyn FnMut(&Event),
    ) -> Result<Vec<Generation>> {
        let call = self.enter(prompts.len(), &options.cancel)?;
        let rows = self.all_rows(prompts, raw)?;
        let sequences = rows.into_iter().map(|rows| self.begin(rows)).collect();
        self.answer(call, sequences, options, each)
    }

    /// Continues sequences, which may hold a context already.
    pub(crate) fn answer(
        &self,
        mut call: Call<'_>,
        mut sequences: Vec<Sequence>,
        options: &Options,
        each: &mut dyn FnMut(&Event),
    ) -> Result<Vec<Generation>> {
        let _span = tracing::info_span!("generate", sequences = sequences.len()).entered();
        options.check(self.limits())?;
        if options.seeds.len() > 1 && options.seeds.len() != sequences.len() {
            let remedy = format!("give one, or one for each of the {} prompts", sequences.len());
            return Err(Error::argument("seed", format!("{} seeds", options.seeds.len()), remedy));
        }
        let start = Instant::now();
        let mut usages: Vec<Usage> = Vec::new();
        for s in &mut sequences {
            let (prompt_tokens, prompt_vectors) = s.rows.counts();
            // The last token is written without being read again.
            self.expect(s, options.max_tokens - 1)?;
            usages.push(Usage { prompt_tokens, prompt_vectors, cached_positions: s.held(), ..Usage::default() });
        }
        let mut writers: Vec<Writer> = (0..sequences.len()).map(|i| options.writer(self, i)).collect::<Result<_>>()?;
        // What a sequence has read since its beginning; a context's own past is not known here.
        let mut read: Vec<Option<Rows>> =
            sequences.iter().map(|s| (s.cache.len() == s.done).then(|| s.rows.clone())).collect();
        let mut scratch = Vec::new();
        let vocab = self.config().vocab;
        let mut work = || -> Result<()> {
            while !sequences.iter().all(Sequence::is_over) {
                call.admit(&mut sequences)?;
                let ready: Vec<usize> =
                    (0..sequences.len()).filter(|&i| sequences[i].at_work() && sequences[i].pending() == 0).collect();
                // Some at a time: a row of logits is 0.6 MB for a Qwen vocabulary.
                for part in ready.chunks(32) {
                    let last: Vec<&Sequence> = part.iter().map(|&i| &sequences[i]).collect();
                    let logits = self.last_logits(&mut call, &last)?;
                    for (&i, logits) in part.iter().zip(logits.chunks_exact(vocab)) {
                        let event = writers[i].draw(logits, &mut scratch)?;
                        each(&event);
                        if writers[i].finish.is_some() {
                            usages[i].seconds = start.elapsed().as_secs_f64();
                            if let Some(read) = read[i].take() {
                                self.remember(&sequences[i].cache, &read);
                            }
                            sequences[i].retire();
                        } else {
                            if let Some(read) = &mut read[i] {
                                read.append(&Rows::ids(event.ids.clone()));
                            }
                            sequences[i].feed(Rows::ids(event.ids));
                        }
                    }
                }
                self.step(&mut call, &mut sequences, usize::MAX, &mut |_, _, _| Ok(()))?;
            }
            Ok(())
        };
        match work() {
            // What was written until then is kept.
            Err(Error::Cancelled) if !options.cancel.is_interrupted() => {
                for (writer, usage) in writers.iter_mut().zip(&mut usages).filter(|(w, _)| w.finish.is_none()) {
                    each(&writer.end(Finish::Cancelled, Vec::new()));
                    usage.seconds = start.elapsed().as_secs_f64();
                }
            }
            other => other?,
        }
        Ok(writers
            .into_iter()
            .zip(usages)
            .zip(&sequences)
            .map(|((w, mut usage), s)| {
                usage.emitted_tokens = w.ids.len();
                usage.positions = s.computed;
                usage.cached_positions += s.found;
                usage.waited_seconds = if s.is_admitted() { s.waited() } else { usage.seconds };
                Generation {
                    shortened: w.form.as_ref().map_or(0, Form::shortened),
                    text: w.text,
                    ids: w.ids,
                    finish: w.finish.unwrap_or(Finish::Length),
                    logprobs: w.logprobs,
                    usage,
                }
            })
            .collect())
    }
}
