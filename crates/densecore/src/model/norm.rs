//! Root-mean-square norm.

use densecore_kernels::{Pool, vector};

/// Scale of each component after division by the row's root mean square.
#[derive(Debug)]
pub struct RmsNorm {
    pub(crate) weight: Vec<f32>,
    pub(crate) eps: f32,
}

impl RmsNorm {
    /// `x` `(N, d)` to `out` `(N, d)`.
    pub fn rows(&self, pool: &Pool, x: &[f32], out: &mut [f32]) {
        let d = self.weight.len();
        pool.rows(out, d, 16, &|first, out| {
            for (i, out) in out.chunks_exact_mut(d).enumerate() {
                vector::rms_norm(&x[(first + i) * d..][..d], &self.weight, self.eps, out);
            }
        });
    }

    /// Every head of `x` `(N, heads, head_dim)` in place.
    pub fn heads(&self, pool: &Pool, x: &mut [f32], width: usize) {
        pool.rows(x, width, 16, &|_, rows| vector::rms_norm_heads(rows, &self.weight, self.eps));
    }
}
