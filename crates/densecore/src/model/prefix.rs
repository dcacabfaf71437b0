//! Prefixes that repeat: full blocks of keys and values, found again by the content of everything before them.

use super::cache::Block;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// SHA-256 over the rows of a block and the key of the block before it.
pub(crate) type Key = [u8; 32];

/// The key of a block that follows the block of `before` and holds `rows`.
pub(crate) fn key(before: &Key, rows: &[u8]) -> Key {
    Sha256::new().chain_update(before).chain_update(rows).finalize().into()
}

#[derive(Debug, Default)]
struct Shelf {
    blocks: HashMap<Key, (Arc<Block>, u64)>,
    clock: u64,
}

/// Blocks kept for reuse, up to a number of them; the longest unused go first.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    shelf: Mutex<Shelf>,
    most: usize,
}

impl Prefixes {
    /// Keeps at most `most` blocks.
    pub fn new(most: usize) -> Self {
        Self { shelf: Mutex::default(), most }
    }

    /// The blocks of the longest known prefix of `keys`.
    pub fn longest(&self, keys: &[Key]) -> Vec<Arc<Block>> {
        let mut shelf = self.lock();
        shelf.clock += 1;
        let now = shelf.clock;
        keys.iter()
            .map_while(|key| {
                let (block, used) = shelf.blocks.get_mut(key)?;
                *used = now;
                Some(Arc::clone(block))
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
        for (key, block) in keys.iter().zip(blocks).take(self.most) {
            shelf.blocks.entry(*key).or_insert_with(|| (Arc::clone(block), now)).1 = now;
        }
        let over = shelf.blocks.len().saturating_sub(self.most);
        shelf.drop_oldest(over);
    }

    /// Lets go of up to `count` blocks; returns whether there was any.
    pub fn release(&self, count: usize) -> bool {
        let mut shelf = self.lock();
        let any = !shelf.blocks.is_empty();
        shelf.drop_oldest(count);
        any
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn drop_oldest(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let mut ages: Vec<(u64, Key)> = self.blocks.iter().map(|(key, (_, used))| (*used, *key)).collect();
        ages.sort_unstable();
        for (_, key) in ages.into_iter().take(count) {
            self.blocks.remove(&key);
        }
    }
}
