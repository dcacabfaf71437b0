//! Quantised weights as exact floats, for products with the transposed matrix (`dx = dy W`), whose inputs are not
//! quantised.

use super::QuantMatrix;
use super::activation::GROUP;
use super::layout::TILE;
use crate::dense::{DEPTH, Fill, Lanes, Scratch, many, on_tier, unpacked};
use std::ops::Range;

/// A matrix read across: unit `u` is columns `first + 16 u` and the 15 that follow, its components the rows. `first`
/// is a multiple of a group's 32.
pub struct Across<'a> {
    matrix: &'a QuantMatrix,
    first: usize,
}

on_tier! {
    /// See [`many`].
    fn across(
        weights: &Across<'_>,
        units: usize,
        k: usize,
        x: &[f32],
        n: usize,
        scratch: &mut Scratch,
        out: &mut [[f32; TILE]],
    ) = many
}

impl QuantMatrix {
    /// Adds the products of columns `16 * units.start..` with `n` rows of `dy`, given as panels of `rows` components;
    /// results `[unit][n][16]`. `units.start` must be even.
    pub(crate) fn transposed_product(&self, units: Range<usize>, dy: &[f32], n: usize, out: &mut [[f32; TILE]]) {
        let weights = Across { matrix: self, first: units.start * TILE };
        unpacked(|scratch| across(&weights, units.len(), self.rows(), dy, n, scratch, out));
    }
}

impl Fill for Across<'_> {
    #[inline(always)]
    unsafe fn fill<S: Lanes>(&self, unit: usize, units: usize, start: usize, len: usize, to: &mut Scratch) {
        let layout = &self.matrix.layout;
        let g = (self.first + unit * TILE) / GROUP;
        let mut quants = [0u8; 512];
        for t in 0..len.div_ceil(TILE) {
            let tile = &self.matrix.packed()[(start / TILE + t) * layout.tile_bytes..][..layout.tile_bytes];
            let (payloads, scales) = tile.split_at(layout.groups * layout.payload);
            layout.unpack(&payloads[g * layout.payload..][..layout.payload], &mut quants);
            for u in 0..units {
                let (scale, offset) = layout.scales(scales, g, u % layout.parts());
                let to = &mut to.0[(u * DEPTH + t * TILE) * TILE..][..TILE * TILE];
                for r in 0..TILE {
                    let mut row = [0u8; TILE];
                    for s in 0..4 {
                        row[s * 4..][..4].copy_from_slice(&quants[(u * 4 + s) * 64 + r * 4..][..4]);
                    }
                    // SAFETY: `to` has 16 rows of 16.
                    unsafe {
                        let w = S::fma(S::bytes(row.as_ptr()), S::splat(scale[r]), S::splat(offset[r]));
                        S::store(to.as_mut_ptr().add(r * TILE), w);
                    }
                }
            }
        }
    }
}
