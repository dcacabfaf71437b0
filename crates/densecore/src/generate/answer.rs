//! Prompts to text: the loop that steps a batch and draws from it.

use super::form::Form;
use super::options::GenerateOptions;
use super::prompt::Prompt;
use super::rows::Rows;
use super::sequence::Sequence;
use super::twins;
use super::usage::Usage;
use super::writer::{DrawSpace, Event, Finish, TokenLogprob, Writer};
use crate::error::{Error, Result};
use crate::pool::call::Call;
use crate::vertex::Model;
use std::sync::{Arc, Mutex};
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
    /// Why it failed, if it did; answers beside it go on.
    pub error: Option<Arc<Error>>,
    /// What it cost.
    pub usage: Usage,
}

/// Rows of logits that are in memory at once: one is 0.6 MB for a Qwen vocabulary.
const LOGIT_ROWS: usize = 32;

/// One answer on its way.
struct Answer {
    writer: Writer,
    usage: Usage,
}

impl Answer {
    fn finish(self, sequence: &Sequence) -> Generation {
        let (w, mut usage) = (self.writer, self.usage);
        usage.emitted_tokens = w.ids.len();
        usage.positions = sequence.computed;
        usage.cached_positions += sequence.found;
        usage.waited_seconds = if sequence.is_admitted() { sequence.waited() } else { usage.seconds };
        Generation {
            shortened: w.form.as_ref().map_or(0, Form::shortened),
            text: w.text,
            ids: w.ids,
            finish: w.finish.unwrap_or(Finish::Length),
            logprobs: w.logprobs,
            error: w.error,
            usage,
        }
    }
}

impl Model {
    /// Continues each prompt, `options.n` times. `raw` lets vectors of any space and model in. A sequence that fails for
    /// itself alone has its error in its answer, and the others theirs.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        options: &GenerateOptions,
        raw: bool,
        each: &mut dyn FnMut(&Event),
    ) -> Result<Vec<Generation>> {
        options.check_for(self, prompts.len())?;
        let call = self.enter(prompts.len().saturating_mul(options.n), &options.cancel)?;
        let rows = match self.all_rows(prompts, raw, &options.cancel) {
            // None of them will be read.
            Err(Error::Cancelled) if !options.cancel.is_interrupted() => vec![Rows::default(); prompts.len()],
            other => other?,
        };
        let begin = |(i, rows)| twins::of(self.begin(rows, &options.cache_salt), options.n, i * options.n);
        let sequences = rows.into_iter().enumerate().flat_map(begin).collect();
        self.answer(call, sequences, &Rows::default(), options, each)
    }

    /// Continues sequences, which may hold a context of which `past` is known already.
    pub(crate) fn answer(
        &self,
        mut call: Call<'_>,
        mut sequences: Vec<Sequence>,
        past: &Rows,
        options: &GenerateOptions,
        each: &mut dyn FnMut(&Event),
    ) -> Result<Vec<Generation>> {
        let _span = tracing::info_span!("generate", sequences = sequences.len()).entered();
        let start = Instant::now();
        let compile = || options.form.as_ref().map(|form| self.forms().get(form, &options.cancel)).transpose();
        let (form, ready) = match options.cancel.check().and_then(|()| compile()) {
            // The answers end as they would a moment later.
            Err(Error::Cancelled) if !options.cancel.is_interrupted() => (None, Err(Error::Cancelled)),
            other => (other?, Ok(())),
        };
        let mut answers: Vec<Answer> = Vec::new();
        for (i, s) in sequences.iter_mut().enumerate() {
            let (prompt_tokens, prompt_vectors) = s.rows.counts();
            let prompt = past.token_ids().chain(s.rows.token_ids());
            let writer = options.writer(self, i, form.as_deref(), prompt)?;
            // The last token is written without being read again.
            self.expect(s, options.max_tokens - 1)?;
            let usage = Usage { prompt_tokens, prompt_vectors, cached_positions: s.held(), ..Usage::default() };
            answers.push(Answer { writer, usage });
        }
        match ready.and_then(|()| self.write(&mut call, &mut sequences, &mut answers, start, each)) {
            // What was written until then is kept.
            Err(Error::Cancelled) if !options.cancel.is_interrupted() => {
                for answer in answers.iter_mut().filter(|a| a.writer.finish.is_none()) {
                    each(&answer.writer.end(Finish::Cancelled, Vec::new()));
                    answer.usage.seconds = start.elapsed().as_secs_f64();
                }
            }
            other => other?,
        }
        Ok(answers.into_iter().zip(&sequences).map(|(answer, s)| answer.finish(s)).collect())
    }

    /// Writes until every answer has ended.
    fn write(
        &self,
        call: &mut Call<'_>,
        sequences: &mut [Sequence],
        answers: &mut [Answer],
        start: Instant,
        each: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        let spaces: Vec<_> = (0..self.threads()).map(|_| Mutex::new(DrawSpace::default())).collect();
        while !sequences.iter().all(Sequence::is_over) {
            call.admit(sequences)?;
            let ready: Vec<usize> =
                (0..sequences.len()).filter(|&i| sequences[i].at_work() && sequences[i].pending() == 0).collect();
            for part in ready.chunks(LOGIT_ROWS) {
                let last: Vec<&Sequence> = part.iter().map(|&i| &sequences[i]).collect();
                let logits = self.last_logits(call, &last)?;
                let drawn = self.draw(answers, part, logits, &spaces);
                for (&i, event) in part.iter().zip(drawn) {
                    Self::take(&mut sequences[i], &mut answers[i], event, start, each);
                }
            }
            self.step(call, sequences, usize::MAX, &mut |_, _, _| Ok(()))?;
            for (sequence, answer) in sequences.iter_mut().zip(&mut *answers) {
                if let Some(error) = sequence.failure.take() {
                    each(&answer.writer.fail(error));
                    answer.usage.seconds = start.elapsed().as_secs_f64();
                }
            }
        }
        Ok(())
    }

    /// Draws the next tokens of some answers, `part` in ascending order, from a row of logits each. Every thread has a space
    /// of its own; what is drawn does not depend on who draws it.
    fn draw(
        &self,
        answers: &mut [Answer],
        part: &[usize],
        logits: &[f32],
        spaces: &[Mutex<DrawSpace>],
    ) -> Vec<Result<Event>> {
        let writers = answers.iter_mut().enumerate().filter(|(i, _)| part.binary_search(i).is_ok());
        let rows = logits.chunks_exact(self.config().vocab);
        let jobs: Vec<_> =
            writers.zip(rows).map(|((_, answer), row)| Mutex::new((&mut answer.writer, row, None))).collect();
        self.decoder().pool.run(jobs.len(), &|k| {
            // Each job is one thread's, and there are as many spaces as threads.
            if let Ok(mut job) = jobs[k].lock() {
                let (writer, row, event) = &mut *job;
                let free = spaces.iter().find_map(|space| space.try_lock().ok());
                *event = Some(match free {
                    Some(mut space) => writer.draw(row, &mut space),
                    None => writer.draw(row, &mut DrawSpace::default()),
                });
            }
        });
        let missing = || Err(Error::Internal("an answer was not drawn".into()));
        jobs.into_iter().map(|job| job.into_inner().ok().and_then(|job| job.2).unwrap_or_else(missing)).collect()
    }

    /// Tells what was drawn for one answer, and feeds it to its sequence or ends it.
    fn take(
        sequence: &mut Sequence,
        answer: &mut Answer,
        drawn: Result<Event>,
        start: Instant,
        each: &mut dyn FnMut(&Event),
    ) {
        let (event, failed) = match drawn {
            Ok(event) => (event, false),
            Err(error) => (answer.writer.fail(error), true),
        };
        each(&event);
        if answer.writer.finish.is_some() {
            answer.usage.seconds = start.elapsed().as_secs_f64();
            if !failed {
                sequence.remember();
            }
            sequence.retire();
        } else {
            sequence.feed(Rows::ids(event.ids));
        }
    }
}
