//! Hidden to hidden through keys and values: grouped-query attention with rotary positions.

use super::cache::Cache;
use super::norm::Norm;
use super::products::Biased;
use super::rope::Rope;
use super::workspace::{Work, Workspace};
use crate::error::Result;
use densecore_kernels::attention::KvTile;
use densecore_kernels::{Heads, Pool, Span, attend_batch};
use std::sync::Arc;

/// One layer's attention.
#[derive(Debug)]
pub(crate) struct Attention {
    pub q: Biased,
    pub k: Biased,
    pub v: Biased,
    pub o: Biased,
    /// Norms of each query and key head.
    pub head_norms: Option<(Norm, Norm)>,
    pub rope: Arc<Rope>,
    /// Shape, scale and window.
    pub heads: Heads,
}

/// The rows of one sequence, and the cache that holds its keys and values up to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub cache: &'a Cache,
    /// Position of the first row.
    pub position: usize,
    pub rows: usize,
}

impl Attention {
    /// `ws.normed` to `ws.out`, writing keys and values of all rows to the caches.
    pub fn forward(&self, pool: &Pool, layer: usize, ws: &mut Workspace, works: &mut [Work<'_>]) -> Result<()> {
        self.project(pool, ws);
        self.place(pool, ws);
        let (mut row, width) = (0, self.k.rows());
        for work in works.iter_mut() {
            let part = row * width..(row + work.rows) * width;
            work.cache.write(layer, &ws.k[part.clone()], &ws.v[part])?;
            row += work.rows;
        }
        let stretches: Vec<Stretch<'_>> = works
            .iter()
            .map(|work| Stretch { cache: work.cache, position: work.cache.len(), rows: work.rows })
            .collect();
        self.mix(pool, layer, ws, &stretches);
        Ok(())
    }

    /// `ws.normed` to `ws.q`, `ws.k` and `ws.v`.
    pub fn project(&self, pool: &Pool, ws: &mut Workspace) {
        let n = ws.rows;
        let (qw, kw) = (self.q.rows(), self.k.rows());
        let (q, k, v) = (&mut ws.q[..n * qw], &mut ws.k[..n * kw], &mut ws.v[..n * kw]);
        let x = (&*ws.normed, n, &*ws.precise);
        Biased::all(pool, &mut ws.input, x, [(&self.q, q), (&self.k, k), (&self.v, v)]);
    }

    /// Norms and turns queries and keys, in place.
    pub fn place(&self, pool: &Pool, ws: &mut Workspace) {
        let n = ws.rows;
        let (qw, kw) = (self.q.rows(), self.k.rows());
        let (q, k) = (&mut ws.q[..n * qw], &mut ws.k[..n * kw]);
        if let Some((q_norm, k_norm)) = &self.head_norms {
            q_norm.heads(pool, q, qw);
            k_norm.heads(pool, k, kw);
        }
        let angles = &ws.angles[self.rope.index];
        self.rope.rotate(pool, angles, q, qw);
        self.rope.rotate(pool, angles, k, kw);
    }

    /// Gradients by placed queries and keys become those by projected ones, `raw` before their norms; needs angles the other
    /// way round.
    pub fn place_back(&self, pool: &Pool, ws: &Workspace, raw: (&[f32], &[f32]), d_q: &mut [f32], d_k: &mut [f32]) {
        let (qw, kw) = (self.q.rows(), self.k.rows());
        let angles = &ws.angles[self.rope.index];
        self.rope.rotate(pool, angles, d_q, qw);
        self.rope.rotate(pool, angles, d_k, kw);
        if let Some((q_norm, k_norm)) = &self.head_norms {
            q_norm.heads_back(pool, raw.0, d_q, qw);
            k_norm.heads_back(pool, raw.1, d_k, kw);
        }
    }

    /// `ws.q` and the caches to `ws.mixed`, and that to `ws.out`.
    pub fn mix(&self, pool: &Pool, layer: usize, ws: &mut Workspace, stretches: &[Stretch<'_>]) {
        let (n, qw) = (ws.rows, self.q.rows());
        let mixed = &mut ws.mixed[..n * qw];
        with_spans(layer, stretches, |spans| attend_batch(pool, self.heads, &ws.q, spans, mixed));
        let out = &mut ws.out[..n * self.o.rows()];
        Biased::all(pool, &mut ws.input, (&*mixed, n, &ws.precise), [(&self.o, out)]);
    }
}

/// The stretches of a batch as its attention takes them.
pub(crate) fn with_spans<T>(layer: usize, stretches: &[Stretch<'_>], with: impl FnOnce(&[Span<'_>]) -> T) -> T {
    let tiles: Vec<_> = stretches
        .iter()
        .map(|stretch| {
            let cache = stretch.cache;
            move |head: usize, t: usize| -> KvTile<'_> { cache.tile(layer, head, t) }
        })
        .collect();
    let mut spans = Vec::with_capacity(stretches.len());
    let mut row = 0;
    for (stretch, tile) in stretches.iter().zip(&tiles) {
        spans.push(Span { row, len: stretch.rows, position: stretch.position, tile });
        row += stretch.rows;
    }
    with(&spans)
}
