//! The other orientation, for gradients: `dx = dy W`, a sum over the rows of a matrix.

use crate::dense::Panels;
use crate::matrix::{Cut, Matrix, Output, ROWS, results};
use crate::pool::Pool;
use crate::quant::TILE;
use std::io;

/// Units of 16 columns whose results are kept while `dy` goes by.
const UNITS: usize = 8;

/// `out = Σ dy W` over the terms, `dy` being `[n][rows of W]` and `out` `n` rows of the width all matrices share: the
/// gradient of [`crate::products`] by its input, with one term for each of its jobs. Weights are exact floats, those of
/// quantised matrices too, and sums are f32. `panels` is room kept between calls.
///
/// Fails only if a matrix is used for the first time and there is no memory to pack it.
///
/// Every element is computed by one fixed sequence of operations, whatever the number of rows or threads: first within
/// a term, in the order of its rows, then term after term.
pub fn transposed_products(
    pool: &Pool,
    panels: &mut Panels,
    n: usize,
    terms: &[(&Matrix, &[f32])],
    out: &mut Output<'_>,
) -> io::Result<()> {
    let Some(width) = terms.first().map(|(m, _)| m.cols()) else { return Ok(()) };
    assert!(terms.iter().all(|(m, _)| m.cols() == width), "matrices differ in their width");
    assert!(terms.iter().all(|(m, dy)| dy.len() >= n * m.rows()), "a gradient is shorter than {n} rows");
    assert!(out.holds(n, width), "output is too small");
    for (matrix, _) in terms {
        if let Matrix::Quant(m) = matrix {
            m.settle(pool)?;
        }
    }
    let parts: Vec<(&[f32], usize)> = terms.iter().map(|(m, dy)| (*dy, m.rows())).collect();
    panels.take(pool, n, &parts);
    let (panels, out) = (panels.all(), Shared(out));
    // Pairs of units are whole groups of quantised weights.
    let cut = Cut::new(pool, width.div_ceil(TILE), 2, 4, UNITS);
    pool.run(cut.tasks, &|task| {
        let units = cut.part(task);
        for first in (0..n).step_by(ROWS) {
            let rows = ROWS.min(n - first);
            results(units.len() * rows, |results| {
                results.fill([0.0; TILE]);
                let mut start = 0;
                for (matrix, _) in terms {
                    let dy = &panels[start + first * matrix.rows()..];
                    match matrix {
                        Matrix::Quant(m) => m.transposed_product(units.clone(), dy, rows, results),
                        Matrix::Dense(m) => m.transposed_product(units.clone(), dy, rows, results),
                    }
                    start += n * matrix.rows();
                }
                // SAFETY: it fits, see above, and these columns belong to this task alone.
                unsafe { out.get().put(first, rows, rows, units.start, width, results) };
            });
        }
    });
    Ok(())
}

/// An output that the threads of one product share; nobody else has it meanwhile.
struct Shared<'a, 'b>(&'a Output<'b>);

impl<'a, 'b> Shared<'a, 'b> {
    fn get(&self) -> &'a Output<'b> {
        self.0
    }
}
// SAFETY: tasks write disjoint columns of an output that was borrowed exclusively.
unsafe impl Sync for Shared<'_, '_> {}
