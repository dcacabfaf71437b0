//! Memory of one forward pass, allocated once and kept between steps.

use super::cache::Cache;

use super::rope::{Angles, Rope};
use crate::arch::ModelConfig;
use crate::error::Error;
use densecore_kernels::{Floats, Input, Pool, vector};
use std::io;
use std::sync::Arc;

/// The rows one sequence brings to a step. They follow those of the sequence before.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub cache: &'a mut Cache,
    pub rows: usize,
}

/// The error of a pass that found no memory for its rows.
pub(crate) fn no_room(config: &ModelConfig, rows: usize, error: &io::Error) -> Error {
    Error::Memory {
        what: format!("the activations of {rows} positions ({error})"),
        needed: (rows * config.mlp_width * 2 * size_of::<f32>()).div_ceil(1 << 20) as u64,
        available: crate::hardware::memory().available >> 20,
        remedy: "free memory, or bring fewer positions at once".into(),
    }
}

/// Buffers of a step over `rows` rows in all.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub rows: usize,
    /// Residual stream `(N, d)`: embeddings before, hidden states after.
    pub x: Vec<f32>,
    pub normed: Floats,
    pub out: Floats,
    pub q: Floats,
    pub k: Floats,
    pub v: Floats,
    pub mixed: Floats,
    pub gate: Floats,
    pub up: Floats,
    /// By rotation.
    pub angles: Vec<Angles>,
    /// Whether all rows are computed precisely.
    pub careful: bool,
    /// Rows whose inputs are rounded to 15 bits instead of 8: those at position 0, or all. The first position of a
    /// sequence collects attention and carries activations a thousand times the usual; in 8 bits everything else in its
    /// row would drown.
    pub precise: Vec<usize>,
    pub input: Input,
}

impl Workspace {
    /// Room for `rows` rows; only ever grows, but for `x`, whose length is the batch.
    pub fn resize(&mut self, config: &ModelConfig, rows: usize) -> io::Result<()> {
        let widths = [
            (&mut self.normed, config.width),
            (&mut self.out, config.width),
            (&mut self.q, config.q_width()),
            (&mut self.k, config.kv_width()),
            (&mut self.v, config.kv_width()),
            (&mut self.mixed, config.q_width()),
            (&mut self.gate, config.mlp_width),
            (&mut self.up, config.mlp_width),
        ];
        for (buffer, width) in widths {
            buffer.grow(rows * width)?;
        }
        self.x.resize(rows * config.width, 0.0);
        self.rows = rows;
        Ok(())
    }

    /// Says where the rows stand: their angles, and which of them are computed precisely.
    pub fn place(&mut self, ropes: &[Arc<Rope>], positions: impl Iterator<Item = usize> + Clone) {
        self.precise.clear();
        let careful = self.careful;
        let wanted = positions.clone().enumerate().filter(|&(_, p)| careful || p == 0);
        self.precise.extend(wanted.map(|(row, _)| row));
        self.angles.resize_with(ropes.len(), Angles::default);
        for (rope, angles) in ropes.iter().zip(&mut self.angles) {
            rope.angles(positions.clone(), angles);
        }
    }

    /// `x += out`.
    pub fn add_out(&mut self, pool: &Pool) {
        let out = &self.out;
        pool.rows(&mut self.x, 1, 16_384, &|first, x| vector::add(x, &out[first..]));
    }
}
