//! One step of a batch: sequences bring some of their pending rows, and all go through the model together.

use super::rows::Rows;
use super::salt::Salt;
use super::trail::Trail;
use crate::error::{Error, Result};
use crate::model::cache::Cache;
use crate::model::prefix::{Claims, Key};
use crate::model::room::Promise;
use crate::model::workspace::no_room;
use crate::pool::call::Call;
use crate::vertex::Model;
use densecore_kernels::attention::SPAN;
use densecore_kernels::vector;
use std::time::{Duration, Instant};

/// How long a sequence waits for the next block that another computes.
const PATIENCE: Duration = Duration::from_secs(5);

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
    turn: usize,
    /// Nobody will go on from it: its cache is let go with its last row.
    passing: bool,
    /// Keys of its full blocks, for a sequence that looks for its prefix among those kept.
    keys: Vec<Key>,
    /// Keys of all it reads, if it began with nothing and its blocks may be kept.
    trail: Option<Trail>,
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
    fn claim(&mut self) -> Option<Key> {
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
    fn reach(&self) -> usize {
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

    /// Lets its cache go, and its room: nothing will be computed for it any more.
    pub fn retire(&mut self) {
        self.keys.clear();
        self.claims = None;
        self.cache.truncate(0);
        self.promise = None;
    }

    /// Ends it with an error, unless what was computed for it is sound.
    fn check_numbers(&mut self, states: &[f32]) {
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

/// Receives the residual states of sequence `i`'s rows from `first` on: `(i, first, states)`.
pub(crate) type Seen<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + 'a;

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

    /// Takes some pending rows of the sequences at work through `layers` layers, together with other callers'.
    /// `seen(i, first, states)` gets the residual states of sequence `i`'s rows `first..`. Returns the rows computed.
    pub(crate) fn step(
        &self,
        call: &mut Call<'_>,
        sequences: &mut [Sequence],
        layers: usize,
        seen: &mut Seen<'_>,
    ) -> Result<usize> {
        let mut seen_before = (0, Instant::now());
        let mut order = loop {
            call.cancel().check()?;
            let (mut order, mut awaited) = (Vec::new(), None);
            for (i, s) in sequences.iter_mut().enumerate().filter(|(_, s)| s.at_work() && s.pending() > 0) {
                // Others may have computed, since the last step, what it was about to, or may be at it.
                s.catch_up();
                match s.claim() {
                    Some(key) => awaited = Some(key),
                    None => order.push(i),
                }
            }
            let Some(key) = awaited.filter(|_| order.is_empty()) else { break order };
            // Others may be slow, or never come to it: who sees no block come for a while computes it too.
            let there: usize = sequences.iter().map(|s| s.cache.len()).sum();
            if there != seen_before.0 {
                seen_before = (there, Instant::now());
            } else if seen_before.1.elapsed() > PATIENCE {
                break (0..sequences.len()).filter(|&i| sequences[i].at_work() && sequences[i].pending() > 0).collect();
            }
            call.wait_for_block(&key);
        };
        if order.is_empty() {
            return Ok(0);
        }
        call.sit_down();
        let decoder = self.decoder();
        let width = decoder.config.width;
        let most = self.meeting().share();
        let mut left = most;
        let mut takes = Vec::new();
        // Single rows first: they are answers being written, and should not wait for long prompts. Among equals, who
        // has waited longest.
        order.sort_by_key(|&i| (sequences[i].pending() != 1, sequences[i].turn));
        let now = sequences.iter().map(|s| s.turn).max().unwrap_or(0) + 1;
        for i in order {
            let take = sequences[i].reach().min(left);
            if take > 0 {
                takes.push((i, take));
                left -= take;
                sequences[i].turn = now;
            }
        }
        let total = most - left;
        let mut x = std::mem::take(&mut call.rows);
        x.grow(total * width).map_err(|error| no_room(&decoder.config, total, &error))?;
        let mut caches = Vec::with_capacity(takes.len());
        let mut row = 0;
        for &(i, take) in &takes {
            let s = &mut sequences[i];
            s.reserve(take)?;
            s.rows.fill(&decoder.embedding, width, s.done, &mut x[row * width..(row + take) * width])?;
            row += take;
        }
        for &(i, take) in &takes {
            caches.push((std::mem::replace(&mut sequences[i].cache, self.cache()), take));
        }
        let (caches, x, outcome) = self.meeting().forward(decoder, caches, x, layers, call.cancel());
        for (&(i, _), cache) in takes.iter().zip(caches) {
            sequences[i].cache = cache;
        }
        outcome?;
        let mut row = 0;
        for &(i, take) in &takes {
            let states = &x[row * width..(row + take) * width];
            row += take;
            let s = &mut sequences[i];
            s.computed += take;
            s.check_numbers(states);
            if s.failure.is_some() {
                continue;
            }
            seen(i, s.done, states)?;
            s.done += take;
            if !s.keys.is_empty() {
                s.cache.keep_prefix(&s.keys);
                s.give_up_claims();
            }
            s.last.clear();
            s.last.extend_from_slice(&states[(take - 1) * width..]);
            if s.passing && s.pending() == 0 {
                s.retire();
            }
        }
        call.rows = x;
        Ok(total)
    }

    /// Lets the sequences in and steps until no row is pending.
    pub(crate) fn finish(
        &self,
        call: &mut Call<'_>,
        sequences: &mut [Sequence],
        layers: usize,
        seen: &mut Seen<'_>,
    ) -> Result<usize> {
        let mut total = 0;
        loop {
            call.admit(sequences)?;
            let rows = self.step(call, sequences, layers, seen)?;
            first_failure(sequences)?;
            if rows == 0 && sequences.iter().all(Sequence::is_admitted) {
                return Ok(total);
            }
            total += rows;
        }
    }

    /// Logits after each of the sequences' last positions, `(n, vocab)`.
    pub(crate) fn last_logits<'a>(&self, call: &'a mut Call<'_>, sequences: &[&Sequence]) -> Result<&'a [f32]> {
        let (decoder, len) = (self.decoder(), sequences.len() * self.config().vocab);
        call.logits.grow(len).map_err(|error| no_room(&decoder.config, sequences.len(), &error))?;
        let x: Vec<f32> = sequences.iter().flat_map(|s| s.last.iter().copied()).collect();
        call.logits = self.meeting().logits(decoder, x, std::mem::take(&mut call.logits))?;
        Ok(&call.logits[..len])
    }
}
