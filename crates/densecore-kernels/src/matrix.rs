//! One projection, quantised or dense, and the product of several at once.

use crate::buffer::Arena;
use crate::dense::{DenseMatrix, FEW, Panels, WIDTH};
use crate::format::Format;
use crate::pool::Pool;
use crate::quant::{Activations, QuantMatrix, Source, TILE};
use crate::scratch::scratch;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// A `[rows][cols]` weight matrix.
#[derive(Debug)]
pub enum Matrix {
    /// Packed blocks; its inputs are quantised to 8 bits.
    Quant(QuantMatrix),
    /// Plain floats.
    Dense(DenseMatrix),
}

impl Matrix {
    /// Packs a tensor of any format into memory of the arena.
    pub fn pack(
        pool: &Pool,
        arena: &Arena,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> io::Result<Self> {
        if format.is_dense() {
            DenseMatrix::pack(pool, arena, format, rows, cols, bytes).map(Self::Dense)
        } else {
            QuantMatrix::pack(pool, arena, format, rows, cols, bytes).map(Self::Quant)
        }
    }

    /// The same for later, see [`QuantMatrix`]; dense tensors are packed at once.
    pub fn open(
        pool: &Pool,
        arena: &Arc<Arena>,
        format: Format,
        rows: usize,
        cols: usize,
        source: Box<dyn Source>,
    ) -> io::Result<Self> {
        if format.is_dense() {
            DenseMatrix::pack(pool, arena, format, rows, cols, source.bytes()).map(Self::Dense)
        } else {
            QuantMatrix::open(Arc::clone(arena), format, rows, cols, source).map(Self::Quant)
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

    /// Bytes of the packed form.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Quant(m) => m.bytes(),
            Self::Dense(m) => m.bytes(),
        }
    }

    /// Of these, bytes that are still to be taken.
    pub fn bytes_to_come(&self) -> usize {
        match self {
            Self::Quant(m) => m.bytes_to_come(),
            Self::Dense(_) => 0,
        }
    }

    /// Whether inputs must be quantised.
    pub fn is_quant(&self) -> bool {
        matches!(self, Self::Quant(_))
    }
}

/// Rows that enter a product: floats, and their quantised and interleaved forms, made once for all matrices that need
/// them.
#[derive(Debug, Default)]
pub struct Input {
    q: Activations,
    panels: Panels,
}

impl Input {
    /// Prepares `x`, `[n][k]`, for `matrices`; quantises only if one of them needs it. Rows named in `precise` enter
    /// as two rows of 8 bits, the value and what its rounding left, which makes them as good as 15 bits. Products with
    /// dense matrices do not round their inputs, so there it changes nothing.
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
        assert!(precise.iter().all(|&row| row < n), "a precise row beyond {n} rows");
        let quantised = matrices.iter().any(|m| m.is_quant());
        if quantised {
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
        let interleaved = n > FEW && matrices.iter().any(|m| !m.is_quant());
        if interleaved {
            self.panels.take(pool, n, &[(x, k)]);
        }
        Prepared { x, q: quantised.then_some(&self.q), panels: interleaved.then_some(&self.panels), n, k, precise }
    }
}

/// See [`Input::prepare`].
#[derive(Debug, Clone, Copy)]
pub struct Prepared<'a> {
    x: &'a [f32],
    q: Option<&'a Activations>,
    panels: Option<&'a Panels>,
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

    /// Whether `n` rows of `width` fit.
    pub(crate) fn holds(&self, n: usize, width: usize) -> bool {
        let needed = n.checked_sub(1).map(|n| n.checked_mul(self.stride).and_then(|last| last.checked_add(width)));
        needed.is_none_or(|needed| self.stride >= width && needed.is_some_and(|needed| self.len >= needed))
    }

    /// Copies the first `rows` rows of results `[unit][apart][16]` to rows `first..` and columns `16 * unit..`, as far
    /// as there are `width`.
    ///
    /// SAFETY: these rows must fit (see [`Output::holds`]), every unit must begin before `width`, and nobody else may
    /// write these columns meanwhile.
    pub(crate) unsafe fn put(
        &self,
        first: usize,
        rows: usize,
        apart: usize,
        unit: usize,
        width: usize,
        results: &[[f32; TILE]],
    ) {
        for i in 0..rows {
            // SAFETY: the caller's promise.
            let row = unsafe { self.data.add((first + i) * self.stride) };
            for (u, unit) in (unit..).zip(results.chunks_exact(apart)) {
                // SAFETY: as above; whole tiles are copied by a constant length, which is one register.
                unsafe {
                    let (from, to) = (unit[i].as_ptr(), row.add(u * TILE));
                    if (u + 1) * TILE <= width {
                        to.cast::<[f32; TILE]>().write_unaligned(from.cast::<[f32; TILE]>().read());
                    } else {
                        std::ptr::copy_nonoverlapping(from, to, width - u * TILE);
                    }
                }
            }
        }
    }
}

/// Jobs that the threads of one product share; nobody else has them meanwhile.
struct Jobs<'a, 'b>(&'a [(&'a Matrix, Output<'b>)]);

impl<'a, 'b> Jobs<'a, 'b> {
    fn all(&self) -> &'a [(&'a Matrix, Output<'b>)] {
        self.0
    }
}
// SAFETY: tasks write disjoint columns, see `products`, which borrowed the outputs exclusively.
unsafe impl Sync for Jobs<'_, '_> {}

/// Sixteen floats that share a cache line.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; TILE]);

/// Calls `with` with room for `len` tiles of one row, of unknown content.
pub(crate) fn results(len: usize, with: impl FnOnce(&mut [[f32; TILE]])) {
    scratch(|scratch| {
        let results = &mut *scratch.results.borrow_mut();
        if results.len() < len {
            results.resize(len, Line([0.0; TILE]));
        }
        let lines = &mut results[..len];
        // SAFETY: a line is its 16 floats, without padding.
        with(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len()) });
    });
}

/// Rows of a dense product taken at once: a multiple of a panel, and little enough that their inputs of one depth and
/// their results stay in the second-level cache.
pub(crate) const ROWS: usize = 64 * WIDTH;
/// Results of quantised products kept together, in rows of a tile: a part of the second-level cache.
const LINES: usize = 4096;
/// Tiles whose results are kept while the input goes by, which may come from further away.
const TILES: usize = 16;

/// How `total` tiles are cut into tasks: parts of about equal size that begin at multiples of `unit`.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    total: usize,
    unit: usize,
    pub tasks: usize,
}

impl Cut {
    /// At least `each` tasks a thread, to even out their speeds, and at most `most` tiles a task.
    pub fn new(pool: &Pool, total: usize, unit: usize, each: usize, most: usize) -> Self {
        let threads = pool.threads();
        let tasks = threads * total.div_ceil(most * threads).max(each);
        Self { total, unit, tasks: tasks.min(total.div_ceil(unit)) }
    }

    /// The tiles of a task.
    pub fn part(self, task: usize) -> Range<usize> {
        let units = self.total.div_ceil(self.unit);
        let at = |task: usize| (task * units / self.tasks * self.unit).min(self.total);
        at(task)..at(task + 1)
    }
}

/// `output = x Wᵀ` for each job, in one parallel region. Every output element is computed by one fixed sequence of
/// operations, whatever the number of rows, threads or jobs.
pub fn products(pool: &Pool, x: Prepared<'_>, jobs: &mut [(&Matrix, Output<'_>)]) {
    for (matrix, out) in jobs.iter() {
        assert!(matrix.cols() == x.k, "input width does not match the matrix");
        assert!(out.holds(x.n, matrix.rows()), "output is too small");
        assert!(!matrix.is_quant() || x.q.is_some(), "the input was not prepared for a quantised matrix");
        assert!(matrix.is_quant() || x.n <= FEW || x.panels.is_some(), "the input was not prepared for a dense matrix");
    }
    if x.n == 0 {
        return;
    }
    let tiles: Vec<usize> = jobs.iter().map(|(m, _)| m.rows().div_ceil(TILE)).collect();
    let total: usize = tiles.iter().sum();
    for (matrix, _) in jobs.iter() {
        if let Matrix::Quant(m) = matrix {
            m.before_use(pool);
        }
    }
    let jobs = Jobs(jobs);
    let dense = jobs.all().iter().any(|(m, _)| !m.is_quant());
    // Few dense rows read four tiles at a time, many read two, and then every task costs a pass over the input.
    let cut = match (dense, x.n > FEW) {
        (false, _) => Cut::new(pool, total, 1, 8, 64),
        (true, false) => Cut::new(pool, total, 4, 8, 64),
        (true, true) => Cut::new(pool, total, 2, 4, TILES),
    };
    pool.run(cut.tasks, &|task| {
        let part = cut.part(task);
        let mut start = 0;
        for ((matrix, out), &tiles) in jobs.all().iter().zip(&tiles) {
            let mine = part.start.clamp(start, start + tiles) - start..part.end.clamp(start, start + tiles) - start;
            start += tiles;
            if mine.is_empty() {
                continue;
            }
            match matrix {
                Matrix::Quant(m) => quant_products(m, x, mine, out),
                Matrix::Dense(m) => dense_products(m, x, mine, out),
            }
        }
    });
}

fn quant_products(matrix: &QuantMatrix, x: Prepared<'_>, tiles: Range<usize>, out: &Output<'_>) {
    let rows = x.n + x.precise.len();
    // Several tiles are put at once: rows of the output lie far apart, and every stretch of one costs an address.
    let some = (LINES / rows).clamp(1, TILES);
    for t in tiles.clone().step_by(some) {
        let tiles = t..tiles.end.min(t + some);
        results(tiles.len() * rows, |results| {
            if let Some(q) = x.q {
                matrix.products(tiles, q, results);
            }
            for results in results.chunks_exact_mut(rows) {
                for (j, &row) in x.precise.iter().enumerate() {
                    let rest = results[x.n + j];
                    results[row].iter_mut().zip(rest).for_each(|(r, rest)| *r += rest);
                }
            }
            // SAFETY: checked by `products`; columns `t * 16..` of a job belong to this task alone.
            unsafe { out.put(0, x.n, rows, t, matrix.rows(), results) };
        });
    }
}

fn dense_products(matrix: &DenseMatrix, x: Prepared<'_>, tiles: Range<usize>, out: &Output<'_>) {
    for t in tiles.clone().step_by(TILES) {
        let tiles = t..tiles.end.min(t + TILES);
        for first in (0..x.n).step_by(ROWS) {
            let rows = ROWS.min(x.n - first);
            results(tiles.len() * rows, |results| {
                match x.panels {
                    Some(panels) => matrix.product(tiles.clone(), &panels.all()[first * x.k..], rows, results),
                    None => matrix.product_of_few(tiles.clone(), x.x, rows, results),
                }
                // SAFETY: as above.
                unsafe { out.put(first, rows, rows, t, matrix.rows(), results) };
            });
        }
    }
}
