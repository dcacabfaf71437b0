//! One step of a batch: sequences bring some of their pending rows, and all go through the model together.

use super::cancel::Cancel;
use super::prompt::Rows;
use crate::error::Result;
use crate::model::cache::Cache;
use crate::model::prefix::Key;
use crate::vertex::Model;
use densecore_kernels::attention::SPAN;

/// A sequence on its way through the model.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub cache: Cache,
    pub rows: Rows,
    /// Rows of `rows` already in the cache.
    pub done: usize,
    /// The step it last took part in.
    turn: usize,
    /// Nobody will go on from it: its cache is let go with its last row.
    passing: bool,
    /// Keys of its full blocks, for a sequence that looks for its prefix among those kept.
    keys: Vec<Key>,
    /// Positions found instead of computed.
    pub found: usize,
    /// Positions computed.
    pub computed: usize,
    /// Residual state of the last position, after the last layer; empty before the first.
    pub last: Vec<f32>,
}

impl Sequence {
    pub fn new(cache: Cache, rows: Rows) -> Self {
        Self::after(cache, rows, Vec::new())
    }

    /// A sequence that goes on from a cache whose last state is `last`.
    pub fn after(cache: Cache, rows: Rows, last: Vec<f32>) -> Self {
        Self { cache, rows, done: 0, turn: 0, passing: false, keys: Vec::new(), found: 0, computed: 0, last }
    }

    /// A sequence whose states alone are wanted.
    pub fn passing(cache: Cache, rows: Rows) -> Self {
        Self { passing: true, ..Self::new(cache, rows) }
    }

    /// Goes on from a longer prefix than its own, if one is kept by now.
    fn catch_up(&mut self) {
        if self.cache.len() < self.keys.len() * SPAN && self.cache.find_prefix(&self.keys) {
            self.found += self.cache.len() - self.done;
            self.done = self.cache.len();
        }
    }

    /// Lets its cache go: nothing will be computed for it any more.
    pub fn retire(&mut self, empty: Cache) {
        self.cache = empty;
        self.keys.clear();
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
        (self.rows, self.done) = (rows, 0);
        self.keys.clear();
    }
}

/// Receives the residual states of sequence `i`'s rows from `first` on: `(i, first, states)`.
pub(crate) type Seen<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + 'a;

impl Model {
    /// A sequence for a fresh prompt, beginning with what is already known of it. At least one row stays to be
    /// computed, for its state.
    pub(crate) fn begin(&self, rows: Rows) -> Sequence {
        let mut sequence = Sequence::new(self.cache(), rows);
        if self.keeps_prefixes() {
            sequence.keys = sequence.rows.keys(sequence.rows.len().saturating_sub(1));
            sequence.catch_up();
        }
        sequence
    }

    /// Keeps what a finished sequence read, all of it in `rows`, for prompts that begin alike.
    pub(crate) fn remember(&self, cache: &Cache, rows: &Rows) {
        if self.keeps_prefixes() {
            cache.keep_prefix(&rows.keys(cache.len().min(rows.len())));
        }
    }

    /// Takes some pending rows through `layers` layers, together with other callers'.
    /// `seen(i, first, states)` gets the residual states of sequence `i`'s rows `first..`. Returns the rows computed.
    pub(crate) fn step(
        &self,
        sequences: &mut [Sequence],
        layers: usize,
        cancel: &Cancel,
        seen: &mut Seen<'_>,
    ) -> Result<usize> {
        cancel.check()?;
        // Others may have computed, since the last step, what a sequence was about to.
        sequences.iter_mut().for_each(Sequence::catch_up);
        let decoder = self.decoder();
        let width = decoder.config.width;
        let most = self.meeting().share();
        let mut left = most;
        let mut takes = Vec::new();
        // Single rows first: they are answers being written, and should not wait for long prompts. Among equals, who
        // has waited longest.
        let mut order: Vec<usize> = (0..sequences.len()).filter(|&i| sequences[i].pending() > 0).collect();
        order.sort_by_key(|&i| (sequences[i].pending() != 1, sequences[i].turn));
        let now = sequences.iter().map(|s| s.turn).max().unwrap_or(0) + 1;
        for i in order {
            let take = sequences[i].pending().min(left);
            if take > 0 {
                takes.push((i, take));
                left -= take;
                sequences[i].turn = now;
            }
        }
        let total = most - left;
        if total == 0 {
            return Ok(0);
        }
        let mut x = vec![0.0; total * width];
        let mut caches = Vec::with_capacity(takes.len());
        let mut row = 0;
        for &(i, take) in &takes {
            let s = &sequences[i];
            s.rows.fill(&decoder.embedding, width, s.done, &mut x[row * width..(row + take) * width])?;
            row += take;
        }
        for &(i, take) in &takes {
            caches.push((std::mem::replace(&mut sequences[i].cache, self.cache()), take));
        }
        let (caches, x, outcome) = self.meeting().forward(decoder, caches, x, layers, cancel);
        for (&(i, _), cache) in takes.iter().zip(caches) {
            sequences[i].cache = cache;
        }
        outcome?;
        let mut row = 0;
        for &(i, take) in &takes {
            let states = &x[row * width..(row + take) * width];
            let s = &mut sequences[i];
            seen(i, s.done, states)?;
            s.done += take;
            s.computed += take;
            if !s.keys.is_empty() {
                s.cache.keep_prefix(&s.keys);
            }
            s.last.clear();
            s.last.extend_from_slice(&states[(take - 1) * width..]);
            if s.passing && s.pending() == 0 {
                s.retire(self.cache());
            }
            row += take;
        }
        Ok(total)
    }

    /// Steps until no row is pending.
    pub(crate) fn finish(
        &self,
        sequences: &mut [Sequence],
        layers: usize,
        cancel: &Cancel,
        seen: &mut Seen<'_>,
    ) -> Result<usize> {
        let mut total = 0;
        loop {
            let rows = self.step(sequences, layers, cancel, seen)?;
            if rows == 0 {
                return Ok(total);
            }
            total += rows;
        }
    }

    /// Logits after each of the sequences' last positions, `(n, vocab)`.
    pub(crate) fn last_logits(&self, sequences: &[&Sequence]) -> Vec<f32> {
        let x: Vec<f32> = sequences.iter().flat_map(|s| s.last.iter().copied()).collect();
        self.meeting().logits(self.decoder(), x)
    }
}
