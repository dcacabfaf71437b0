//! What callers bring to a round: rows for the layers, or final rows for the head.

use super::combine::Combiner;
use crate::error::{Error, Result};
use crate::generate::Cancel;
use crate::model::cache::Cache;
use crate::model::decoder::Decoder;
use crate::model::workspace::{Work, Workspace, no_room};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{ThreadId, current};

/// Rows of one round at most: bounds memory, and the wait for a cancel.
pub(crate) const ROUND_ROWS: usize = 512;
/// Rows a caller brings while others are at work, so that a long prompt does not hold up everybody's next token.
pub(crate) const SHARED_ROWS: usize = 128;

/// Some sequences' rows on their way through the layers.
struct Rows {
    caches: Vec<(Cache, usize)>,
    /// `(N, d)`: embeddings before, states after.
    x: Vec<f32>,
    layers: usize,
    cancel: Cancel,
    owner: ThreadId,
    outcome: Result<()>,
}

/// Residual states `(N, d)`, and their logits after.
struct Finals {
    x: Vec<f32>,
    logits: Vec<f32>,
}

/// Where the callers of one model meet.
#[derive(Default)]
pub(crate) struct Meeting {
    rows: Combiner<Rows>,
    finals: Combiner<Finals>,
    callers: AtomicUsize,
    workspace: Mutex<Workspace>,
}

/// A caller at work; counted until dropped.
pub(crate) struct Caller<'a>(&'a AtomicUsize);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meeting {
    /// Counts a caller for as long as the result lives.
    pub fn enter(&self) -> Caller<'_> {
        self.callers.fetch_add(1, Ordering::Relaxed);
        Caller(&self.callers)
    }

    /// Rows a caller should bring at most.
    pub fn share(&self) -> usize {
        if self.callers.load(Ordering::Relaxed) > 1 { SHARED_ROWS } else { ROUND_ROWS }
    }

    /// Takes rows through `layers` layers, together with whoever else is here. Needs `Cache::reserve` for every cache.
    /// The caches come back grown, or as they
    /// were if the call fails.
    pub fn forward(
        &self,
        decoder: &Decoder,
        caches: Vec<(Cache, usize)>,
        x: Vec<f32>,
        layers: usize,
        cancel: &Cancel,
    ) -> (Vec<Cache>, Vec<f32>, Result<()>) {
        let unfinished = Err(Error::Internal("a step was abandoned by the caller that led it".into()));
        let item = Rows { caches, x, layers, cancel: cancel.clone(), owner: current().id(), outcome: unfinished };
        let choose = |waiting: &[&Rows]| {
            let (mut rows, layers) = (0, waiting[0].layers);
            waiting
                .iter()
                .take_while(|w| {
                    rows += w.caches.iter().map(|c| c.1).sum::<usize>();
                    w.layers == layers && rows <= ROUND_ROWS
                })
                .count()
        };
        let expected = self.callers.load(Ordering::Relaxed);
        let item = self.rows.run(item, expected, &choose, &|round| self.round(decoder, round));
        (item.caches.into_iter().map(|c| c.0).collect(), item.x, item.outcome)
    }

    fn round(&self, decoder: &Decoder, round: &mut [Rows]) {
        let width = decoder.config.width;
        for item in round.iter_mut() {
            item.outcome = item.cancel.quiet().check();
        }
        let mut going: Vec<&mut Rows> = round.iter_mut().filter(|item| item.outcome.is_ok()).collect();
        let total: usize = going.iter().flat_map(|item| &item.caches).map(|c| c.1).sum();
        let Some(first) = going.first() else { return };
        let layers = first.layers;
        // Alone, a caller's cancel acts between layers; together, between steps, for it must not stop the others.
        let cancel = match going[..] {
            [ref only] if only.owner == current().id() => only.cancel.clone(),
            [ref only] => only.cancel.quiet(),
            _ => Cancel::default(),
        };
        let ws = &mut *self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = ws.resize(&decoder.config, total) {
            for item in going {
                item.outcome = Err(no_room(&decoder.config, total, &error));
            }
            return;
        }
        let mut at = 0;
        for item in &going {
            ws.x[at..at + item.x.len()].copy_from_slice(&item.x);
            at += item.x.len();
        }
        debug_assert_eq!(at, total * width);
        let mut works: Vec<Work<'_>> = going
            .iter_mut()
            .flat_map(|item| item.caches.iter_mut())
            .map(|(cache, rows)| Work { cache, rows: *rows })
            .collect();
        let outcome = decoder.forward(ws, &mut works, layers, &cancel, &mut |_, _, _| {});
        drop(works);
        let mut at = 0;
        for item in going {
            let len = item.x.len();
            item.x.copy_from_slice(&ws.x[at..at + len]);
            at += len;
            item.outcome = match &outcome {
                Ok(()) => Ok(()),
                Err(Error::Cancelled) => Err(Error::Cancelled),
                Err(error) => Err(Error::Internal(error.to_string())),
            };
        }
    }

    /// Logits of residual states `(N, d)`, together with whoever else is here.
    pub fn logits(&self, decoder: &Decoder, x: Vec<f32>) -> Vec<f32> {
        let width = decoder.config.width;
        let most = |waiting: &[&Finals]| {
            let mut rows = 0;
            waiting
                .iter()
                .take_while(|w| {
                    rows += w.x.len() / width;
                    rows <= 64
                })
                .count()
        };
        let work = |round: &mut [Finals]| {
            let x: Vec<f32> = round.iter().flat_map(|item| item.x.iter().copied()).collect();
            let finals = decoder.head.finish(&decoder.pool, &x);
            let mut logits = Vec::new();
            decoder.head.logits(&decoder.pool, &finals, &mut logits);
            let vocab = decoder.config.vocab;
            if let [only] = round {
                only.logits = logits;
                return;
            }
            let mut at = 0;
            for item in round {
                let len = item.x.len() / width * vocab;
                item.logits = logits[at..at + len].to_vec();
                at += len;
            }
        };
        let expected = self.callers.load(Ordering::Relaxed);
        self.finals.run(Finals { x, logits: Vec::new() }, expected, &most, &work).logits
    }
}
