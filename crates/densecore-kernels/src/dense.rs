//! Dense matrices (f32, f16, bf16) in tiles of 16 rows: `y = x Wᵀ` with f32 inputs and f32 sums.

use crate::buffer::Buffer;
#[cfg(target_arch = "x86_64")]
use crate::cpu::Tier;
use crate::format::Format;
use crate::pool::Pool;
use crate::quant::TILE;
use half::{bf16, f16};
use std::io;
use std::sync::Mutex;

/// Components summed before the sum joins the total: two short sums round less than one long one.
const RUN: usize = 32;

/// A `[rows][cols]` matrix; a tile is `[cols][16]`, so that one register holds a component of 16 rows.
#[derive(Debug)]
pub struct DenseMatrix {
    rows: usize,
    cols: usize,
    format: Format,
    data: Buffer,
}

impl DenseMatrix {
    /// Packs `rows` rows of `cols` little-endian numbers. `bytes` must hold exactly that many.
    pub fn pack(pool: &Pool, format: Format, rows: usize, cols: usize, bytes: &[u8]) -> io::Result<Self> {
        let size = format.block_bytes();
        if !format.is_dense() || rows == 0 || cols == 0 || bytes.len() != rows * cols * size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot pack {rows} x {cols} of {format:?}"),
            ));
        }
        let tile_bytes = TILE * cols * size;
        let mut data = Buffer::zeroed(rows.div_ceil(TILE) * tile_bytes)?;
        let tiles: Vec<Mutex<&mut [u8]>> = data.bytes_mut().chunks_exact_mut(tile_bytes).map(Mutex::new).collect();
        pool.run(tiles.len(), &|t| {
            let Ok(mut tile) = tiles[t].lock() else { return };
            for r in 0..TILE.min(rows - t * TILE) {
                let row = &bytes[(t * TILE + r) * cols * size..][..cols * size];
                for (i, number) in row.chunks_exact(size).enumerate() {
                    tile[(i * TILE + r) * size..][..size].copy_from_slice(number);
                }
            }
        });
        drop(tiles);
        Ok(Self { rows, cols, format, data })
    }

    /// Output width.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input width.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Resident bytes.
    pub fn bytes(&self) -> usize {
        self.data.bytes().len()
    }

    /// Tile `t` times rows `first..first + out.len()` of `x`, which is `[n][cols]`.
    pub fn tile_product(&self, t: usize, x: &[f32], first: usize, out: &mut [[f32; TILE]]) {
        let size = TILE * self.cols * self.format.block_bytes();
        let tile = &self.data.bytes()[t * size..][..size];
        let x = &x[first * self.cols..][..out.len() * self.cols];
        #[cfg(target_arch = "x86_64")]
        if Tier::detect() == Tier::Avx512 {
            // SAFETY: the tier was chosen because the processor has these features; lengths were cut just above.
            unsafe { avx512::tile(self.format, tile, x, self.cols, out) };
            return;
        }
        portable_tile(self.format, tile, x, self.cols, out);
    }
}

crate::cpu::tiered! {
    /// The reference: sums over runs of components, then over the runs.
    pub fn portable_tile(format: Format, tile: &[u8], x: &[f32], cols: usize, out: &mut [[f32; TILE]]) = reference_tile
}

#[inline(always)]
fn reference_tile(format: Format, tile: &[u8], x: &[f32], cols: usize, out: &mut [[f32; TILE]]) {
    out.fill([0.0; TILE]);
    let step = TILE * format.block_bytes();
    for (run, columns) in tile.chunks(step * RUN).enumerate() {
        for (c, out) in out.iter_mut().enumerate() {
            let mut sum = [0f32; TILE];
            for (i, column) in columns.chunks_exact(step).enumerate() {
                let x = x[c * cols + run * RUN + i];
                for r in 0..TILE {
                    sum[r] = number(format, column, r).mul_add(x, sum[r]);
                }
            }
            for r in 0..TILE {
                out[r] += sum[r];
            }
        }
    }
}

/// Number `r` of a column.
#[inline(always)]
fn number(format: Format, column: &[u8], r: usize) -> f32 {
    match format {
        Format::BF16 => bf16::from_le_bytes([column[r * 2], column[r * 2 + 1]]).to_f32(),
        Format::F16 => f16::from_le_bytes([column[r * 2], column[r * 2 + 1]]).to_f32(),
        _ => f32::from_le_bytes([column[r * 4], column[r * 4 + 1], column[r * 4 + 2], column[r * 4 + 3]]),
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Format, RUN, TILE};
    use std::arch::x86_64::*;

    /// How 16 stored numbers become a register of floats.
    trait Load {
        const BYTES: usize;
        /// SAFETY: 16 numbers are readable at `p`.
        unsafe fn load(p: *const u8) -> __m512;
    }
    struct Single;
    struct Half;
    struct Brain;

    impl Load for Single {
        const BYTES: usize = 4;
        #[inline(always)]
        unsafe fn load(p: *const u8) -> __m512 {
            // SAFETY: the trait's contract.
            unsafe { _mm512_loadu_ps(p.cast()) }
        }
    }
    impl Load for Half {
        const BYTES: usize = 2;
        #[inline(always)]
        unsafe fn load(p: *const u8) -> __m512 {
            // SAFETY: the trait's contract.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
        }
    }
    impl Load for Brain {
        const BYTES: usize = 2;
        #[inline(always)]
        unsafe fn load(p: *const u8) -> __m512 {
            // SAFETY: the trait's contract.
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    unsafe fn rows<L: Load, const C: usize>(tile: *const u8, x: *const f32, cols: usize, out: &mut [[f32; TILE]]) {
        let mut total = [_mm512_setzero_ps(); C];
        let mut start = 0;
        while start < cols {
            let end = cols.min(start + RUN);
            let mut acc = [_mm512_setzero_ps(); C];
            for i in start..end {
                // SAFETY: the tile has `cols` columns and `x` has `C` rows of `cols`.
                unsafe {
                    let w = L::load(tile.add(i * TILE * L::BYTES));
                    for c in 0..C {
                        acc[c] = _mm512_fmadd_ps(w, _mm512_set1_ps(*x.add(c * cols + i)), acc[c]);
                    }
                }
            }
            for c in 0..C {
                total[c] = _mm512_add_ps(total[c], acc[c]);
            }
            start = end;
        }
        for c in 0..C {
            // SAFETY: `out[c]` is 16 floats.
            unsafe { _mm512_storeu_ps(out[c].as_mut_ptr(), total[c]) };
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    unsafe fn all_rows<L: Load>(tile: *const u8, x: *const f32, cols: usize, out: &mut [[f32; TILE]]) {
        let mut done = 0;
        while done < out.len() {
            let left = out.len() - done;
            // SAFETY: forwarded from the caller.
            done += unsafe {
                let (x, out) = (x.add(done * cols), &mut out[done..]);
                match left {
                    8.. => {
                        rows::<L, 8>(tile, x, cols, out);
                        8
                    }
                    4.. => {
                        rows::<L, 4>(tile, x, cols, out);
                        4
                    }
                    _ => {
                        rows::<L, 1>(tile, x, cols, out);
                        1
                    }
                }
            };
        }
    }

    /// SAFETY: needs the features of `Tier::Avx512`; `tile` holds `cols` columns and `x` `out.len()` rows.
    pub unsafe fn tile(format: Format, tile: &[u8], x: &[f32], cols: usize, out: &mut [[f32; TILE]]) {
        let (tile, x) = (tile.as_ptr(), x.as_ptr());
        // SAFETY: forwarded from the caller.
        unsafe {
            match format {
                Format::F16 => all_rows::<Half>(tile, x, cols, out),
                Format::BF16 => all_rows::<Brain>(tile, x, cols, out),
                _ => all_rows::<Single>(tile, x, cols, out),
            }
        }
    }
}
