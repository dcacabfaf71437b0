//! The reference product over packed tiles, in plain Rust. Every other tier performs the same operations in the same
//! order, so their results are equal bit for bit.

use super::activation::{Activations, GROUP};
use super::layout::{Layout, TILE};

/// One tile times all rows of the input; `out[c][r]` is row `r` of the tile.
#[inline(always)]
pub fn tile(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    let (payloads, scales) = tile.split_at(layout.groups * layout.payload);
    let parts = layout.parts();
    out.fill([0.0; TILE]);
    let mut weights = [0u8; 512];
    for g in 0..layout.groups {
        layout.unpack(&payloads[g * layout.payload..][..layout.payload], &mut weights);
        for p in 0..parts {
            let (scale, offset) = layout.scales(scales, g, p);
            let steps = p * 8 / parts..(p + 1) * 8 / parts;
            for (c, out) in out.iter_mut().enumerate() {
                let group = x.place(c).group(g);
                let q = &x.q[group * GROUP..][..GROUP];
                let mut dot = [if parts == 2 { x.zero16[group * 2 + p] } else { 0 }; TILE];
                for s in steps.clone() {
                    for r in 0..TILE {
                        for b in 0..4 {
                            dot[r] += i32::from(weights[s * 64 + r * 4 + b]) * i32::from(q[s * 4 + b]);
                        }
                    }
                }
                for r in 0..TILE {
                    out[r] = (dot[r] as f32).mul_add(scale[r] * x.scale[group], out[r]);
                    if parts == 1 {
                        out[r] = offset[r].mul_add(x.sum32[group], out[r]);
                    }
                }
            }
        }
    }
}
