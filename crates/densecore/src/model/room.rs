//! Room for keys and values: what is taken of the cap, and the line of callers that wait for more.
//!
//! A sequence is promised, before its first step, every block it may come to need. Blocks that exist and blocks that
//! are promised together never exceed the cap, so a sequence at work never runs out. Spending a promise on a block
//! leaves the sum as it is; blocks that go and promises that end give room back.
//!
//! Callers take room in the order in which they came. A list of many sequences that has let one in goes to the end of the
//! line with the next, so nobody waits for more than one sequence of each caller before; what stays held after a call
//! (contexts) leaves room for the largest sequence of every list that has begun, so that those come to their end.

use super::budget::Budget;
use super::cache::Geometry;
use crate::error::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Callers that wait look up this often: for a cancel, and for room that a context gave back, which tells nobody.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(20);

/// The blocks of one model's caches, counted; all that models must know of one another.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Blocks that exist and blocks promised.
    pub taken: AtomicUsize,
    /// Blocks that exist.
    pub used: AtomicUsize,
    /// Promises that live: sequences at work.
    pub promises: AtomicUsize,
    /// The largest need of a list that has begun and is not in as a whole (blocks).
    pub reserved: AtomicUsize,
}

/// Room for keys and values, and the line before it.
#[derive(Debug)]
pub(crate) struct Room {
    /// Blocks allowed, however much the other models leave.
    total: usize,
    counts: Arc<Counts>,
    budget: Arc<Budget>,
    line: Mutex<Line>,
    moved: Condvar,
}

/// Callers in the order in which they may take room.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<u64>,
    tickets: u64,
    /// Lists that have begun, by ticket, and the largest need of what is still outside (blocks).
    begun: HashMap<u64, usize>,
    /// Callers of the line that wait and have not begun.
    waiting: usize,
    /// The first place was told that there is no room for it.
    short: bool,
    /// Changes when a promise ends or a place is left.
    version: u64,
}

/// What is missing for a request: blocks of the model's own limit, bytes of what models share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    pub own: usize,
    pub common: u64,
}

/// What came of asking for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is there, and taken now.
    Taken,
    /// Others were here first. `version` is what the line looked like.
    Behind { version: u64 },
    /// So much is missing; `hopeless` if nothing is at work that would free any.
    Short { by: Missing, hopeless: bool, version: u64 },
}

impl Room {
    pub fn new(budget: Arc<Budget>, total: usize) -> Self {
        Self { total, counts: Arc::default(), budget, line: Mutex::default(), moved: Condvar::new() }
    }

    /// What other models may know.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// The books it is in.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Blocks allowed now.
    pub fn limit(&self) -> usize {
        self.budget.limit(&self.counts, self.total)
    }

    /// Blocks that exist.
    pub fn used(&self) -> usize {
        self.counts.used.load(SeqCst)
    }

    /// Blocks neither there nor promised.
    pub fn free(&self) -> usize {
        self.limit().saturating_sub(self.counts.taken.load(SeqCst))
    }

    /// Takes `blocks` if `free` or more are free; says what is missing otherwise.
    pub fn take(&self, blocks: usize, free: usize, lasting: bool) -> Option<Missing> {
        let missing = self.budget.take(&self.counts, self.total, blocks, free, lasting);
        (missing != Missing { own: 0, common: 0 }).then_some(missing)
    }

    /// A block made under a promise is gone.
    pub fn give_back(&self) {
        self.counts.used.fetch_sub(1, SeqCst);
        // Contexts die anywhere, in a forked child too: no lock here, and nobody is woken.
        self.counts.taken.fetch_sub(1, SeqCst);
    }

    /// Waits until the line changes or it is time to look up.
    pub fn wait(&self, version: u64) {
        let line = self.lock();
        if line.version == version {
            drop(self.moved.wait_timeout(line, LOOK_UP).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Whether the first in line was told to wait.
    pub fn is_short(&self) -> bool {
        self.lock().short
    }

    fn changed(&self, change: impl FnOnce(&mut Line)) {
        let mut line = self.lock();
        change(&mut line);
        line.version += 1;
        self.counts.reserved.store(line.begun.values().copied().max().unwrap_or(0), SeqCst);
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's place in the line; left when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    geometry: Arc<Geometry>,
    ticket: u64,
    waits: bool,
    /// Since when nothing is at work that would make room.
    hopeless: Option<Instant>,
    /// When the line was joined.
    pub since: Instant,
}

impl Place {
    /// The last place.
    pub fn join(geometry: &Arc<Geometry>) -> Self {
        let mut line = geometry.room.lock();
        let ticket = line.tickets;
        line.tickets += 1;
        line.places.push_back(ticket);
        Self { geometry: Arc::clone(geometry), ticket, waits: false, hopeless: None, since: Instant::now() }
    }

    /// Whether others were here first; if so, what the line looks like.
    pub fn behind(&self) -> Option<u64> {
        let line = self.geometry.room.lock();
        (line.places.front() != Some(&self.ticket)).then_some(line.version)
    }

    /// Takes `blocks` if this place is the first and at least `free` blocks are free, `blocks` or more. What is `lasting`,
    /// held beyond the call, leaves room for every list that has begun.
    pub fn ask(&self, blocks: usize, free: usize, lasting: bool) -> Asked {
        let room = &self.geometry.room;
        let line = room.lock();
        let version = line.version;
        if line.places.front() != Some(&self.ticket) {
            return Asked::Behind { version };
        }
        // Before the sum: a promise that ends in between has given its room back by then.
        let hopeless = !room.budget.is_busy(&room.counts);
        match room.take(blocks, free, lasting) {
            Some(by) => Asked::Short { by, hopeless, version },
            None => Asked::Taken,
        }
    }

    /// A list that has begun goes to the end of the line with what is still outside, `largest` blocks at most each.
    pub fn let_others_pass(&mut self, largest: usize) {
        let own = self.ticket;
        let ticket = &mut self.ticket;
        self.geometry.room.changed(|line| {
            let largest = line.begun.remove(&own).unwrap_or(largest);
            if line.places.len() > 1 {
                line.short &= line.places.front() != Some(&own);
                line.places.retain(|&t| t != own);
                *ticket = line.tickets;
                line.tickets += 1;
                line.places.push_back(*ticket);
            }
            line.begun.insert(*ticket, largest);
        });
    }

    /// Has waited for `grace` while nothing was at work.
    pub fn is_hopeless(&mut self, grace: Duration) -> bool {
        self.hopeless.get_or_insert_with(Instant::now).elapsed() >= grace
    }

    /// The first place is told that there is no room for it.
    pub fn is_refused(&mut self, hopeless: bool) {
        if !hopeless {
            self.hopeless = None;
        }
        self.geometry.room.lock().short = true;
    }

    /// Counts as waiting from now on; false if `most` others do.
    pub fn may_wait(&mut self, most: usize) -> bool {
        if !self.waits {
            let mut line = self.geometry.room.lock();
            if line.waiting >= most {
                return false;
            }
            line.waiting += 1;
            self.waits = true;
        }
        true
    }

    /// Waits no longer: it has begun.
    pub fn begin(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.geometry.room.lock().waiting -= 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.begin();
        self.geometry.room.changed(|line| {
            line.short &= line.places.front() != Some(&self.ticket);
            line.places.retain(|&t| t != self.ticket);
            line.begun.remove(&self.ticket);
        });
    }
}

/// Blocks a sequence may still make; what is left goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Promise {
    geometry: Arc<Geometry>,
    left: usize,
}

impl Promise {
    /// A promise of blocks already taken.
    pub fn new(geometry: &Arc<Geometry>, left: usize) -> Self {
        geometry.room.counts.promises.fetch_add(1, SeqCst);
        Self { geometry: Arc::clone(geometry), left }
    }

    /// Spends one block.
    pub fn spend(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Error::Internal("a sequence outgrew its room".into()))?;
        self.geometry.room.counts.used.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Gives back all but `left` blocks.
    pub fn lower(&mut self, left: usize) {
        if left < self.left {
            self.geometry.room.counts.taken.fetch_sub(self.left - left, SeqCst);
            self.left = left;
            self.geometry.room.changed(|_| ());
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let room = &self.geometry.room;
        room.counts.taken.fetch_sub(self.left, SeqCst);
        room.counts.promises.fetch_sub(1, SeqCst);
        room.changed(|_| ());
    }
}
