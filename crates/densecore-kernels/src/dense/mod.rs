//! Dense matrices (f32, f16, bf16) in tiles of 16 rows: `y = x Wᵀ`, and `dx = dy W`, with f32 inputs and f32 sums.
//!
//! Inputs are not rounded to bf16: on the processors measured, 512-bit bf16 dot products do less than half the work
//! per second of f32 multiply-adds, and rounding would cost sixteen bits of every input.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
mod kernel;
pub mod lanes;
mod panels;

use kernel::{Across, Tiles};
pub use kernel::{DEPTH, FEW, Fill, Scratch};
pub use lanes::Lanes;
pub use panels::{Panels, WIDTH};

use crate::buffer::{Arena, Buffer};
use crate::format::Format;
use crate::pool::Pool;
use crate::quant::TILE;
use crate::scratch::scratch;
use std::io;
use std::ops::Range;
use std::sync::Mutex;

/// Compiles a kernel over [`Lanes`] once per tier and picks one at run time.
macro_rules! on_tier {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        pub fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::cpu::Tier;
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
                fn wide($($arg: $ty),*) {
                    // SAFETY: the features of these lanes are those of this function.
                    unsafe { $body::<$crate::dense::avx512::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn middle($($arg: $ty),*) {
                    // SAFETY: the features of these lanes are those of this function.
                    unsafe { $body::<$crate::dense::avx2::Avx2>($($arg),*) }
                }
                let tier = Tier::detect();
                if tier >= Tier::Avx512 {
                    // SAFETY: the tier was chosen because the processor has these features.
                    return unsafe { wide($($arg),*) };
                }
                if tier >= Tier::Avx2 {
                    // SAFETY: as above.
                    return unsafe { middle($($arg),*) };
                }
            }
            // SAFETY: plain Rust needs no features.
            unsafe { $body::<$crate::dense::lanes::Portable>($($arg),*) }
        }
    };
}
pub(crate) use on_tier;

on_tier! {
    /// See [`kernel::few`].
    fn few(tiles: Tiles<'_>, x: &[f32], n: usize, cols: usize, out: &mut [[f32; TILE]]) = few_on
}
use kernel::few as few_on;

on_tier! {
    /// See [`kernel::many`].
    fn along(tiles: &Tiles<'_>, units: usize, k: usize, x: &[f32], n: usize, scratch: &mut Scratch, out: &mut [[f32; TILE]]) = many
}
on_tier! {
    /// See [`kernel::many`].
    fn across(tiles: &Across<'_>, units: usize, k: usize, x: &[f32], n: usize, scratch: &mut Scratch, out: &mut [[f32; TILE]]) = many
}
pub use kernel::many;

/// Calls `with` with room for unpacked weights.
pub fn unpacked(with: impl FnOnce(&mut Scratch)) {
    let new = || Box::new(Scratch([0.0; 2 * DEPTH * TILE]));
    scratch(|scratch| with(scratch.unpacked.borrow_mut().get_or_insert_with(new)));
}

/// A `[rows][cols]` matrix; a tile is `[cols][16]`, so that one register holds a component of 16 rows. Tiles of bf16
/// are `[cols / 2][16][2]`: a shift and a mask make two columns of floats from one register.
#[derive(Debug)]
pub struct DenseMatrix {
    rows: usize,
    cols: usize,
    format: Format,
    tile_bytes: usize,
    data: Buffer,
}

impl DenseMatrix {
    /// Packs `rows` rows of `cols` little-endian numbers. `bytes` must hold exactly that many.
    pub fn pack(
        pool: &Pool,
        arena: &Arena,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> io::Result<Self> {
        let size = format.block_bytes();
        if !format.is_dense() || rows == 0 || cols == 0 || bytes.len() != rows * cols * size {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot pack {rows} x {cols} of {format:?}"),
            ));
        }
        let pair = if format == Format::BF16 { 2 } else { 1 };
        let tile_bytes = TILE * cols.next_multiple_of(pair) * size;
        let mut data = arena.zeroed(rows.div_ceil(TILE) * tile_bytes)?;
        let tiles: Vec<Mutex<&mut [u8]>> = data.bytes_mut().chunks_exact_mut(tile_bytes).map(Mutex::new).collect();
        pool.run(tiles.len(), &|t| {
            let Ok(mut tile) = tiles[t].lock() else { return };
            for r in 0..TILE.min(rows - t * TILE) {
                let row = &bytes[(t * TILE + r) * cols * size..][..cols * size];
                for (i, numbers) in row.chunks(pair * size).enumerate() {
                    tile[(i * TILE + r) * pair * size..][..numbers.len()].copy_from_slice(numbers);
                }
            }
        });
        drop(tiles);
        Ok(Self { rows, cols, format, tile_bytes, data })
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

    /// Tiles `tiles` times `n` rows of input, for few rows; results `[tile][n][16]`.
    pub fn product_of_few(&self, tiles: Range<usize>, x: &[f32], n: usize, out: &mut [[f32; TILE]]) {
        out.fill([0.0; TILE]);
        few(self.tiles(tiles), x, n, self.cols, out);
    }

    /// The same for rows given as [`Panels`], which pays for more than [`FEW`].
    pub fn product(&self, tiles: Range<usize>, x: &[f32], n: usize, out: &mut [[f32; TILE]]) {
        out.fill([0.0; TILE]);
        unpacked(|scratch| along(&self.tiles(tiles.clone()), tiles.len(), self.cols, x, n, scratch, out));
    }

    /// Adds the products of columns `16 * units.start..` with `n` rows of `dy`, given as [`Panels`] of `rows` components;
    /// results `[unit][n][16]`.
    pub fn transposed_product(&self, units: Range<usize>, dy: &[f32], n: usize, out: &mut [[f32; TILE]]) {
        let tiles = self.tiles(0..self.rows.div_ceil(TILE));
        let weights = Across { tiles, cols: self.cols, first: units.start * TILE };
        unpacked(|scratch| across(&weights, units.len(), self.rows, dy, n, scratch, out));
    }

    fn tiles(&self, tiles: Range<usize>) -> Tiles<'_> {
        let data = &self.data.bytes()[tiles.start * self.tile_bytes..tiles.end * self.tile_bytes];
        Tiles { format: self.format, data, size: self.tile_bytes }
    }
}
