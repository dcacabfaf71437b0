//! Rotary positions.

use densecore_kernels::{Pool, vector};

/// Frequencies of the rotary pairs, in float32 as the reference computes them: `theta^(-2i / head_dim)`.
#[derive(Debug)]
pub struct Rope {
    inverse: Vec<f32>,
    interleaved: bool,
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
    /// Frequencies for heads of `head_dim`.
    pub fn new(head_dim: usize, theta: f32, interleaved: bool) -> Self {
        let inverse = (0..head_dim / 2)
            .map(|i| {
                // Rounded where the reference rounds: a last-place difference here grows with the position.
                1.0 / theta.powf((2 * i) as f32 / head_dim as f32)
            })
            .collect();
        Self { inverse, interleaved }
    }

    /// Angles of the positions, replacing what `out` held.
    pub fn angles(&self, positions: impl Iterator<Item = usize>, out: &mut Angles) {
        out.cos.clear();
        out.sin.clear();
        for p in positions {
            for inverse in &self.inverse {
                // The angle is rounded to float32, as every implementation does; its cosine need not be rough too.
                let (sin, cos) = f64::from(inverse * p as f32).sin_cos();
                out.cos.push(cos as f32);
                out.sin.push(sin as f32);
            }
        }
    }

    /// Rotates rows of `width` (whole heads) in place, row `i` by the `i`-th angles.
    pub fn rotate(&self, pool: &Pool, angles: &Angles, x: &mut [f32], width: usize) {
        let pairs = self.inverse.len();
        pool.rows(x, width, 16, &|first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (first + i) * pairs;
                vector::rotate(row, &angles.cos[at..at + pairs], &angles.sin[at..at + pairs], self.interleaved);
            }
        });
    }
}
