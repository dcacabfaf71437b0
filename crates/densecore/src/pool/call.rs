//! A call on its way: how its sequences come to their room, and whether it is computed together with others.
//!
//! Callers stand in one line, and only the first may take room, so a large request is not overtaken for ever by small
//! ones. A call of many sequences lets them in one by one, as earlier ones end, and goes to the end of the line with each:
//! others get their turn meanwhile. Its first sequence enters only when there is room for the largest, and whoever wants to
//! keep room beyond a call leaves that much, so a call that has begun always comes to its end. What waits holds nothing but the
//! context it goes on from; prefixes are looked up at the moment of entering.
//!
//! So overtaking is bounded: from the moment a call, or the next sequence of a list, has come to the end of the line until it
//! enters, of each caller that stood before it one sequence enters (of a call that enters as a whole, all), and of callers
//! that came later none. A call that needs little waits for at most one sequence of a long list in front of it.

use super::pass::Caller;
use crate::error::{Error, Result};
use crate::generate::Cancel;
use crate::generate::sequence::Sequence;
use crate::model::cache::Geometry;
use crate::model::prefix::Key;
use crate::model::room::{Asked, LOOK_UP, Place, Promise};
use crate::vertex::Model;
use densecore_kernels::Floats;
use densecore_kernels::attention::SPAN;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a caller waits while nothing is at work that would make room: others hold contexts between two calls.
const GRACE: Duration = Duration::from_millis(500);

/// One call of the engine that runs layers.
pub(crate) struct Call<'a> {
    model: &'a Model,
    cancel: Cancel,
    /// When it first asked for room.
    arrived: Option<Instant>,
    /// Counted among those computed together, while it has something to compute.
    seat: Option<Caller<'a>>,
    /// While a sequence of it is outside.
    place: Option<Place>,
    /// A sequence of it was let in.
    begun: bool,
    /// All enter at once, because what they compute stays held after the call.
    together: bool,
    /// What it brings to the layers, and takes from there, `(N, d)`.
    pub rows: Floats,
    /// What it takes from the head, `(N, vocab)`.
    pub logits: Floats,
}

impl<'a> Call<'a> {
    pub fn new(model: &'a Model, cancel: &Cancel) -> Self {
        Self {
            model,
            cancel: cancel.clone(),
            arrived: None,
            seat: None,
            place: None,
            begun: false,
            together: false,
            rows: Floats::passing(),
            logits: Floats::passing(),
        }
    }

    /// The same for sequences whose caches outlive the call: none of them would make room for the next.
    #[must_use]
    pub fn together(self) -> Self {
        Self { together: true, ..self }
    }

    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Is counted among those computed together from now on.
    pub fn sit_down(&mut self) {
        if self.seat.is_none() {
            self.seat = Some(self.model.meeting().enter());
        }
    }

    /// Lets others compute a block that this call needs.
    pub fn wait_for_block(&mut self, key: &Key) {
        self.seat = None;
        self.model.geometry().prefixes.wait(key, LOOK_UP);
    }

    /// Lets in as many of the sequences outside, in order, as there is room for. With none at work it waits, or fails
    /// with [`Error::Overloaded`]; a call that has begun does neither for long, see above.
    pub fn admit(&mut self, sequences: &mut [Sequence]) -> Result<()> {
        let Some(mut first) = sequences.iter().position(|s| !s.is_admitted()) else { return Ok(()) };
        if !self.begun {
            self.check_size(sequences)?;
        }
        while first < sequences.len() {
            let end = if self.together { sequences.len() } else { first + 1 };
            // Later ones may hold nothing yet: what they need is not lessened by prefixes that could be gone then.
            let largest =
                if self.begun { 0 } else { sequences[end..].iter().map(Sequence::missing).max().unwrap_or(0) };
            let asked = self.ask(&mut sequences[first..end], largest);
            if asked == Asked::Taken {
                self.begun = true;
                first = end;
                if let Some(place) = &mut self.place {
                    place.begin();
                    if first < sequences.len() {
                        place.let_others_pass(largest);
                    }
                }
                continue;
            }
            if sequences.iter().any(Sequence::at_work) {
                if let (Asked::Short { hopeless, .. }, Some(place)) = (asked, &mut self.place) {
                    place.is_refused(hopeless);
                }
                return Ok(());
            }
            let needed = sequences[first..end].iter().map(Sequence::missing).sum::<usize>().max(largest);
            self.wait(asked, needed)?;
        }
        self.place = None;
        Ok(())
    }

    /// Asks for the room of some sequences, and for `largest` blocks to be free when they are done.
    fn ask(&mut self, sequences: &mut [Sequence], largest: usize) -> Asked {
        let geometry = self.model.geometry();
        let arrived = *self.arrived.get_or_insert_with(Instant::now);
        let asked = loop {
            if largest == 0 && sequences.iter().all(|s| s.missing() == 0) {
                break Asked::Taken;
            }
            let place = self.place.get_or_insert_with(|| Place::join(geometry));
            // Only the first looks up prefixes: what it holds of them nobody can be asked to let go.
            if let Some(version) = place.behind() {
                break Asked::Behind { version };
            }
            sequences.iter_mut().for_each(Sequence::catch_up);
            let needed: usize = sequences.iter().map(Sequence::missing).sum();
            // Blocks found are held now and given back with the others, but for those that contexts hold too.
            let found: usize = sequences.iter().filter(|s| s.found > 0).map(|s| s.cache.shelved()).sum();
            match place.ask(needed, largest.saturating_sub(found), self.together) {
                // What was only kept for later makes room first.
                Asked::Short { by, .. } if by.own > 0 && geometry.prefixes.evict(by.own) > 0 => {}
                Asked::Short { by, .. } if by.own == 0 && geometry.room.budget().evict(by.common) => {}
                other => break other,
            }
        };
        for s in sequences {
            if asked == Asked::Taken {
                let promise = Promise::new(geometry, s.missing());
                s.admit(promise, arrived.elapsed());
            } else {
                s.stay_outside();
            }
        }
        asked
    }

    /// What would not fit into an empty cache is refused at once.
    fn check_size(&self, sequences: &[Sequence]) -> Result<()> {
        let geometry = self.model.geometry();
        let needed = if self.together {
            // Sequences may go on from one context: a block they share is there once.
            let held: HashSet<usize> = sequences.iter().flat_map(|s| s.cache.addresses()).collect();
            held.len() + sequences.iter().map(Sequence::missing).sum::<usize>()
        } else {
            sequences.iter().map(|s| s.cache.blocks() + s.missing()).max().unwrap_or(0)
        };
        if needed > geometry.room.limit() {
            return Err(Error::Memory {
                what: "the key-value cache".into(),
                needed: ((needed * geometry.block()) as u64).div_ceil(1 << 20),
                available: (geometry.room.limit() as u64).saturating_mul(geometry.block() as u64) >> 20,
                remedy: "shorten prompts, lower max_tokens, split the list, or load with a larger cache_bytes or \
                         kv=\"f16\""
                    .into(),
            });
        }
        Ok(())
    }

    fn wait(&mut self, asked: Asked, needed: usize) -> Result<()> {
        self.cancel.check()?;
        // Nobody else may wait for this call meanwhile.
        self.seat = None;
        let (geometry, limits) = (self.model.geometry(), self.model.limits());
        let place = self.place.get_or_insert_with(|| Place::join(geometry));
        let grace = if limits.queue == 0 { Duration::ZERO } else { GRACE.min(limits.queue_wait) };
        let version = match asked {
            Asked::Short { hopeless: true, .. } if place.is_hopeless(grace) => {
                let why = "no call is at work that would make room: drop contexts you no longer need, or load with a \
                           larger cache_bytes";
                return Err(overloaded(geometry, needed, why.into()));
            }
            Asked::Short { version, hopeless, .. } => {
                place.is_refused(hopeless);
                version
            }
            // Who is in front is about to be told; until then nobody waits for room.
            Asked::Behind { version } if !geometry.room.is_short() => {
                geometry.room.wait(version);
                return Ok(());
            }
            Asked::Behind { version } => version,
            Asked::Taken => return Ok(()),
        };
        if !self.begun {
            if !place.may_wait(limits.queue) {
                let why = format!(
                    "{} callers wait already, the cap; try again later, or load with a larger queue or cache_bytes",
                    limits.queue
                );
                return Err(overloaded(geometry, needed, why));
            }
            if place.since.elapsed() >= limits.queue_wait {
                let why = format!(
                    "waited {:.1} seconds, the cap; try again later, or load with a larger queue_seconds or cache_bytes",
                    limits.queue_wait.as_secs_f64()
                );
                return Err(overloaded(geometry, needed, why));
            }
        }
        geometry.room.wait(version);
        Ok(())
    }
}

#[cfg(test)]
mod fairness;

fn overloaded(geometry: &Arc<Geometry>, needed: usize, why: String) -> Error {
    let room = &geometry.room;
    Error::Overloaded { needed: needed * SPAN, free: room.free() * SPAN, total: room.limit() * SPAN, why }
}
