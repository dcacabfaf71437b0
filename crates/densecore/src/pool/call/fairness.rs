//! The line under random loads, in one thread: who tries next, who ends, who gives up is drawn, so every run repeats with
//! its seed. No layer is computed; room is taken, spent and given back as calls do.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use super::Call;
use crate::error::Error;
use crate::generate::rows::Rows;
use crate::generate::sequence::Sequence;
use crate::generate::{Cancel, Salt};
use crate::limits::Limits;
use crate::model::cache::Cache;
use crate::tiny::{Random, Tiny};
use crate::vertex::Model;
use std::collections::HashMap;
use std::sync::Arc;

/// Room (blocks): that of the longest sequence, and half as much.
const ROOM: usize = 12;
/// Callers there at once.
const CALLERS: usize = 7;
const LOADS: u64 = 150;
const STEPS: usize = 400;

/// A call on its way.
struct Caller<'a> {
    call: Call<'a>,
    sequences: Vec<Sequence>,
    /// What it computes stays, as contexts do.
    lasting: bool,
    /// Callers that were in the line when this one came to its end, and how often each has entered since.
    passed: Option<HashMap<u64, usize>>,
}

impl Caller<'_> {
    fn inside(&self) -> usize {
        self.sequences.iter().filter(|s| s.is_admitted()).count()
    }

    fn is_first(&self) -> bool {
        self.call.place.as_ref().is_some_and(|place| place.behind().is_none())
    }
}

struct Load<'a> {
    model: &'a Model,
    random: Random,
    callers: Vec<(u64, Caller<'a>)>,
    contexts: Vec<Cache>,
    arrived: u64,
    entered: usize,
    overtaken: usize,
    refused: usize,
}

impl<'a> Load<'a> {
    fn new(model: &'a Model, seed: u64) -> Self {
        let random = Random::new(seed);
        Self { model, random, callers: vec![], contexts: vec![], arrived: 0, entered: 0, overtaken: 0, refused: 0 }
    }

    fn sequence(&mut self, blocks: usize) -> Sequence {
        let length = self.random.between(1, blocks * 64);
        let ids = self.random.ids(length);
        let mut sequence = self.model.begin(Rows::ids(ids), &Salt::default());
        sequence.expect(self.random.between(0, 512 - length).min(blocks * 64 - length));
        sequence
    }

    /// A small call, a list, or one whose contexts stay.
    fn arrive(&mut self) {
        // Whoever would have to wait comes back instead.
        let cancel = Cancel::default().with_poll(Arc::new(|| true));
        let call = Call::new(self.model, &cancel);
        let lasting = self.random.once_in(4);
        let (count, most) = match (lasting, self.random.once_in(3)) {
            (true, _) => (self.random.between(1, 2), 2),
            (_, true) => (self.random.between(2, 30), 8),
            _ => (1, if self.random.once_in(4) { 8 } else { 1 }),
        };
        let sequences = (0..count)
            .map(|_| {
                let blocks = self.random.between(1, most);
                self.sequence(blocks)
            })
            .collect();
        let call = if lasting { call.together() } else { call };
        self.callers.push((self.arrived, Caller { call, sequences, lasting, passed: None }));
        self.arrived += 1;
    }

    /// One caller asks for room, as each step of a call does.
    fn ask(&mut self, at: usize) {
        let (id, caller) = &mut self.callers[at];
        let (id, before) = (*id, caller.inside());
        match caller.call.admit(&mut caller.sequences) {
            Ok(()) | Err(Error::Cancelled) => {}
            Err(other) => panic!("caller {id} was refused: {other}"),
        }
        let entries = if caller.lasting { usize::from(caller.inside() > before) } else { caller.inside() - before };
        self.entered += entries;
        let in_line: HashMap<u64, usize> = self
            .callers
            .iter()
            .filter(|(other, caller)| *other != id && caller.call.place.is_some())
            .map(|(other, _)| (*other, 0))
            .collect();
        let caller = &mut self.callers[at].1;
        if caller.call.place.is_none() {
            caller.passed = None;
        } else if caller.passed.is_none() || entries > 0 {
            caller.passed = Some(in_line);
        }
        self.check(id, entries);
    }

    /// Of each caller that was in the line before, one sequence may go first; of those that came later, none.
    fn check(&mut self, entered: u64, entries: usize) {
        for (id, caller) in self.callers.iter_mut().filter(|(id, _)| *id != entered) {
            let Some(passed) = caller.passed.as_mut().filter(|_| entries > 0) else { continue };
            let Some(times) = passed.get_mut(&entered) else {
                panic!("caller {entered} came later than caller {id} and entered before it");
            };
            *times += entries;
            self.overtaken += entries;
            assert!(*times <= 1, "caller {entered} entered {times} times while caller {id} stood behind it");
        }
    }

    /// A sequence at work comes to its end: it fills the room it was promised.
    fn end(&mut self, at: usize) {
        let caller = &mut self.callers[at].1;
        let Some(s) = caller.sequences.iter_mut().find(|s| s.at_work()) else { return };
        let rows = s.pending();
        s.reserve(rows).unwrap();
        s.cache.advance(rows);
        if caller.lasting {
            self.contexts.push(s.cache.clone());
        }
        s.retire();
    }

    fn step(&mut self) {
        let at = |random: &mut Random, len: usize| random.between(0, len - 1);
        match self.random.between(0, 19) {
            0..=3 if self.callers.len() < CALLERS => self.arrive(),
            4 if self.random.once_in(4) && !self.callers.is_empty() => {
                // Cancelled, wherever it is.
                let gone = at(&mut self.random, self.callers.len());
                self.callers.swap_remove(gone);
            }
            5..=6 if !self.contexts.is_empty() => {
                let gone = at(&mut self.random, self.contexts.len());
                self.contexts.swap_remove(gone);
            }
            7..=11 if !self.callers.is_empty() => {
                let ended = at(&mut self.random, self.callers.len());
                self.end(ended);
            }
            _ if !self.callers.is_empty() => {
                let asks = at(&mut self.random, self.callers.len());
                self.ask(asks);
            }
            _ => {}
        }
        self.callers.retain(|(_, caller)| !caller.sequences.iter().all(Sequence::is_over));
    }

    /// Nobody comes any more: all that are there are served, whatever contexts stay, but for those that contexts alone are in
    /// the way of.
    fn drain(&mut self) {
        while !self.callers.is_empty() {
            for at in 0..self.callers.len() {
                self.end(at);
            }
            self.callers.retain(|(_, caller)| !caller.sequences.iter().all(Sequence::is_over));
            let before = self.entered;
            for at in 0..self.callers.len() {
                self.ask(at);
            }
            let at_work = self.callers.iter().any(|(_, caller)| caller.sequences.iter().any(Sequence::at_work));
            if self.entered == before && !at_work {
                self.refuse_the_first();
            }
        }
        self.contexts.clear();
        assert_eq!((self.model.geometry().room.free(), self.model.memory().2), (ROOM, 0), "room was lost");
    }

    /// What [`Error::Overloaded`] does: the first in line may be in the way of contexts only, and must not have begun.
    fn refuse_the_first(&mut self) {
        if self.callers.is_empty() {
            return;
        }
        let first = self.callers.iter().position(|(_, caller)| caller.is_first()).unwrap();
        let (id, caller) = self.callers.swap_remove(first);
        assert!(!self.contexts.is_empty(), "caller {id} waits for ever: all room is free");
        assert_eq!(caller.inside(), 0, "caller {id} has begun and does not come to its end");
        self.refused += 1;
    }
}

#[test]
fn each_caller_in_front_goes_first_once_and_nobody_who_came_later_does() {
    let tiny = Tiny::new();
    let model = tiny.load(ROOM as u64, 0, Limits::default());
    let (mut entered, mut overtaken, mut refused) = (0, 0, 0);
    for seed in 0..LOADS {
        let mut load = Load::new(&model, seed);
        eprintln!("load {seed}"); // shown where it fails
        for _ in 0..STEPS {
            load.step();
        }
        load.drain();
        entered += load.entered;
        overtaken += load.overtaken;
        refused += load.refused;
    }
    // The loads were such that it matters.
    assert!(entered > 10_000 && overtaken > 5_000 && refused > 0, "{entered} entered, {overtaken} overtook");
}
