//! One step of a batch: sequences bring some of their pending rows, and all go through the model together.

use super::sequence::{Sequence, first_failure};
use super::twins;
use crate::error::Result;
use crate::model::workspace::no_room;
use crate::pool::call::Call;
use crate::vertex::Model;
use std::time::{Duration, Instant};

/// How long a sequence waits for the next block that another computes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Receives the residual states of sequence `i`'s rows from `first` on: `(i, first, states)`.
pub(crate) type Seen<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + 'a;

impl Model {
    /// Takes some pending rows of the sequences at work through `layers` layers, together with other callers'.
    /// `seen(i, first, states)` gets the residual states of sequence `i`'s rows `first..`. Returns the rows computed.
    pub(crate) fn step(
        &self,
        call: &mut Call<'_>,
        sequences: &mut [Sequence],
        layers: usize,
        seen: &mut Seen<'_>,
    ) -> Result<usize> {
        twins::leave_the_failed(sequences);
        let mut seen_before = (0, Instant::now());
        let mut order = loop {
            call.cancel().check()?;
            let (mut order, mut awaited) = (Vec::new(), None);
            for (i, s) in sequences.iter_mut().enumerate().filter(|(_, s)| s.reads()) {
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
                break (0..sequences.len()).filter(|&i| sequences[i].reads()).collect();
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
            s.read(take, &states[(take - 1) * width..]);
            if s.pending() == 0 {
                twins::hand_on(sequences, i)?;
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
