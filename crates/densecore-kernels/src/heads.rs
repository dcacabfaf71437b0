//! Attention of a whole batch: every sequence, every head, in parallel.

use crate::attention::{CacheFormat, KvTile, Scratch, attend};
use crate::pool::Pool;
use crate::scratch::scratch;

/// Query positions of one task: enough rows to reuse a tile from the cache, few enough to share a prompt out.
const POSITIONS: usize = 16;

/// The shape of grouped-query attention.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Storage of keys and values.
    pub format: CacheFormat,
    /// What scores are multiplied by; mostly 1 over the root of the head width.
    pub scale: f32,
    /// Positions a row sees, its own the last of them; all with `usize::MAX`.
    pub window: usize,
}

/// The consecutive rows of one sequence in a batch.
pub struct Span<'a> {
    /// First row in the batch.
    pub row: usize,
    /// Rows.
    pub len: usize,
    /// Absolute position of the first row.
    pub position: usize,
    /// Tile `(kv head, tile)` of the sequence's cache.
    pub tile: &'a (dyn Fn(usize, usize) -> KvTile<'a> + Sync),
}

/// Memory of one task.
#[derive(Default)]
pub(crate) struct Work {
    queries: Vec<f32>,
    out: Vec<f32>,
    positions: Vec<usize>,
    scratch: Scratch,
}

struct Target(*mut f32);
// SAFETY: tasks write disjoint (row, head group) parts, see below.
unsafe impl Sync for Target {}
impl Target {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// `queries` and `out` are `[rows][heads * head_dim]`.
pub fn attend_batch(pool: &Pool, heads: Heads, queries: &[f32], spans: &[Span<'_>], out: &mut [f32]) {
    let Heads { heads, kv_heads, head_dim, format, scale, window } = heads;
    let (width, group) = (heads * head_dim, heads / kv_heads);
    let mut end = 0;
    for span in spans {
        assert!(span.row >= end, "spans overlap");
        end = span.row + span.len;
        assert!((span.row + span.len) * width <= queries.len().min(out.len()), "span outside the batch");
    }
    // Late positions see more tiles, so their tasks start first.
    let mut tasks: Vec<(usize, usize, usize)> = Vec::new();
    for (s, span) in spans.iter().enumerate() {
        for block in 0..span.len.div_ceil(POSITIONS) {
            tasks.extend((0..kv_heads).map(|h| (s, block * POSITIONS, h)));
        }
    }
    tasks.sort_by_key(|&(s, at, _)| std::cmp::Reverse(spans[s].position + at));
    let target = Target(out.as_mut_ptr());
    pool.run(tasks.len(), &|i| {
        let (s, at, head) = tasks[i];
        let span = &spans[s];
        let len = POSITIONS.min(span.len - at);
        scratch(|scratch| {
            let work = &mut *scratch.attention.borrow_mut();
            let rows = len * group;
            work.queries.resize(rows * head_dim, 0.0);
            work.out.resize(rows * head_dim, 0.0);
            work.positions.clear();
            for p in 0..len {
                let from = (span.row + at + p) * width + head * group * head_dim;
                let to = &mut work.queries[p * group * head_dim..][..group * head_dim];
                for (to, q) in to.iter_mut().zip(&queries[from..]) {
                    *to = q * scale;
                }
                work.positions.extend(std::iter::repeat_n(span.position + at + p, group));
            }
            let tile = |t| (span.tile)(head, t);
            attend(format, head_dim, &work.queries, &work.positions, window, &tile, &mut work.scratch, &mut work.out);
            for p in 0..len {
                let to = (span.row + at + p) * width + head * group * head_dim;
                let from = &work.out[p * group * head_dim..][..group * head_dim];
                // SAFETY: inside `out` by the check above; this row and head group belong to this task alone.
                unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), target.at(to), from.len()) };
            }
        });
    });
}
