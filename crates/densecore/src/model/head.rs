//! Hidden to logits.

use super::norm::Norm;
use super::products::Biased;
use densecore_kernels::{Input, Pool};

/// The final norm and the vocabulary projection.
#[derive(Debug)]
pub(crate) struct Head {
    pub norm: Norm,
    pub output: Biased,
}

impl Head {
    /// Residual states `x` `(N, d)` to final states `(N, d)`.
    pub fn finish(&self, pool: &Pool, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        self.norm.rows(pool, x, &mut out);
        out
    }

    /// Final states `(N, d)` to logits `(N, vocab)`.
    pub fn logits(&self, pool: &Pool, finals: &[f32], logits: &mut Vec<f32>) {
        logits.resize(finals.len() / self.output.matrix.cols() * self.output.rows(), 0.0);
        self.project(pool, finals, &[], logits);
    }

    /// The same with 15 bits of the states instead of 8.
    pub fn precise_logits(&self, pool: &Pool, finals: &[f32], logits: &mut Vec<f32>) {
        let all: Vec<usize> = (0..finals.len() / self.output.matrix.cols()).collect();
        logits.resize(all.len() * self.output.rows(), 0.0);
        self.project(pool, finals, &all, logits);
    }

    /// The first rows of `logits` become those of `finals`; those in `precise` enter with 15 bits.
    pub fn project(&self, pool: &Pool, finals: &[f32], precise: &[usize], logits: &mut [f32]) {
        let (n, vocab) = (finals.len() / self.output.matrix.cols(), self.output.rows());
        let logits = &mut logits[..n * vocab];
        Biased::all(pool, &mut Input::default(), (finals, n, precise), [(&self.output, logits)]);
    }
}
