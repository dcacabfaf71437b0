//! Quantised matrices, packed for the processor: `y = x Wᵀ` with 8-bit inputs and 4- to 8-bit weights.

mod across;
mod activation;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layout;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod pack512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod packed;
mod portable;

pub use activation::{Activations, GROUP};
use layout::Layout;
pub use layout::TILE;
pub use matrix::{QuantMatrix, Source};

use crate::cpu::{Tier, tiered};
use crate::format::Format;

/// Packs up to 16 rows, `row` bytes each, into one zeroed tile.
fn pack_rows(layout: &Layout, format: Format, rows: &[u8], row: usize, tile: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if Tier::detect() == Tier::Avx512 && rows.len() == TILE * row {
        // SAFETY: the tier was chosen because the processor has these features.
        return unsafe { pack512::tile(layout, format, rows, tile) };
    }
    let rows: Vec<&[u8]> = rows.chunks_exact(row).collect();
    pack_tile(layout, format, &rows, tile);
}

/// Tiles that follow one another times all rows of the input, `[tile][row]`, by the kernels of this machine.
fn kernel_tiles(layout: &Layout, bytes: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    #[cfg(target_arch = "x86_64")]
    if Tier::detect() == Tier::Avx512 {
        // SAFETY: the tier was chosen because the processor has these features.
        return unsafe { avx512::tiles(layout, bytes, x, out) };
    }
    for (tile, out) in bytes.chunks_exact(layout.tile_bytes).zip(out.chunks_exact_mut(x.n.max(1))) {
        match Tier::detect() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Tier::Avx2 => unsafe { avx2::tile(layout, tile, x, out) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Tier::Neon => unsafe { neon::tile(layout, tile, x, out) },
            _ => portable_tile(layout, tile, x, out),
        }
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
