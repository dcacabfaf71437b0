//! The reference product over packed tiles, in plain Rust. Every other tier performs the same operations in the same
//! order, so their results are equal bit for bit.

use super::activation::{Activations, GROUP};
use super::layout::{Layout, Scales, TILE};

/// One tile times rows `first..first + out.len()` of the input; `out[c][r]` is row `r` of the tile.
#[inline(always)]
pub fn tile(layout: &Layout, tile: &[u8], x: &Activations, first: usize, out: &mut [[f32; TILE]]) {
    let (payloads, scales) = tile.split_at(layout.groups * layout.payload);
    let halves = if layout.scales == Scales::SixBit { 2 } else { 1 };
    out.fill([0.0; TILE]);
    let mut weights = [[0u8; GROUP]; TILE];
    for g in 0..layout.groups {
        let payload = &payloads[g * layout.payload..][..layout.payload];
        for (r, row) in weights.iter_mut().enumerate() {
            for (i, w) in row.iter_mut().enumerate() {
                *w = layout.quant(payload, r, i);
            }
        }
        for (c, out) in out.iter_mut().enumerate() {
            let row = first + c;
            let q = &x.q[row * x.k + g * GROUP..][..GROUP];
            let group = row * layout.groups + g;
            for h in 0..halves {
                let part = h * 16..if halves == 2 { h * 16 + 16 } else { GROUP };
                let sum = if halves == 2 { x.sum16[group * 2 + h] } else { x.sum32[group] };
                for r in 0..TILE {
                    let dot: i32 = part.clone().map(|i| i32::from(weights[r][i]) * i32::from(q[i])).sum();
                    let (scale, offset) = layout.scale(scales, g, h, r);
                    out[r] = (dot as f32).mul_add(scale * x.scale[group], out[r]);
                    out[r] = offset.mul_add(sum, out[r]);
                }
            }
        }
    }
}
