//! Rotary positions.

use crate::arch::Rotary;
use crate::arch::blueprint::Pairs;
use densecore_kernels::{Pool, vector};

/// What turns the heads of a layer.
#[derive(Debug)]
pub struct Rope {
    /// Angle per position of each pair, in float32 as the reference computes them.
    inverse: Vec<f32>,
    interleaved: bool,
    head_dim: usize,
    /// Multiplies cosines and sines.
    attention: f32,
    /// Its place among the rotations of its model.
    pub index: usize,
}

/// Cosines and sines of some rows, `(N, head_dim / 2)` each.
#[derive(Debug, Default)]
pub struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// The same angles the other way round: they take gradients back.
    pub fn reverse(&mut self) {
        self.sin.iter_mut().for_each(|s| *s = -*s);
    }
}

impl Rope {
    /// For heads of `head_dim`.
    pub fn new(index: usize, rotary: &Rotary, head_dim: usize, pairs: Pairs) -> Self {
        let interleaved = pairs == Pairs::Neighbours;
        Self { inverse: rotary.frequencies(), interleaved, head_dim, attention: rotary.attention(), index }
    }

    /// Angles of the positions, replacing what `out` held.
    pub fn angles(&self, positions: impl Iterator<Item = usize>, out: &mut Angles) {
        out.cos.clear();
        out.sin.clear();
        for p in positions {
            for inverse in &self.inverse {
                // The angle is rounded to float32, as every implementation does; its cosine need not be rough too.
                let (sin, cos) = f64::from(inverse * p as f32).sin_cos();
                out.cos.push(cos as f32 * self.attention);
                out.sin.push(sin as f32 * self.attention);
            }
        }
    }

    /// Rotates rows of `width` (whole heads) in place, row `i` by the `i`-th angles.
    pub fn rotate(&self, pool: &Pool, angles: &Angles, x: &mut [f32], width: usize) {
        let pairs = self.inverse.len();
        pool.rows(x, width, 16, &|first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (first + i) * pairs;
                let (cos, sin) = (&angles.cos[at..at + pairs], &angles.sin[at..at + pairs]);
                vector::rotate(row, self.head_dim, cos, sin, self.interleaved);
            }
        });
    }
}
