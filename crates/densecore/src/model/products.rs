//! Products with weights that may have a bias, several of one input at once, and their way back.

use crate::error::{Error, Result};
use densecore_kernels::{Input, Matrix, Output, Panels, Pool, products, transposed_products, vector};

/// A weight matrix and its bias.
#[derive(Debug)]
pub(crate) struct Biased {
    pub matrix: Matrix,
    pub bias: Option<Vec<f32>>,
}

impl Biased {
    /// Width of the result.
    pub fn rows(&self) -> usize {
        self.matrix.rows()
    }

    /// Each result becomes the product of its matrix and the input `x`, `(n, cols)`, whose rows named `precise` enter with 15
    /// bits.
    pub fn all<const JOBS: usize>(
        pool: &Pool,
        input: &mut Input,
        (x, n, precise): (&[f32], usize, &[usize]),
        mut jobs: [(&Self, &mut [f32]); JOBS],
    ) {
        let matrices: [&Matrix; JOBS] = std::array::from_fn(|i| &jobs[i].0.matrix);
        let prepared = input.prepare(pool, x, n, precise, &matrices);
        let mut outputs = jobs.each_mut().map(|(biased, out)| (&biased.matrix, Output::new(out, biased.rows())));
        products(pool, prepared, &mut outputs);
        for (biased, out) in &mut jobs {
            biased.add_bias(pool, &mut out[..n * biased.rows()]);
        }
    }

    /// Adds the bias to rows of results.
    pub fn add_bias(&self, pool: &Pool, out: &mut [f32]) {
        if let Some(bias) = &self.bias {
            pool.rows(out, bias.len(), 16, &|_, rows| {
                rows.chunks_exact_mut(bias.len()).for_each(|row| vector::add(row, bias));
            });
        }
    }
}

/// `out = Σ dy W`: the gradient by the input of some products, given those by their results.
pub(crate) fn through(
    pool: &Pool,
    panels: &mut Panels,
    n: usize,
    terms: &[(&Biased, &[f32])],
    out: &mut [f32],
) -> Result<()> {
    let width = out.len() / n.max(1);
    let terms: Vec<(&Matrix, &[f32])> = terms.iter().map(|(biased, dy)| (&biased.matrix, *dy)).collect();
    transposed_products(pool, panels, n, &terms, &mut Output::new(out, width)).map_err(|error| Error::Memory {
        what: format!("packed weights ({error})"),
        needed: terms.iter().map(|(matrix, _)| matrix.bytes() as u64).sum::<u64>().div_ceil(1 << 20),
        available: crate::hardware::memory().available >> 20,
        remedy: "free memory".into(),
    })
}
