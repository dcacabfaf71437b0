//! One projection, quantised or dense, and the product of several at once.

use crate::dense::DenseMatrix;
use crate::format::Format;
use crate::pool::Pool;
use crate::quant::{Activations, QuantMatrix, TILE};
use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;

/// A `[rows][cols]` weight matrix.
#[derive(Debug)]
pub enum Matrix {
    /// Packed blocks; its inputs are quantised to 8 bits.
    Quant(QuantMatrix),
    /// Plain floats.
    Dense(DenseMatrix),
}

impl Matrix {
    /// Packs a tensor of any format.
    pub fn pack(pool: &Pool, format: Format, rows: usize, cols: usize, bytes: &[u8]) -> io::Result<Self> {
        if format.is_dense() {
            DenseMatrix::pack(pool, format, rows, cols, bytes).map(Self::Dense)
        } else {
            QuantMatrix::pack(pool, format, rows, cols, bytes).map(Self::Quant)
        }
    }

    /// Output width.
    pub fn rows(&self) -> usize {
        match self {
            Self::Quant(m) => m.rows(),
            Self::Dense(m) => m.rows(),
        }
    }

    /// Input width.
    pub fn cols(&self) -> usize {
        match self {
            Self::Quant(m) => m.cols(),
            Self::Dense(m) => m.cols(),
        }
    }

    /// Resident bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Quant(m) => m.bytes(),
            Self::Dense(m) => m.bytes(),
        }
    }

    /// Whether inputs must be quantised.
    pub fn is_quant(&self) -> bool {
        matches!(self, Self::Quant(_))
    }
}

/// Rows that enter a product: floats, and their quantised form, made once for all matrices that need it.
#[derive(Debug, Default)]
pub struct Input {
    q: Activations,
}

impl Input {
    /// Prepares `x`, `[n][k]`, for `matrices`; quantises only if one of them needs it. Rows named in `precise` enter
    /// as two rows of 8 bits, the value and what its rounding left, which makes them as good as 15 bits.
    pub fn prepare<'a>(
        &'a mut self,
        pool: &Pool,
        x: &'a [f32],
        n: usize,
        precise: &'a [usize],
        matrices: &[&Matrix],
    ) -> Prepared<'a> {
        let k = matrices[0].cols();
        assert!(x.len() >= n * k, "input is shorter than {n} rows of {k}");
        if matrices.iter().any(|m| m.is_quant()) {
            self.q.resize(n + precise.len(), k);
            let parts: Vec<_> = self.q.parts().into_iter().map(std::sync::Mutex::new).collect();
            pool.run(parts.len(), &|i| {
                if let Ok(mut part) = parts[i].lock() {
                    part.quantize(&x[..n * k]);
                }
            });
            drop(parts);
            for (j, &row) in precise.iter().enumerate() {
                self.q.quantize_rest(&x[row * k..(row + 1) * k], row, n + j);
            }
        }
        Prepared { x, q: &self.q, n, k, precise }
    }
}

/// See [`Input::prepare`].
#[derive(Debug, Clone, Copy)]
pub struct Prepared<'a> {
    x: &'a [f32],
    q: &'a Activations,
    n: usize,
    k: usize,
    precise: &'a [usize],
}

/// Where a product goes: row `i` of the result starts at `data[i * stride]`.
pub struct Output<'a> {
    data: *mut f32,
    stride: usize,
    len: usize,
    owner: PhantomData<&'a mut [f32]>,
}

impl<'a> Output<'a> {
    /// A result in `data`, with `stride` floats from row to row.
    pub fn new(data: &'a mut [f32], stride: usize) -> Self {
        Self { data: data.as_mut_ptr(), stride, len: data.len(), owner: PhantomData }
    }
}
// SAFETY: tasks write disjoint columns, see `products`.
unsafe impl Sync for Output<'_> {}

thread_local! {
    /// One tile's results for all rows, before they go to their places.
    static RESULTS: RefCell<Vec<[f32; TILE]>> = const { RefCell::new(Vec::new()) };
}

/// `output = x Wᵀ` for each job, in one parallel region. Every output element is computed by one fixed sequence of
/// operations, whatever the number of rows, threads or jobs.
pub fn products(pool: &Pool, x: Prepared<'_>, jobs: &[(&Matrix, Output<'_>)]) {
    for (matrix, out) in jobs {
        assert!(matrix.cols() == x.k, "input width does not match the matrix");
        assert!(
            x.n == 0 || (out.stride >= matrix.rows() && out.len >= (x.n - 1) * out.stride + matrix.rows()),
            "output is too small"
        );
    }
    if x.n == 0 {
        return;
    }
    let tiles: Vec<usize> = jobs.iter().map(|(m, _)| m.rows().div_ceil(TILE)).collect();
    let total: usize = tiles.iter().sum();
    // Some tasks per thread to even out their speeds, long enough to stream memory.
    let chunk = (total / (pool.threads() * 8)).clamp(1, 64);
    pool.run(total.div_ceil(chunk), &|task| {
        RESULTS.with_borrow_mut(|results| {
            results.resize(x.n + x.precise.len(), [0.0; TILE]);
            for tile in task * chunk..total.min((task + 1) * chunk) {
                let (mut job, mut t) = (0, tile);
                while t >= tiles[job] {
                    t -= tiles[job];
                    job += 1;
                }
                let (matrix, out) = &jobs[job];
                match matrix {
                    Matrix::Quant(m) => {
                        m.tile_product(t, x.q, results);
                        for (j, &row) in x.precise.iter().enumerate() {
                            let rest = results[x.n + j];
                            results[row].iter_mut().zip(rest).for_each(|(r, rest)| *r += rest);
                        }
                    }
                    Matrix::Dense(m) => m.tile_product(t, x.x, 0, &mut results[..x.n]),
                }
                let width = TILE.min(matrix.rows() - t * TILE);
                for (i, row) in results[..x.n].iter().enumerate() {
                    // SAFETY: in range by the check above; columns `t * 16..` of a job belong to this task alone.
                    unsafe {
                        let to = out.data.add(i * out.stride + t * TILE);
                        std::ptr::copy_nonoverlapping(row.as_ptr(), to, width);
                    }
                }
            }
        });
    });
}
