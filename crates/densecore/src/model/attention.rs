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

impl Attention {
    /// Adds this layer's attention of `ws.normed` to `ws.x`, writing keys and values of all rows to the caches.
    pub fn forward(
        &self,
        pool: &Pool,
        rope: &Rope,
        heads: Heads,
        layer: usize,
        ws: &mut Workspace,
        works: &mut [Work<'_>],
    ) -> Result<()> {
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
        if let Some((q_norm, k_norm)) = &self.head_norms {
            q_norm.heads(pool, q, qw);
            k_norm.heads(pool, k, kw);
        }
        rope.rotate(pool, &ws.angles, q, qw);
        rope.rotate(pool, &ws.angles, k, kw);
        let mut row = 0;
        for work in works.iter_mut() {
            let part = row * kw..(row + work.rows) * kw;
            work.cache.write(layer, &k[part.clone()], &v[part])?;
            row += work.rows;
        }
        let mixed = &mut ws.mixed[..n * qw];
        attend(pool, heads, layer, q, works, mixed);
        let out = &mut ws.out[..n * self.o.rows()];
        let input = ws.input.prepare(pool, mixed, n, &ws.precise, &[&self.o]);
        products(pool, input, &mut [(&self.o, Output::new(out, self.o.rows()))]);
        Ok(())
    }
}

/// All sequences' attention in one parallel region.
fn attend(pool: &Pool, heads: Heads, layer: usize, q: &[f32], works: &[Work<'_>], out: &mut [f32]) {
    let tiles: Vec<_> = works
        .iter()
        .map(|work| {
            let cache: &Cache = work.cache;
            move |head: usize, t: usize| -> KvTile<'_> { cache.tile(layer, head, t) }
        })
        .collect();
    let mut spans = Vec::with_capacity(works.len());
    let mut row = 0;
    for (work, tile) in works.iter().zip(&tiles) {
        spans.push(Span { row, len: work.rows, position: work.cache.len(), tile });
        row += work.rows;
    }
    attend_batch(pool, heads, q, &spans, out);
}
