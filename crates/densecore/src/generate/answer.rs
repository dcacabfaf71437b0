//! Prompts to text: the loop that steps a batch and draws from it.

use super::grammar::Form;
use super::options::GenerateOptions;
use super::prompt::{Prompt, Rows};
use super::step::Sequence;
use super::usage::Usage;
use super::writer::{Event, Finish, TokenLogprob, Writer};
use crate::error::{Error, Result};
use crate::pool::call::Call;
use crate::vertex::Model;
use std::time::Instant;

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

impl Model {
    /// Continues each prompt. `raw` lets vectors of any space and model in.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        options: &GenerateOptions,
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
        options: &GenerateOptions,
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
