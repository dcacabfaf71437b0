//! Norms of rows and of heads, and their ways back.

use densecore_kernels::{Pool, gradient, vector};

/// Rows that one thread takes at a time.
const ROWS: usize = 16;

/// A norm of rows of d components, or of heads.
#[derive(Debug)]
pub struct Norm {
    /// Scale of each component.
    pub(crate) weight: Vec<f32>,
    /// Added to each component; only norms by mean and deviation have it, others divide by the root mean square.
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) eps: f32,
}

impl Norm {
    /// `x` `(N, d)` to `out` `(N, d)`.
    pub fn rows(&self, pool: &Pool, x: &[f32], out: &mut [f32]) {
        let d = self.weight.len();
        pool.rows(out, d, ROWS, &|first, out| {
            for (i, out) in out.chunks_exact_mut(d).enumerate() {
                let x = &x[(first + i) * d..][..d];
                match &self.bias {
                    None => vector::rms_norm(x, &self.weight, self.eps, out),
                    Some(bias) => vector::layer_norm(x, &self.weight, bias, self.eps, out),
                }
            }
        });
    }

    /// Adds to `dx` the gradient by `x`, `dy` being that by the result; all `(N, d)`.
    pub fn rows_back(&self, pool: &Pool, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let d = self.weight.len();
        pool.rows(dx, d, ROWS, &|first, dx| {
            for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                let at = (first + i) * d..(first + i + 1) * d;
                let (x, dy) = (&x[at.clone()], &dy[at]);
                match self.bias {
                    None => gradient::rms_norm(x, &self.weight, self.eps, dy, dx),
                    Some(_) => gradient::layer_norm(x, &self.weight, self.eps, dy, dx),
                }
            }
        });
    }

    /// Every head of `x` `(N, width)` in place, by its root mean square.
    pub fn heads(&self, pool: &Pool, x: &mut [f32], width: usize) {
        pool.rows(x, width, ROWS, &|_, rows| vector::rms_norm_heads(rows, &self.weight, self.eps));
    }

    /// `d`, the gradient by normed heads, becomes that by `raw`, the heads before their norm.
    pub fn heads_back(&self, pool: &Pool, raw: &[f32], d: &mut [f32], width: usize) {
        pool.rows(d, width, ROWS, &|first, d| {
            gradient::rms_norm_heads(&raw[first * width..][..d.len()], &self.weight, self.eps, d);
        });
    }
}
