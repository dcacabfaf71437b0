//! Hidden to hidden through keys and values: grouped-query attention with rotary positions.

use super::cache::Cache;
use super::norm::RmsNorm;
use super::rope::Rope;
use super::workspace::{Work, Workspace};
use crate::error::Result;
use densecore_kernels::attention::KvTile;
use densecore_kernels::{Heads, Matrix, Output, Pool, Span, attend_batch, products, vector};

/// Biases of the three input projections.
#[derive(Debug)]
pub(crate) struct Biases {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
}

/// One layer's attention.
#[derive(Debug)]
pub(crate) struct Attention {
    pub q: Matrix,
    pub k: Matrix,
    pub v: Matrix,
    pub o: Matrix,
    pub biases: Option<Biases>,
    /// Norms of each query and key head (Qwen3).
    pub head_norms: Option<(RmsNorm, RmsNorm)>,
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
    pub fn forward(
        &self,
        pool: &Pool,
        rope: &Rope,
        heads: Heads,
        layer: usize,
        ws: &mut Workspace,
        works: &mut [Work<'_>],
    ) -> Result<()> {
        self.project(pool, ws);
        self.place(pool, rope, ws);
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
        self.mix(pool, heads, layer, ws, &stretches);
        Ok(())
    }

    /// `ws.normed` to `ws.q`, `ws.k` and `ws.v`.
    pub fn project(&self, pool: &Pool, ws: &mut Workspace) {
        let n = ws.rows;
        let (qw, kw) = (self.q.rows(), self.k.rows());
        let (q, k, v) = (&mut ws.q[..n * qw], &mut ws.k[..n * kw], &mut ws.v[..n * kw]);
        let input = ws.input.prepare(pool, &ws.normed, n, &ws.precise, &[&self.q, &self.k, &self.v]);
        let mut jobs = [(&self.q, Output::new(q, qw)), (&self.k, Output::new(k, kw)), (&self.v, Output::new(v, kw))];
        products(pool, input, &mut jobs);
        if let Some(biases) = &self.biases {
            for (x, bias) in [(&mut *q, &biases.q), (&mut *k, &biases.k), (&mut *v, &biases.v)] {
                pool.rows(x, bias.len(), 16, &|_, rows| {
                    rows.chunks_exact_mut(bias.len()).for_each(|row| vector::add(row, bias));
                });
            }
        }
    }

    /// Norms and turns queries and keys by `ws.angles`, in place.
    pub fn place(&self, pool: &Pool, rope: &Rope, ws: &mut Workspace) {
        let n = ws.rows;
        let (qw, kw) = (self.q.rows(), self.k.rows());
        let (q, k) = (&mut ws.q[..n * qw], &mut ws.k[..n * kw]);
        if let Some((q_norm, k_norm)) = &self.head_norms {
            q_norm.heads(pool, q, qw);
            k_norm.heads(pool, k, kw);
        }
        rope.rotate(pool, &ws.angles, q, qw);
        rope.rotate(pool, &ws.angles, k, kw);
    }

    /// `ws.q` and the caches to `ws.mixed`, and that to `ws.out`.
    pub fn mix(&self, pool: &Pool, heads: Heads, layer: usize, ws: &mut Workspace, stretches: &[Stretch<'_>]) {
        let (n, qw) = (ws.rows, self.q.rows());
        let mixed = &mut ws.mixed[..n * qw];
        with_spans(layer, stretches, |spans| attend_batch(pool, heads, &ws.q, spans, mixed));
        let out = &mut ws.out[..n * self.o.rows()];
        let input = ws.input.prepare(pool, mixed, n, &ws.precise, &[&self.o]);
        products(pool, input, &mut [(&self.o, Output::new(out, self.o.rows()))]);
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
