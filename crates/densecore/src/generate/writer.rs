//! One sequence's answer as it grows: tokens to text, stops, logprobs.

use super::form::Form;
use super::penalties::Penalised;
use super::sampler::{Sampler, top};
use super::stop::Stops;
use crate::error::{Error, Result};
use crate::text::TokenStream;
use densecore_kernels::vector;
use std::sync::Arc;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// An end token or a stop string.
    Stop,
    /// The token limit; of a form, also where it was closed in time, or could have gone on.
    Length,
    /// The caller cancelled; what was written so far is kept.
    Cancelled,
    /// It could not go on, and its error says why; what was written so far is kept.
    Failed,
}

impl Finish {
    /// The name callers see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Failed => "error",
        }
    }
}

/// Probability of one written token, and of the likeliest alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability, before temperature and filters.
    pub logprob: f32,
    /// Likeliest tokens and theirs, best first.
    pub top: Vec<(u32, f32)>,
}

/// A piece of an answer, as it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Which prompt of the call it belongs to.
    pub index: usize,
    /// New text; whole characters only. May be empty while a character or stop string is incomplete.
    pub text: String,
    /// New tokens.
    pub ids: Vec<u32>,
    /// Set in the last event of a prompt.
    pub finish: Option<Finish>,
    /// Of the new tokens, if asked for.
    pub logprobs: Vec<TokenLogprob>,
}

pub(crate) struct Writer {
    pub index: usize,
    pub sampler: Sampler,
    pub penalised: Penalised,
    /// What the answer must look like.
    pub form: Option<Form>,
    pub stream: Option<TokenStream>,
    pub stops: Stops,
    pub max_tokens: usize,
    /// Ends the answer and is not part of its text.
    pub ends: Vec<u32>,
    pub alternatives: Option<usize>,
    pub text: String,
    pub ids: Vec<u32>,
    pub logprobs: Vec<TokenLogprob>,
    pub finish: Option<Finish>,
    /// Why it failed.
    pub error: Option<Arc<Error>>,
}

/// Working memory of draws, kept from one to the next.
#[derive(Default)]
pub(crate) struct DrawSpace {
    /// Logits changed by penalties.
    changed: Vec<f32>,
    /// Logits that a form allows.
    pub allowed: Vec<f32>,
    /// Weights of tokens.
    pub weights: Vec<f32>,
}

impl Writer {
    /// Draws the next token from `logits`, and takes those that a form forces behind it; the event tells what became of
    /// them. Forced tokens have a log-probability of 0.
    pub fn draw(&mut self, logits: &[f32], space: &mut DrawSpace) -> Result<Event> {
        if !vector::is_finite(logits) {
            let at = logits.iter().position(|l| !l.is_finite()).unwrap_or(0);
            return Err(Error::Numeric(format!("the logit of token {at} is {}", logits[at])));
        }
        let before = self.logprobs.len();
        let mut event = self.write(logits, space)?;
        event.logprobs = self.logprobs[before..].to_vec();
        Ok(event)
    }

    fn write(&mut self, logits: &[f32], space: &mut DrawSpace) -> Result<Event> {
        let left = self.max_tokens - self.ids.len();
        let mut changed = std::mem::take(&mut space.changed);
        let from = self.penalised.apply(logits, self.ids.len(), &self.ends, &mut changed);
        let found = match &mut self.form {
            Some(form) => form.draw(from, &mut self.sampler, left, space),
            None => Ok((vec![self.sampler.next(from, &mut space.weights)], 1)),
        };
        space.changed = changed;
        let (mut ids, drawn) = found?;
        ids.truncate(left);
        if let (Some(n), 1..) = (self.alternatives, drawn) {
            let total = vector::log_sum_exp(logits, &mut space.weights);
            self.logprobs.push(TokenLogprob {
                id: ids[0],
                logprob: logits[ids[0] as usize] - total,
                top: top(logits, n).into_iter().map(|(id, l)| (id, l - total)).collect(),
            });
        }
        let mut event = self.event(String::new(), Vec::new());
        for (i, id) in ids.into_iter().enumerate() {
            if i >= drawn && self.alternatives.is_some() {
                self.logprobs.push(TokenLogprob { id, logprob: 0.0, top: Vec::new() });
            }
            let next = self.push(id);
            event.text.push_str(&next.text);
            event.ids.extend(next.ids);
            event.finish = next.finish;
            if event.finish.is_some() {
                return Ok(event);
            }
        }
        if self.form.as_ref().is_some_and(Form::is_over) {
            let last = self.end(Finish::Stop, Vec::new());
            event.text.push_str(&last.text);
            event.finish = last.finish;
        }
        Ok(event)
    }

    /// Writes one token.
    fn push(&mut self, id: u32) -> Event {
        let holds_on = self.penalised.holds_on(self.ids.len());
        self.ids.push(id);
        self.penalised.wrote(id);
        if self.ends.contains(&id) {
            return self.end(Finish::Stop, vec![id]);
        }
        let piece = self.stream.as_mut().map_or_else(String::new, |s| s.push(id));
        let (text, stopped) = if holds_on { (self.stops.pass(&piece), false) } else { self.stops.push(&piece) };
        self.text.push_str(&text);
        if stopped {
            self.finish = Some(Finish::Stop);
            self.stream = None;
        } else if self.ids.len() >= self.max_tokens {
            // A form behind which nothing can follow is at its end; one that may end here might have gone on.
            let over = self.form.as_ref().is_some_and(Form::is_over);
            let mut event = self.end(if over { Finish::Stop } else { Finish::Length }, vec![id]);
            event.text.insert_str(0, &text);
            return event;
        }
        self.event(text, vec![id])
    }

    /// Ends the answer with an error.
    pub fn fail(&mut self, error: Error) -> Event {
        self.error = Some(Arc::new(error));
        self.end(Finish::Failed, Vec::new())
    }

    /// Ends the answer, releasing text that was held back.
    pub fn end(&mut self, finish: Finish, ids: Vec<u32>) -> Event {
        let rest = self.stream.take().map_or_else(String::new, TokenStream::finish);
        let (mut text, stopped) = self.stops.push(&rest);
        if !stopped {
            text.push_str(&self.stops.finish());
        }
        self.text.push_str(&text);
        let cut = finish == Finish::Stop && self.form.as_ref().is_some_and(Form::was_cut);
        let finish = if cut { Finish::Length } else { finish };
        self.finish = Some(if stopped { Finish::Stop } else { finish });
        self.event(text, ids)
    }

    fn event(&self, text: String, ids: Vec<u32>) -> Event {
        Event { index: self.index, text, ids, finish: self.finish, logprobs: Vec::new() }
    }
}
