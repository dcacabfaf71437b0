//! One step of a batch: every sequence brings some of its pending rows, all go through the model together.

use super::cancel::Cancel;
use super::prompt::Rows;
use crate::error::Result;
use crate::model::cache::Cache;
use crate::model::workspace::{Work, Workspace};
use crate::vertex::Model;

/// Rows of one step at most: prompts are cut into such chunks, which bounds memory and the wait for a cancel.
pub(crate) const STEP_ROWS: usize = 512;

/// A sequence on its way through the model.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub cache: Cache,
    pub rows: Rows,
    /// Rows of `rows` already in the cache.
    pub done: usize,
    /// Residual state of the last position, after the last layer; empty before the first.
    pub last: Vec<f32>,
}

impl Sequence {
    pub fn new(cache: Cache, rows: Rows) -> Self {
        Self { cache, rows, done: 0, last: Vec::new() }
    }

    pub fn pending(&self) -> usize {
        self.rows.len() - self.done
    }

    /// Replaces the rows by new ones.
    pub fn feed(&mut self, rows: Rows) {
        (self.rows, self.done) = (rows, 0);
    }
}

/// Receives the residual states of sequence `i`'s rows from `first` on: `(i, first, states)`.
pub(crate) type Seen<'a> = dyn FnMut(usize, usize, &[f32]) -> Result<()> + 'a;

impl Model {
    /// Takes up to [`STEP_ROWS`] pending rows, in the order of the sequences, through `layers` layers.
    /// `seen(i, first, states)` gets the residual states of sequence `i`'s rows `first..`. Returns the rows computed.
    pub(crate) fn step(
        &self,
        ws: &mut Workspace,
        sequences: &mut [Sequence],
        layers: usize,
        cancel: &Cancel,
        seen: &mut Seen<'_>,
    ) -> Result<usize> {
        let decoder = self.decoder();
        let width = decoder.config.width;
        let mut left = STEP_ROWS;
        let mut takes = Vec::new();
        for (i, sequence) in sequences.iter().enumerate() {
            let take = sequence.pending().min(left);
            if take > 0 {
                takes.push((i, take));
                left -= take;
            }
        }
        let total = STEP_ROWS - left;
        if total == 0 {
            return Ok(0);
        }
        ws.resize(&decoder.config, total);
        let mut row = 0;
        for &(i, take) in &takes {
            let s = &sequences[i];
            s.rows.fill(&decoder.embedding, width, s.done, &mut ws.x[row * width..(row + take) * width])?;
            row += take;
        }
        let mut chosen = takes.iter().peekable();
        let mut works = Vec::with_capacity(takes.len());
        for (i, s) in sequences.iter_mut().enumerate() {
            if let Some((_, take)) = chosen.next_if(|t| t.0 == i) {
                works.push(Work { cache: &mut s.cache, rows: *take });
            }
        }
        decoder.forward(ws, &mut works, layers, cancel)?;
        drop(works);
        let mut row = 0;
        for &(i, take) in &takes {
            let states = &ws.x[row * width..(row + take) * width];
            let s = &mut sequences[i];
            seen(i, s.done, states)?;
            s.done += take;
            s.last.clear();
            s.last.extend_from_slice(&states[(take - 1) * width..]);
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
        self.with_workspace(|ws| {
            let mut total = 0;
            loop {
                let rows = self.step(ws, sequences, layers, cancel, seen)?;
                if rows == 0 {
                    return Ok(total);
                }
                total += rows;
            }
        })
    }

    /// Logits after each of the sequences' last positions, `(n, vocab)`.
    pub(crate) fn last_logits(&self, sequences: &[&Sequence], logits: &mut Vec<f32>) {
        let x: Vec<f32> = sequences.iter().flat_map(|s| s.last.iter().copied()).collect();
        let head = &self.decoder().head;
        let finals = head.finish(&self.decoder().pool, &x);
        head.logits(&self.decoder().pool, &finals, logits);
    }
}
