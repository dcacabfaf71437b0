//! Prefixes that repeat: full blocks of keys and values, found again by the content of everything before them.
//!
//! Who is about to compute such a block claims it, so that others who need the same one wait for it rather than compute
//! it too.

use super::cache::{Block, Geometry};
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// SHA-256 over the rows of a block and the key of the block before it.
pub(crate) type Key = [u8; 32];

/// A block on the shelf.
#[derive(Debug)]
struct Kept {
    block: Arc<Block>,
    used: u64,
    /// Blocks before it in its sequence.
    depth: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    blocks: HashMap<Key, Kept>,
    /// Blocks that a sequence at work is about to compute.
    claimed: HashSet<Key>,
    clock: u64,
}

/// Blocks kept for reuse, up to a number of them; the longest unused go first.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    shelf: Mutex<Shelf>,
    /// Claims were given up, their blocks computed or not.
    given_up: Condvar,
    most: usize,
}

impl Prefixes {
    /// Keeps at most `most` blocks.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// The blocks of the longest known prefix of `keys`.
    pub fn longest(&self, keys: &[Key]) -> Vec<Arc<Block>> {
        let mut shelf = self.lock();
        shelf.clock += 1;
        let now = shelf.clock;
        keys.iter()
            .map_while(|key| {
                let kept = shelf.blocks.get_mut(key)?;
                kept.used = now;
                Some(Arc::clone(&kept.block))
            })
            .collect()
    }

    /// Keeps the blocks of a prefix.
    pub fn keep(&self, keys: &[Key], blocks: &[Arc<Block>]) {
        if self.most == 0 {
            return;
        }
        let mut shelf = self.lock();
        shelf.clock += 1;
        let now = shelf.clock;
        for (depth, (key, block)) in keys.iter().zip(blocks).enumerate().take(self.most) {
            let kept = shelf.blocks.entry(*key);
            kept.or_insert_with(|| Kept { block: Arc::clone(block), used: now, depth }).used = now;
        }
        let over = shelf.blocks.len().saturating_sub(self.most);
        let gone = shelf.take_oldest(over, |_| true);
        drop(shelf);
        drop(gone);
    }

    /// Blocks that nobody else holds.
    pub fn idle(&self) -> usize {
        self.lock().blocks.values().filter(|kept| Arc::strong_count(&kept.block) == 1).count()
    }

    /// Lets go of `count` blocks that nobody else holds, if there are so many; returns how many went.
    pub fn evict(&self, count: usize) -> usize {
        // A block on the shelf alone is reached through the shelf alone: it cannot be taken while this lock is held.
        let free = |kept: &Kept| Arc::strong_count(&kept.block) == 1;
        let mut shelf = self.lock();
        if shelf.blocks.values().filter(|kept| free(kept)).count() < count {
            return 0;
        }
        let gone = shelf.take_oldest(count, free);
        drop(shelf);
        gone.len()
    }

    /// Lets go of everything.
    pub fn clear(&self) {
        let gone = std::mem::take(&mut self.lock().blocks);
        drop(gone);
    }

    /// Waits while somebody computes the block of `key`, for as long as `most`.
    pub fn wait(&self, key: &Key, most: Duration) {
        let shelf = self.lock();
        if shelf.claimed.contains(key) {
            drop(self.given_up.wait_timeout(shelf, most).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Takes up to `count` of the `fit` blocks off, the longest unused first; of one sequence the last first, for
    /// without those before it a block is not found.
    fn take_oldest(&mut self, count: usize, fit: impl Fn(&Kept) -> bool) -> Vec<Kept> {
        if count == 0 {
            return Vec::new();
        }
        let mut ages: Vec<(u64, Reverse<usize>, Key)> = self
            .blocks
            .iter()
            .filter(|(_, kept)| fit(kept))
            .map(|(key, kept)| (kept.used, Reverse(kept.depth), *key))
            .collect();
        ages.sort_unstable();
        ages.truncate(count);
        ages.iter().filter_map(|(_, _, key)| self.blocks.remove(key)).collect()
    }
}

/// Blocks that one sequence is about to compute; those not computed are given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Claims {
    geometry: Arc<Geometry>,
    keys: VecDeque<Key>,
    /// The block behind the last one claimed, counted from the sequence's beginning.
    end: usize,
}

impl Claims {
    /// Claims blocks `from..` of `keys` up to the first that somebody else has; none if that is `from` itself.
    pub fn make(geometry: &Arc<Geometry>, keys: &[Key], from: usize) -> Option<Self> {
        let mut shelf = geometry.prefixes.lock();
        let mine: VecDeque<Key> = keys[from..].iter().copied().take_while(|key| !shelf.claimed.contains(key)).collect();
        shelf.claimed.extend(&mine);
        drop(shelf);
        let end = from + mine.len();
        (end > from).then(|| Self { geometry: Arc::clone(geometry), keys: mine, end })
    }

    /// The block behind the last one claimed.
    pub fn end(&self) -> usize {
        self.end
    }

    /// Blocks before `block` are computed.
    pub fn give_up_to(&mut self, block: usize) {
        let left = self.end.saturating_sub(block).min(self.keys.len());
        let done = self.keys.len() - left;
        if done > 0 {
            let mut shelf = self.geometry.prefixes.lock();
            for key in self.keys.drain(..done) {
                shelf.claimed.remove(&key);
            }
            self.geometry.prefixes.given_up.notify_all();
        }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.give_up_to(self.end);
    }
}
