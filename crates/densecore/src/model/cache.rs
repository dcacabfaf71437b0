//! Keys and values of one sequence, in shared blocks of 64 positions.
//!
//! Forking shares all blocks; the one block that both sides would write to is copied when one of them does.

use super::prefix::{Key, Prefixes};
use super::room::{Promise, Room};
use crate::error::{Error, Result};
use densecore_kernels::Buffer;
use densecore_kernels::attention::{self, CacheFormat, KvTile, SPAN};
use std::sync::Arc;

/// What all caches of one model have in common.
#[derive(Debug)]
pub struct Geometry {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) format: CacheFormat,
    /// Longest sequence (positions).
    pub(crate) context: usize,
    /// Memory all caches together may take (bytes).
    pub(crate) budget: u64,
    /// The same in blocks, and who has how much of it.
    pub(crate) room: Room,
    /// Blocks kept for prompts that begin alike.
    pub(crate) prefixes: Prefixes,
}

impl Geometry {
    /// Bytes of keys (or values) of one head in one block.
    fn tile(&self) -> usize {
        SPAN * self.head_dim * self.format.bytes()
    }

    /// Bytes of one block: all layers, all heads, keys and values.
    pub(crate) fn block(&self) -> usize {
        2 * self.layers * self.kv_heads * self.tile()
    }

    /// Where the keys of a head lie in a block; its values follow.
    fn at(&self, layer: usize, head: usize) -> usize {
        2 * (layer * self.kv_heads + head) * self.tile()
    }
}

/// Keys and values of 64 positions, all layers and heads. A megabyte or two that one thread makes and another lets go:
/// from the allocator, every thread's share of it would fill up with such blocks and stay so.
#[derive(Debug)]
pub(crate) struct Block {
    data: Buffer,
    geometry: Arc<Geometry>,
}

impl Block {
    /// A block of the room that was promised.
    fn new(geometry: &Arc<Geometry>, promise: &mut Promise, copy: Option<&[u8]>) -> Result<Self> {
        let size = geometry.block();
        let mut data = Buffer::passing(size).map_err(|error| Error::Memory {
            what: format!("keys and values of {SPAN} positions ({error})"),
            needed: (size as u64).div_ceil(1 << 20),
            available: crate::hardware::memory().available >> 20,
            remedy: "free memory, or load the model with a smaller cache_bytes".into(),
        })?;
        if let Some(copy) = copy {
            data.bytes_mut().copy_from_slice(copy);
        }
        promise.spend()?;
        Ok(Self { data, geometry: Arc::clone(geometry) })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.geometry.room.give_back();
    }
}

/// Keys and values of one sequence.
#[derive(Debug, Clone)]
pub struct Cache {
    geometry: Arc<Geometry>,
    blocks: Vec<Arc<Block>>,
    len: usize,
    /// Layer and position of the first key or value that its storage could not hold.
    damage: Option<(usize, usize)>,
}

impl Cache {
    /// An empty cache.
    pub fn new(geometry: Arc<Geometry>) -> Self {
        Self { geometry, blocks: Vec::new(), len: 0, damage: None }
    }

    /// Takes the longest kept prefix of `keys` if it is longer than what is held.
    pub(crate) fn find_prefix(&mut self, keys: &[Key]) -> bool {
        let blocks = self.geometry.prefixes.longest(keys);
        let longer = blocks.len() * SPAN > self.len;
        if longer {
            self.len = blocks.len() * SPAN;
            self.blocks = blocks;
        }
        longer
    }

    /// Keeps the full blocks for sequences that begin alike; `keys` are those of this sequence.
    pub(crate) fn keep_prefix(&self, keys: &[Key]) {
        let full = (self.len / SPAN).min(keys.len());
        self.geometry.prefixes.keep(&keys[..full], &self.blocks[..full]);
    }

    /// Layer and position of the first key or value that its storage could not hold, NaN included.
    pub(crate) fn damage(&self) -> Option<(usize, usize)> {
        self.damage
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn geometry(&self) -> &Arc<Geometry> {
        &self.geometry
    }

    /// Longest sequence (positions).
    pub fn context(&self) -> usize {
        self.geometry.context
    }

    /// Forgets positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.blocks.truncate(self.len.div_ceil(SPAN));
    }

    /// Blocks that `len` positions in all would still need: the full ones held stay as they are, the last one may have
    /// to be copied.
    pub(crate) fn missing(&self, len: usize) -> usize {
        if len > self.len { len.div_ceil(SPAN) - self.len / SPAN } else { 0 }
    }

    /// Blocks held by this cache and the shelf alone.
    pub(crate) fn shelved(&self) -> usize {
        self.blocks.iter().filter(|block| Arc::strong_count(block) == 2).count()
    }

    /// Blocks held.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// What tells its blocks from others.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().map(|block| Arc::as_ptr(block) as usize)
    }

    /// Makes `extra` more positions writable, in blocks nobody else holds.
    pub(crate) fn reserve(&mut self, extra: usize, promise: &mut Promise) -> Result<()> {
        let needed = self.len + extra;
        if needed > self.geometry.context {
            return Err(Error::ContextLength { needed, given: needed, limit: self.geometry.context });
        }
        if extra == 0 {
            return Ok(());
        }
        for block in self.blocks.iter_mut().skip(self.len / SPAN) {
            if Arc::get_mut(block).is_none() {
                *block = Arc::new(Block::new(&self.geometry, promise, Some(block.data.bytes()))?);
            }
        }
        while self.blocks.len() < needed.div_ceil(SPAN) {
            self.blocks.push(Arc::new(Block::new(&self.geometry, promise, None)?));
        }
        Ok(())
    }

    /// Writes one layer's key and value rows, `(n, kv_heads * head_dim)`, behind the held positions. Needs
    /// [`Cache::reserve`] first; [`Cache::advance`] makes them count.
    pub(crate) fn write(&mut self, layer: usize, keys: &[f32], values: &[f32]) -> Result<()> {
        let g = &self.geometry;
        let (d, tile) = (g.head_dim, g.tile());
        let width = g.kv_heads * d;
        for (i, (key, value)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            let p = self.len + i;
            if self.damage.is_none() && !(g.format.holds(key) && g.format.holds(value)) {
                self.damage = Some((layer, p));
            }
            let block = self
                .blocks
                .get_mut(p / SPAN)
                .and_then(Arc::get_mut)
                .ok_or_else(|| Error::Internal("cache block is shared or missing".into()))?;
            for head in 0..g.kv_heads {
                let part = &mut block.data.bytes_mut()[g.at(layer, head)..][..2 * tile];
                let (k, v) = part.split_at_mut(tile);
                let row = head * d..(head + 1) * d;
                attention::write_tile(g.format, k, v, p % SPAN, &key[row.clone()], &value[row]);
            }
        }
        Ok(())
    }

    /// Counts `n` written positions as held.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// Tile `t` of one head.
    pub(crate) fn tile(&self, layer: usize, head: usize, t: usize) -> KvTile<'_> {
        let (at, size) = (self.geometry.at(layer, head), self.geometry.tile());
        let data = &self.blocks[t].data.bytes()[at..at + 2 * size];
        let (keys, values) = data.split_at(size);
        KvTile { keys, values }
    }

    /// One layer's keys and values as `(kv_heads, len, head_dim)` floats.
    pub fn read_layer(&self, layer: usize) -> (Vec<f32>, Vec<f32>) {
        let g = &self.geometry;
        let d = g.head_dim;
        let mut keys = vec![0.0; g.kv_heads * self.len * d];
        let mut values = keys.clone();
        for head in 0..g.kv_heads {
            for p in 0..self.len {
                let row = (head * self.len + p) * d..(head * self.len + p + 1) * d;
                let tile = self.tile(layer, head, p / SPAN);
                attention::read_tile(g.format, tile, p % SPAN, &mut keys[row.clone()], &mut values[row]);
            }
        }
        (keys, values)
    }

    /// Bytes of the blocks, shared ones included.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * self.geometry.block()
    }
}
