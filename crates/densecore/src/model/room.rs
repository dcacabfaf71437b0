//! Room for keys and values: what is taken of the cap, and the line of callers that wait for more.
//!
//! A sequence is promised, before its first step, every block it may come to need. Blocks that exist and blocks that
//! are promised together never exceed the cap, so a sequence at work never runs out. Spending a promise on a block
//! leaves the sum as it is; blocks that go and promises that end give room back.

use super::cache::Geometry;
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Callers that wait look up this often: for a cancel, and for room that a context gave back, which tells nobody.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(20);

/// The blocks of one model's caches, counted.
#[derive(Debug)]
pub(crate) struct Room {
    /// Blocks allowed.
    total: usize,
    /// Blocks that exist and blocks promised.
    taken: AtomicUsize,
    /// Blocks that exist.
    used: AtomicUsize,
    /// Promises that live: sequences at work.
    promises: AtomicUsize,
    line: Mutex<Line>,
    moved: Condvar,
}

/// Callers in the order they came.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<u64>,
    tickets: u64,
    /// Callers of the line that wait and have not begun.
    waiting: usize,
    /// The first place was told that there is no room for it.
    short: bool,
    /// Changes when a promise ends or a place is left.
    version: u64,
}

/// What came of asking for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is there, and taken now.
    Taken,
    /// Others were here first. `version` is what the line looked like.
    Behind { version: u64 },
    /// So many blocks are missing; `hopeless` if nothing is at work that would free any.
    Short { by: usize, hopeless: bool, version: u64 },
}

impl Room {
    pub fn new(total: usize) -> Self {
        Self {
            total,
            taken: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            promises: AtomicUsize::new(0),
            line: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    /// Blocks allowed.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Blocks that exist.
    pub fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    /// Blocks neither there nor promised.
    pub fn free(&self) -> usize {
        self.total.saturating_sub(self.taken.load(SeqCst))
    }

    /// A block made under a promise is gone.
    pub fn give_back(&self) {
        self.used.fetch_sub(1, SeqCst);
        // Contexts die anywhere, in a forked child too: no lock here, and nobody is woken.
        self.taken.fetch_sub(1, SeqCst);
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

    /// Takes `blocks` if this place is the first and at least `free` blocks are free, `blocks` or more.
    pub fn ask(&self, blocks: usize, free: usize) -> Asked {
        let room = &self.geometry.room;
        let line = room.lock();
        let version = line.version;
        if line.places.front() != Some(&self.ticket) {
            return Asked::Behind { version };
        }
        // Before the sum: a promise that ends in between has given its room back by then.
        let hopeless = room.promises.load(SeqCst) == 0;
        // Only the first in line takes, so the sum can only fall until then.
        let missing = (room.taken.load(SeqCst) + free.max(blocks)).saturating_sub(room.total);
        if missing > 0 {
            return Asked::Short { by: missing, hopeless, version };
        }
        room.taken.fetch_add(blocks, SeqCst);
        Asked::Taken
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
        geometry.room.promises.fetch_add(1, SeqCst);
        Self { geometry: Arc::clone(geometry), left }
    }

    /// Spends one block.
    pub fn spend(&mut self) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Error::Internal("a sequence outgrew its room".into()))?;
        self.geometry.room.used.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Gives back all but `left` blocks.
    pub fn lower(&mut self, left: usize) {
        if left < self.left {
            self.geometry.room.taken.fetch_sub(self.left - left, SeqCst);
            self.left = left;
            self.geometry.room.changed(|_| ());
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let room = &self.geometry.room;
        room.taken.fetch_sub(self.left, SeqCst);
        room.promises.fetch_sub(1, SeqCst);
        room.changed(|_| ());
    }
}
