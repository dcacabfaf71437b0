//! What callers bring to a round: rows for the layers, or final rows for the head.

use super::combine::Combiner;
use crate::error::{Error, Result};
use crate::generate::Cancel;
use crate::model::cache::Cache;
use crate::model::decoder::Decoder;
use crate::model::workspace::{Work, Workspace, no_room};
use densecore_kernels::Floats;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{ThreadId, current};

/// Rows of one round at most: bounds memory, and the wait for a cancel.
pub(crate) const ROUND_ROWS: usize = 512;
/// Rows a caller brings while others are at work, so that a long prompt does not hold up everybody's next token.
pub(crate) const SHARED_ROWS: usize = 128;
/// Rows of one round of the head at most.
const HEAD_ROWS: usize = 64;
/// Rounds of others that may panic before a caller gives up.
const TRIES: usize = 3;

/// Some sequences' rows on their way through the layers.
struct Rows {
    caches: Vec<(Cache, usize)>,
    /// `(N, d)`: embeddings before, states after.
    x: Floats,
    layers: usize,
    cancel: Cancel,
    owner: ThreadId,
    /// None until a round has come to its end with it.
    outcome: Option<Result<()>>,
}

impl Rows {
    fn count(&self) -> usize {
        self.caches.iter().map(|c| c.1).sum()
    }
}

/// Residual states `(N, d)`, and the caller's memory for their logits `(N, vocab)`.
struct Finals {
    x: Vec<f32>,
    logits: Floats,
    /// None until a round has come to its end with it.
    outcome: Option<Result<()>>,
}

/// Memory of one pass through the head, kept between steps.
#[derive(Default)]
struct HeadSpace {
    x: Vec<f32>,
    logits: Floats,
}

/// Where the callers of one model meet.
#[derive(Default)]
pub(crate) struct Meeting {
    rows: Combiner<Rows>,
    finals: Combiner<Finals>,
    callers: AtomicUsize,
    workspace: Mutex<Workspace>,
    head: Mutex<HeadSpace>,
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
        x: Floats,
        layers: usize,
        cancel: &Cancel,
    ) -> (Vec<Cache>, Floats, Result<()>) {
        let mut item = Rows { caches, x, layers, cancel: cancel.clone(), owner: current().id(), outcome: None };
        let choose = |waiting: &[&Rows]| {
            let (mut rows, layers) = (0, waiting[0].layers);
            waiting
                .iter()
                .take_while(|w| {
                    rows += w.count();
                    w.layers == layers && rows <= ROUND_ROWS
                })
                .count()
        };
        // A round whose leader panicked left its items as they were: they go into another.
        for _ in 0..TRIES {
            let expected = self.callers.load(Ordering::Relaxed);
            item = self.rows.run(item, expected, &choose, &|round| self.round(decoder, round));
            if item.outcome.is_some() {
                break;
            }
        }
        let outcome = item.outcome.unwrap_or_else(|| Err(abandoned()));
        (item.caches.into_iter().map(|c| c.0).collect(), item.x, outcome)
    }

    fn round(&self, decoder: &Decoder, round: &mut [Rows]) {
        let width = decoder.config.width;
        let mut going: Vec<&mut Rows> = Vec::new();
        for item in round {
            match item.cancel.quiet().check() {
                Ok(()) => going.push(item),
                Err(error) => item.outcome = Some(Err(error)),
            }
        }
        let total: usize = going.iter().map(|item| item.count()).sum();
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
                item.outcome = Some(Err(no_room(&decoder.config, total, &error)));
            }
            return;
        }
        let mut at = 0;
        for item in &going {
            let len = item.count() * width;
            ws.x[at..at + len].copy_from_slice(&item.x[..len]);
            at += len;
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
            let len = item.count() * width;
            item.x[..len].copy_from_slice(&ws.x[at..at + len]);
            at += len;
            item.outcome = Some(match &outcome {
                Ok(()) => Ok(()),
                Err(Error::Cancelled) => Err(Error::Cancelled),
                Err(error) => Err(Error::Internal(error.to_string())),
            });
        }
    }

    /// Logits `(N, vocab)` of residual states `(N, d)`, together with whoever else is here. They are written to memory
    /// that the caller brings, step after step: a row of a Qwen vocabulary is 0.6 MB.
    pub fn logits(&self, decoder: &Decoder, x: Vec<f32>, logits: Floats) -> Result<Floats> {
        let width = decoder.config.width;
        let most = |waiting: &[&Finals]| {
            let mut rows = 0;
            waiting
                .iter()
                .take_while(|w| {
                    rows += w.x.len() / width;
                    rows <= HEAD_ROWS
                })
                .count()
        };
        let mut item = Finals { x, logits, outcome: None };
        for _ in 0..TRIES {
            let expected = self.callers.load(Ordering::Relaxed);
            item = self.finals.run(item, expected, &most, &|round| self.head_round(decoder, round));
            if item.outcome.is_some() {
                break;
            }
        }
        item.outcome.unwrap_or_else(|| Err(abandoned())).map(|()| item.logits)
    }

    fn head_round(&self, decoder: &Decoder, round: &mut [Finals]) {
        let (width, vocab) = (decoder.config.width, decoder.config.vocab);
        let space = &mut *self.head.lock().unwrap_or_else(PoisonError::into_inner);
        space.x.clear();
        for item in round.iter() {
            space.x.extend_from_slice(&item.x);
        }
        let finals = decoder.head.finish(&decoder.pool, &space.x);
        if let [only] = round {
            decoder.head.project(&decoder.pool, &finals, &[], &mut only.logits);
            only.outcome = Some(Ok(()));
            return;
        }
        let rows = finals.len() / width;
        if let Err(error) = space.logits.grow(rows * vocab) {
            for item in round {
                item.outcome = Some(Err(no_room(&decoder.config, rows, &error)));
            }
            return;
        }
        decoder.head.project(&decoder.pool, &finals, &[], &mut space.logits);
        let mut rest = &space.logits[..];
        for item in round {
            let own;
            (own, rest) = rest.split_at(item.x.len() / width * vocab);
            item.logits[..own.len()].copy_from_slice(own);
            item.outcome = Some(Ok(()));
        }
    }
}

/// What a caller hears whose work was taken again and again by others that did not come to their end.
fn abandoned() -> Error {
    Error::Internal("a step was abandoned by the caller that led it".into())
}
