//! Memory of one forward pass, allocated once and kept between steps.

use super::cache::Cache;
use super::config::ModelConfig;
use super::rope::Angles;
use densecore_kernels::{Input, Pool, vector};

/// The rows one sequence brings to a step. They follow those of the sequence before.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub cache: &'a mut Cache,
    pub rows: usize,
}

/// Buffers of a step over `rows` rows in all.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub rows: usize,
    /// Residual stream `(N, d)`: embeddings before, hidden states after.
    pub x: Vec<f32>,
    pub normed: Vec<f32>,
    pub out: Vec<f32>,
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub mixed: Vec<f32>,
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
    pub angles: Angles,
    /// Rows at position 0. The first position of a sequence collects attention and carries activations a thousand
    /// times the usual; in 8 bits everything else in its row would drown, so it is computed with 15.
    pub precise: Vec<usize>,
    pub input: Input,
}

impl Workspace {
    /// Room for `rows` rows; only ever grows, but for `x`, whose length is the batch.
    pub fn resize(&mut self, config: &ModelConfig, rows: usize) {
        let grow = |buffer: &mut Vec<f32>, width: usize| {
            if buffer.len() < rows * width {
                buffer.resize(rows * width, 0.0);
            }
        };
        grow(&mut self.normed, config.width);
        grow(&mut self.out, config.width);
        grow(&mut self.q, config.q_width());
        grow(&mut self.k, config.kv_width());
        grow(&mut self.v, config.kv_width());
        grow(&mut self.mixed, config.q_width());
        grow(&mut self.gate, config.mlp_width);
        grow(&mut self.up, config.mlp_width);
        self.x.resize(rows * config.width, 0.0);
        self.rows = rows;
    }

    /// `x += out`.
    pub fn add_out(&mut self, pool: &Pool) {
        let out = &self.out;
        pool.rows(&mut self.x, 1, 16_384, &|first, x| vector::add(x, &out[first..]));
    }
}
