//! Quantised matrices, packed for the processor: `y = x Wᵀ` with 8-bit inputs and 4- to 8-bit weights.

mod across;
mod activation;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layout;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod pack512;
mod portable;

pub use activation::{Activations, GROUP};
use layout::Layout;
pub use layout::TILE;

use crate::buffer::Buffer;
use crate::cpu::{Tier, tiered};
use crate::format::Format;
use crate::pool::Pool;
use std::io;
use std::ops::Range;
use std::sync::Mutex;

/// Tiles a thread packs at a time.
const STRETCH: usize = 16;

/// A `[rows][cols]` matrix in the packed layout.
#[derive(Debug)]
pub struct QuantMatrix {
    rows: usize,
    cols: usize,
    layout: Layout,
    data: Buffer,
}

impl QuantMatrix {
    /// Whether [`QuantMatrix::pack`] takes this format and width.
    pub fn supports(format: Format, cols: usize) -> bool {
        Layout::new(format, cols).is_some()
    }

    /// Packs `rows` rows of `cols` weights from GGUF blocks. `bytes` must hold exactly that many blocks.
    pub fn pack(pool: &Pool, format: Format, rows: usize, cols: usize, bytes: &[u8]) -> io::Result<Self> {
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("cannot pack {rows} x {cols} of {format:?}"));
        let layout = Layout::new(format, cols).ok_or_else(wrong)?;
        let row_bytes = format.row_bytes(cols).ok_or_else(wrong)?;
        if rows == 0 || bytes.len() != rows * row_bytes {
            return Err(wrong());
        }
        let mut data = Buffer::zeroed(rows.div_ceil(TILE) * layout.tile_bytes)?;
        let tiles: Vec<Mutex<&mut [u8]>> =
            data.bytes_mut().chunks_exact_mut(layout.tile_bytes).map(Mutex::new).collect();
        // Stretches of tiles, so that what is read ahead is read by this thread.
        pool.run(tiles.len().div_ceil(STRETCH), &|task| {
            for t in task * STRETCH..tiles.len().min((task + 1) * STRETCH) {
                let Ok(mut tile) = tiles[t].lock() else { return };
                let first = t * TILE;
                #[cfg(target_arch = "x86_64")]
                if Tier::detect() == Tier::Avx512 && first + TILE <= rows {
                    let rows = &bytes[first * row_bytes..][..TILE * row_bytes];
                    // SAFETY: the tier was chosen because the processor has these features.
                    unsafe { pack512::tile(&layout, format, rows, &mut tile) };
                    continue;
                }
                let rows: Vec<&[u8]> =
                    (first..rows.min(first + TILE)).map(|r| &bytes[r * row_bytes..][..row_bytes]).collect();
                pack_tile(&layout, format, &rows, &mut tile);
            }
        });
        drop(tiles);
        Ok(Self { rows, cols, layout, data })
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

    /// Tiles of 16 rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// Some tiles times all rows of the input, `[tile][row]`.
    pub fn products(&self, tiles: Range<usize>, x: &Activations, out: &mut [[f32; TILE]]) {
        assert!(x.k == self.cols && out.len() == x.n * tiles.len(), "input does not match the matrix");
        let size = self.layout.tile_bytes;
        let bytes = &self.data.bytes()[tiles.start * size..tiles.end * size];
        #[cfg(target_arch = "x86_64")]
        if Tier::detect() == Tier::Avx512 {
            // SAFETY: the tier was chosen because the processor has these features.
            return unsafe { avx512::tiles(&self.layout, bytes, x, out) };
        }
        for (tile, out) in bytes.chunks_exact(size).zip(out.chunks_exact_mut(x.n.max(1))) {
            match Tier::detect() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Tier::Avx2 => unsafe { avx2::tile(&self.layout, tile, x, out) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: as above.
                Tier::Neon => unsafe { neon::tile(&self.layout, tile, x, out) },
                _ => portable_tile(&self.layout, tile, x, out),
            }
        }
    }

    /// Tile `t` by the portable reference, whatever the tier; for tests and self tests.
    pub fn reference_product(&self, t: usize, x: &Activations, out: &mut [[f32; TILE]]) {
        let tile = &self.data.bytes()[t * self.layout.tile_bytes..][..self.layout.tile_bytes];
        assert!(x.k == self.cols && out.len() == x.n, "input does not match the matrix");
        portable_tile(&self.layout, tile, x, out);
    }
}

tiered! {
    /// Packs one tile.
    pub fn pack_tile(layout: &Layout, format: Format, rows: &[&[u8]], tile: &mut [u8]) = pack_tile_body
}

#[inline(always)]
fn pack_tile_body(layout: &Layout, format: Format, rows: &[&[u8]], tile: &mut [u8]) {
    layout.pack_tile(format, rows, tile);
}

tiered! {
    /// The reference, compiled for each tier.
    pub fn portable_tile(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) = reference_tile
}

#[inline(always)]
fn reference_tile(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    portable::tile(layout, tile, x, out);
}
