//! The inner loops of dense products, written once over [`Lanes`].
//!
//! Every element of a result is the same sequence of operations on every route and tier: runs of [`RUN`] components,
//! each a chain of fused multiply-adds from zero, added one after the other to a total that starts at zero.

use super::lanes::Lanes;
use super::panels::WIDTH;
use crate::format::Format;
use crate::quant::TILE;

/// Components summed before the sum joins the total: two short sums round less than one long one.
pub const RUN: usize = 64;
/// Components of weights that are unpacked at a time: two units of them take 16 KiB, beside the input in 48 KiB.
pub const DEPTH: usize = 2 * RUN;
/// Unpacked weights: two units of `[DEPTH][16]`. Columns begin at cache lines.
#[repr(C, align(64))]
pub struct Scratch(pub [f32; 2 * DEPTH * TILE]);
/// Up to so many rows are multiplied straight from the packed weights.
pub const FEW: usize = 8;
/// How far ahead of its use a weight is asked for when few rows leave memory the bottleneck (bytes).
const AHEAD: usize = 4096;

/// How columns of weights become floats.
pub trait Source {
    /// Bytes of a column of 16.
    const BYTES: usize;
    /// Columns that lie together.
    const PAIR: usize = 1;
    /// Column `i`. SAFETY: `p` points at `i + 1` columns, an even number of them for bf16.
    unsafe fn column<S: Lanes>(p: *const u8, i: usize) -> S::Column;
}

/// f32.
pub struct Single;
/// f16.
pub struct Half;
/// bf16, two columns to 16 words of 32 bits.
pub struct Brain;

impl Source for Single {
    const BYTES: usize = 4 * TILE;
    #[inline(always)]
    unsafe fn column<S: Lanes>(p: *const u8, i: usize) -> S::Column {
        // SAFETY: the trait's contract.
        unsafe { S::load(p.add(i * Self::BYTES).cast()) }
    }
}
impl Source for Half {
    const BYTES: usize = 2 * TILE;
    #[inline(always)]
    unsafe fn column<S: Lanes>(p: *const u8, i: usize) -> S::Column {
        // SAFETY: the trait's contract.
        unsafe { S::half(p.add(i * Self::BYTES)) }
    }
}
impl Source for Brain {
    const BYTES: usize = 2 * TILE;
    const PAIR: usize = 2;
    #[inline(always)]
    unsafe fn column<S: Lanes>(p: *const u8, i: usize) -> S::Column {
        // SAFETY: the trait's contract.
        unsafe {
            let p = p.add(i / 2 * 64);
            if i.is_multiple_of(2) { S::brain_low(p) } else { S::brain_high(p) }
        }
    }
}

/// Bytes between a weight and the one asked for while it is used.
pub struct Stream {
    tile: usize,
    skip: usize,
}

/// What component `i` adds to the sums of [`block`].
#[inline(always)]
unsafe fn step<S: Lanes, L: Source, const T: usize, const C: usize, const MIXED: bool>(
    acc: &mut [[S::Column; C]; T],
    weights: [*const u8; T],
    x: *const f32,
    stride: usize,
    i: usize,
) {
    // SAFETY: forwarded from the caller.
    unsafe {
        let mut w = [S::zero(); T];
        for t in 0..T {
            w[t] = L::column::<S>(weights[t], i);
        }
        for c in 0..C {
            let v = S::splat(*x.add(if MIXED { i * stride + c } else { c * stride + i }));
            for t in 0..T {
                acc[t][c] = S::fma(w[t], v, acc[t][c]);
            }
        }
    }
}

/// `T` units of 16 weights times `C` rows of input, `len` components, added to the totals `out[t * unit + c * 16..]`.
/// Input `(c, i)` is `x[i * stride + c]` if the rows are interleaved (`MIXED`), `x[c * stride + i]` if not.
///
/// SAFETY: weights, inputs and totals must be readable and writable at these places.
#[inline(always)]
unsafe fn block<S: Lanes, L: Source, const T: usize, const C: usize, const MIXED: bool>(
    weights: [*const u8; T],
    x: *const f32,
    stride: usize,
    len: usize,
    out: *mut f32,
    unit: usize,
    stream: &Stream,
) {
    let mut start = 0;
    while start < len {
        let end = len.min(start + RUN);
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [[S::zero(); C]; T];
            // Beyond the end of its tile a stream goes on with the next tile that is its own.
            let at = start * L::BYTES + AHEAD;
            let ahead = if at < stream.tile { at } else { at + stream.skip };
            let mut i = start;
            while i + 2 <= end {
                if !MIXED {
                    for w in weights {
                        let line = w.wrapping_add(ahead + (i - start) * L::BYTES);
                        S::prefetch(line);
                        if L::BYTES > 32 {
                            S::prefetch(line.wrapping_add(64));
                        }
                    }
                }
                step::<S, L, T, C, MIXED>(&mut acc, weights, x, stride, i);
                step::<S, L, T, C, MIXED>(&mut acc, weights, x, stride, i + 1);
                i += 2;
            }
            if i < end {
                step::<S, L, T, C, MIXED>(&mut acc, weights, x, stride, i);
            }
            for t in 0..T {
                for c in 0..C {
                    let total = out.add(t * unit + c * TILE);
                    S::store(total, S::add(S::load(total), acc[t][c]));
                }
            }
        }
        start = end;
    }
}

/// Some consecutive tiles of a packed matrix.
#[derive(Clone, Copy)]
pub struct Tiles<'a> {
    pub format: Format,
    /// All bytes of all these tiles.
    pub data: &'a [u8],
    /// Bytes of one.
    pub size: usize,
}

/// `tiles` times `n` rows `x`, `[n][cols]`; results `[tile][n][16]`, which must be zeros.
///
/// SAFETY: needs the features of `S`.
#[inline(always)]
pub unsafe fn few<S: Lanes>(tiles: Tiles<'_>, x: &[f32], n: usize, cols: usize, out: &mut [[f32; TILE]]) {
    // SAFETY: forwarded from the caller.
    unsafe {
        match tiles.format {
            Format::F16 => few_of::<S, Half>(tiles, x, n, cols, out),
            Format::BF16 => few_of::<S, Brain>(tiles, x, n, cols, out),
            _ => few_of::<S, Single>(tiles, x, n, cols, out),
        }
    }
}

#[inline(always)]
unsafe fn few_of<S: Lanes, L: Source>(tiles: Tiles<'_>, x: &[f32], n: usize, cols: usize, out: &mut [[f32; TILE]]) {
    let count = tiles.data.len() / tiles.size;
    assert!(tiles.size >= cols.next_multiple_of(L::PAIR) * L::BYTES);
    assert!(x.len() >= n * cols && out.len() >= count * n);
    let mut t = 0;
    while t < count {
        let left = count - t;
        let weights = tiles.data[t * tiles.size..].as_ptr();
        let mut done = 0;
        let mut tiles_done = 1;
        while done < n {
            let rows = n - done;
            macro_rules! go {
                ($t:literal, $c:literal) => {{
                    let stream = Stream { tile: tiles.size, skip: ($t - 1) * tiles.size };
                    // SAFETY: `$t` tiles and `$c` rows are left, by the conditions below and the assertions above.
                    unsafe {
                        let weights = std::array::from_fn::<_, $t, _>(|i| weights.add(i * tiles.size));
                        let x = x.as_ptr().add(done * cols);
                        let out = out.as_mut_ptr().add(t * n + done).cast();
                        block::<S, L, $t, $c, false>(weights, x, cols, cols, out, n * TILE, &stream);
                    }
                    tiles_done = $t;
                    $c
                }};
            }
            // Enough independent sums to keep the multipliers busy, as far as the registers go. The number of tiles
            // must not change while rows are left, so it depends on `n` and not on `rows`.
            done += match (n, left) {
                (1, 4..) => go!(4, 1),
                (2, 4..) if S::WIDE => go!(4, 2),
                (2, 2..) => go!(2, 2),
                (3.., 2..) if S::WIDE => match rows {
                    8.. => go!(2, 8),
                    4.. => go!(2, 4),
                    2.. => go!(2, 2),
                    _ => go!(2, 1),
                },
                _ => match rows {
                    8.. if S::WIDE => go!(1, 8),
                    4.. => go!(1, 4),
                    2.. => go!(1, 2),
                    _ => go!(1, 1),
                },
            };
        }
        t += tiles_done;
    }
}

/// Where [`many`] gets weights: `fill(unit, units, start, len, to)` writes components `start..start + len` of one or two
/// units of 16 to `to`. It may write more components than asked for, up to `DEPTH`.
pub trait Fill {
    /// See above. SAFETY: needs the features of `S`.
    unsafe fn fill<S: Lanes>(&self, unit: usize, units: usize, start: usize, len: usize, to: &mut Scratch);
}

/// `units` of 16 weights, `k` components each, times interleaved rows; results `[unit][n][16]`, added to what is there.
/// `panels` begins with those of these `n` rows.
///
/// SAFETY: needs the features of `S`.
#[inline(always)]
pub unsafe fn many<S: Lanes>(
    weights: &impl Fill,
    units: usize,
    k: usize,
    panels: &[f32],
    n: usize,
    scratch: &mut Scratch,
    out: &mut [[f32; TILE]],
) {
    assert!(panels.len() >= n * k && out.len() >= units * n);
    for start in (0..k).step_by(DEPTH) {
        let len = DEPTH.min(k - start);
        for unit in (0..units).step_by(2) {
            let pair = (units - unit).min(2);
            // SAFETY: forwarded from the caller.
            unsafe { weights.fill::<S>(unit, pair, start, len, scratch) };
            for first in (0..n).step_by(WIDTH) {
                let width = WIDTH.min(n - first);
                let x = panels[first * k + start * width..].as_ptr();
                let mut done = 0;
                while done < width {
                    let left = width - done;
                    macro_rules! go {
                        ($t:literal, $c:literal) => {{
                            let stream = Stream { tile: 0, skip: 0 };
                            let mut u = 0;
                            while u < pair {
                                // SAFETY: `$t` units are unpacked and `$c` rows are left in this panel.
                                unsafe {
                                    let w = scratch.0.as_ptr().add(u * DEPTH * TILE);
                                    let w = std::array::from_fn::<_, $t, _>(|i| w.add(i * DEPTH * TILE).cast());
                                    let out = out.as_mut_ptr().add((unit + u) * n + first + done).cast();
                                    let x = x.add(done);
                                    block::<S, Single, $t, $c, true>(w, x, width, len, out, n * TILE, &stream);
                                }
                                u += $t;
                            }
                            $c
                        }};
                    }
                    done += match (left, pair) {
                        (12.., 2) if S::WIDE => go!(2, 12),
                        (8.., 2) if S::WIDE => go!(2, 8),
                        (4.., 2) if S::WIDE => go!(2, 4),
                        (2.., 2) if S::WIDE => go!(2, 2),
                        (_, 2) if S::WIDE => go!(2, 1),
                        (12.., _) if S::WIDE => go!(1, 12),
                        (6.., _) => go!(1, 6),
                        (4.., _) => go!(1, 4),
                        (2.., _) => go!(1, 2),
                        _ => go!(1, 1),
                    };
                }
            }
        }
    }
}

/// Weights in the order they are stored in: the units of `y = x Wᵀ` are tiles.
impl Fill for Tiles<'_> {
    #[inline(always)]
    unsafe fn fill<S: Lanes>(&self, unit: usize, units: usize, start: usize, len: usize, to: &mut Scratch) {
        for u in 0..units {
            let tile = &self.data[(unit + u) * self.size..][..self.size];
            let to = &mut to.0[u * DEPTH * TILE..][..DEPTH * TILE];
            // SAFETY: forwarded from the caller.
            unsafe {
                match self.format {
                    Format::F16 => copy::<S, Half>(tile, start, len, to),
                    Format::BF16 => copy::<S, Brain>(tile, start, len, to),
                    _ => copy::<S, Single>(tile, start, len, to),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn copy<S: Lanes, L: Source>(tile: &[u8], start: usize, len: usize, to: &mut [f32]) {
    assert!((start + len).next_multiple_of(L::PAIR) * L::BYTES <= tile.len() && len * TILE <= to.len());
    for i in 0..len {
        // SAFETY: the assertions; `start` is even.
        unsafe { S::store(to.as_mut_ptr().add(i * TILE), L::column::<S>(tile.as_ptr(), start + i)) };
    }
}

/// A dense matrix read across: the units of `dx = dy W` are 16 columns, its components the rows of the matrix.
#[derive(Clone, Copy)]
pub struct Across<'a> {
    /// All tiles of the matrix.
    pub tiles: Tiles<'a>,
    pub cols: usize,
    /// The column of unit 0.
    pub first: usize,
}

impl Fill for Across<'_> {
    #[inline(always)]
    unsafe fn fill<S: Lanes>(&self, unit: usize, units: usize, start: usize, len: usize, to: &mut Scratch) {
        for u in 0..units {
            let first = self.first + (unit + u) * TILE;
            for t in 0..len.div_ceil(TILE) {
                let tile = &self.tiles.data[(start / TILE + t) * self.tiles.size..][..self.tiles.size];
                let to = &mut to.0[(u * DEPTH + t * TILE) * TILE..][..TILE * TILE];
                let width = TILE.min(self.cols - first);
                // SAFETY: forwarded from the caller.
                unsafe {
                    match self.tiles.format {
                        Format::F16 => turn::<S, Half>(tile, first, width, to),
                        Format::BF16 => turn::<S, Brain>(tile, first, width, to),
                        _ => turn::<S, Single>(tile, first, width, to),
                    }
                }
            }
        }
    }
}

/// Columns `first..first + width` of a tile as 16 rows of 16.
#[inline(always)]
unsafe fn turn<S: Lanes, L: Source>(tile: &[u8], first: usize, width: usize, to: &mut [f32]) {
    assert!(
        width <= TILE && (first + width).next_multiple_of(L::PAIR) * L::BYTES <= tile.len() && to.len() >= TILE * TILE
    );
    // SAFETY: the assertion; `first` is a multiple of 16 and a tile of bf16 holds whole pairs of columns.
    unsafe {
        let mut columns = [S::zero(); TILE];
        if width == TILE {
            for i in 0..TILE {
                columns[i] = L::column::<S>(tile.as_ptr().add(first * L::BYTES), i);
            }
        } else {
            for i in 0..width {
                columns[i] = L::column::<S>(tile.as_ptr().add(first * L::BYTES), i);
            }
        }
        let rows = S::transpose(columns);
        for r in 0..TILE {
            S::store(to.as_mut_ptr().add(r * TILE), rows[r]);
        }
    }
}
