//! A sequence on its way through the model: what it has read, what it is about to, and the room it has for that.

use super::rows::Rows;
use super::salt::Salt;
use super::trail::Trail;
use crate::error::{Error, Result};
use crate::model::cache::Cache;
use crate::model::prefix::{Claims, Key};
use crate::model::room::Promise;
use crate::vertex::Model;
use densecore_kernels::attention::SPAN;
use densecore_kernels::vector;
use std::time::Duration;

/// A sequence on its way through the model.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub cache: Cache,
    pub rows: Rows,
    /// Rows of `rows` already in the cache.
    pub done: usize,
    /// Positions it may come to hold.
    most: usize,
    /// The step it last took part in.
    pub turn: usize,
    /// Nobody will go on from it: its cache is let go with its last row.
    passing: bool,
    /// Keys of its full blocks, for a sequence that looks for its prefix among those kept.
    keys: Vec<Key>,
    /// Keys of all it reads, if it began with nothing and its blocks may be kept.
    trail: Option<Trail>,
    /// The sequence of its call that reads the same prompt for it.
    pub follows: Option<usize>,
    /// Blocks of those keys that it computes and others may wait for.
    claims: Option<Claims>,
    /// Positions found instead of computed.
    pub found: usize,
    /// Positions computed.
    pub computed: usize,
    /// Residual state of the last position, after the last layer; empty before the first.
    pub last: Vec<f32>,
    /// What went wrong with it alone; nothing more is computed for it.
    pub failure: Option<Error>,
    /// Was let in, and how long after the call began.
    admitted: Option<Duration>,
    /// Room for what it will still compute. Declared after the cache: it ends when the blocks are gone.
    promise: Option<Promise>,
}

impl Sequence {
    pub fn new(cache: Cache, rows: Rows) -> Self {
        Self::after(cache, rows, Vec::new())
    }

    /// A sequence that goes on from a cache whose last state is `last`.
    pub fn after(cache: Cache, rows: Rows, last: Vec<f32>) -> Self {
        Self {
            most: cache.len() + rows.len(),
            cache,
            rows,
            done: 0,
            turn: 0,
            passing: false,
            keys: Vec::new(),
            trail: None,
            follows: None,
            claims: None,
            found: 0,
            computed: 0,
            last,
            failure: None,
            admitted: None,
            promise: None,
        }
    }

    /// A sequence whose states alone are wanted.
    pub fn passing(cache: Cache, rows: Rows) -> Self {
        Self { passing: true, ..Self::new(cache, rows) }
    }

    /// Another of the same prompt, which the one at place `follows` in their call reads for it.
    pub fn twin(&self, follows: Option<usize>) -> Self {
        Self {
            keys: self.keys.clone(),
            trail: self.trail.clone(),
            follows,
            ..Self::after(self.cache.clone(), self.rows.clone(), self.last.clone())
        }
    }

    /// Allows for `more` positions behind its rows.
    pub fn expect(&mut self, more: usize) {
        self.most += more;
    }

    /// Blocks it may still come to need.
    pub fn missing(&self) -> usize {
        self.cache.missing(self.most)
    }

    /// Lets it in, with all the room it may come to need.
    pub fn admit(&mut self, promise: Promise, waited: Duration) {
        (self.promise, self.admitted) = (Some(promise), Some(waited));
    }

    /// Lets go of the prefix it found, which might be in the way of those that are let in first.
    pub fn stay_outside(&mut self) {
        if self.found > 0 {
            self.cache.truncate(0);
            (self.done, self.found) = (0, 0);
        }
    }

    /// Whether it was let in.
    pub fn is_admitted(&self) -> bool {
        self.admitted.is_some()
    }

    /// Whether it was let in and is not over.
    pub fn at_work(&self) -> bool {
        self.promise.is_some()
    }

    /// Whether nothing will be computed for it any more.
    pub fn is_over(&self) -> bool {
        self.is_admitted() && !self.at_work()
    }

    /// Time it spent outside (seconds).
    pub fn waited(&self) -> f64 {
        self.admitted.map_or(0.0, |waited| waited.as_secs_f64())
    }

    /// Goes on from a longer prefix than its own, if one is kept by now.
    pub fn catch_up(&mut self) {
        if self.cache.len() < self.keys.len() * SPAN && self.cache.find_prefix(&self.keys) {
            self.found += self.cache.len() - self.done;
            self.done = self.cache.len();
            let missing = self.missing();
            if let Some(promise) = &mut self.promise {
                promise.lower(missing);
            }
            self.give_up_claims();
        }
    }

    /// Claims the blocks it is about to compute. Returns the key of the first of them if another computes that one.
    pub fn claim(&mut self) -> Option<Key> {
        let next = self.cache.len() / SPAN;
        if next >= self.keys.len() || self.claims.as_ref().is_some_and(|c| next < c.end()) {
            return None;
        }
        self.claims = Claims::make(self.cache.geometry(), &self.keys, next);
        if self.claims.is_none() { Some(self.keys[next]) } else { None }
    }

    /// Gives up the claims of blocks that are there by now.
    fn give_up_claims(&mut self) {
        let there = self.cache.len() / SPAN;
        if let Some(claims) = &mut self.claims {
            claims.give_up_to(there);
        }
        self.claims.take_if(|claims| claims.end() <= there);
    }

    /// Rows it may take into a step: pending ones, up to a block that another computes.
    pub fn reach(&self) -> usize {
        match &self.claims {
            Some(claims) if claims.end() < self.keys.len() => {
                self.pending().min(claims.end() * SPAN - self.cache.len())
            }
            _ => self.pending(),
        }
    }

    /// Makes `extra` more positions writable.
    pub fn reserve(&mut self, extra: usize) -> Result<()> {
        let outside = || Error::Internal("a sequence was computed before it was let in".into());
        self.cache.reserve(extra, self.promise.as_mut().ok_or_else(outside)?)
    }

    /// Keeps the full blocks it has computed, for prompts that begin alike.
    pub fn remember(&self) {
        if let Some(trail) = &self.trail {
            self.cache.keep_prefix(trail.keys());
        }
    }

    /// Whether it has rows to compute of its own.
    pub fn reads(&self) -> bool {
        self.at_work() && self.pending() > 0 && self.follows.is_none()
    }

    /// Counts `rows` as read, the last of which left the state `last`, and keeps the blocks that are full by now.
    pub fn read(&mut self, rows: usize, last: &[f32]) {
        self.done += rows;
        if !self.keys.is_empty() {
            self.cache.keep_prefix(&self.keys);
            self.give_up_claims();
        }
        self.last.clear();
        self.last.extend_from_slice(last);
        if self.passing && self.pending() == 0 {
            self.retire();
        }
    }

    /// Takes over what another has read of the same rows, all of them, in blocks of which it may write the last.
    pub fn take_over(&mut self, other: &Self) -> Result<()> {
        self.cache = other.cache.clone();
        self.last.clone_from(&other.last);
        self.found += self.pending();
        self.done = self.rows.len();
        let missing = self.missing();
        if let Some(promise) = &mut self.promise {
            promise.lower(missing);
        }
        // The other was promised no copy of the block that both would write to.
        if missing > 0 && !self.cache.len().is_multiple_of(SPAN) { self.reserve(1) } else { Ok(()) }
    }

    /// Lets its cache go, and its room: nothing will be computed for it any more.
    pub fn retire(&mut self) {
        self.keys.clear();
        self.claims = None;
        self.cache.truncate(0);
        self.promise = None;
    }

    /// Ends it with an error, unless what was computed for it is sound.
    pub fn check_numbers(&mut self, states: &[f32]) {
        let held = self.cache.len();
        let detail = if let Some((layer, position)) = self.cache.damage() {
            format!("a key or value of position {position} in layer {layer} is NaN or beyond what its storage holds")
        } else if !vector::is_finite(states) {
            let at = states.iter().position(|v| !v.is_finite()).unwrap_or(0);
            format!("a state of the {held} positions read is {}", states[at])
        } else {
            return;
        };
        self.failure = Some(Error::Numeric(detail));
        self.retire();
    }

    /// Positions of a context it goes on from.
    pub fn held(&self) -> usize {
        self.cache.len() - self.done
    }

    pub fn pending(&self) -> usize {
        self.rows.len() - self.done
    }

    /// Replaces the rows by new ones.
    pub fn feed(&mut self, rows: Rows) {
        if let Some(trail) = &mut self.trail {
            trail.push(&rows);
        }
        (self.rows, self.done) = (rows, 0);
        self.keys.clear();
        self.claims = None;
    }
}

/// The error of the first sequence that went wrong, with its place.
pub(crate) fn first_failure(sequences: &mut [Sequence]) -> Result<()> {
    let many = sequences.len() > 1;
    match sequences.iter_mut().enumerate().find_map(|(i, s)| Some((i, s.failure.take()?))) {
        Some((i, Error::Numeric(detail))) if many => Err(Error::Numeric(format!("number {i} of the list: {detail}"))),
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

impl Model {
    /// A sequence for a fresh prompt, which will begin with what calls of its salt know of it. At least one row stays to be
    /// computed, for its state.
    pub(crate) fn begin(&self, rows: Rows, salt: &Salt) -> Sequence {
        let mut sequence = Sequence::new(self.cache(), rows);
        if self.keeps_prefixes() {
            let trail = Trail::new(&sequence.rows, salt);
            let searched = sequence.rows.len().saturating_sub(1) / SPAN;
            sequence.keys = trail.keys()[..searched].to_vec();
            sequence.trail = Some(trail);
        }
        sequence
    }
}
