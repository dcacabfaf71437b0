//! Packed products with 256-bit integers, for processors without 512-bit dot products.
//!
//! A tile is unpacked to bytes once and read by blocks of four input rows, half a tile (eight rows) at a time. The
//! pairwise products are summed in 16 bits as long as they fit, which depends on the width of the quants; the sums
//! are exact, so results equal the reference bit for bit.

use super::activation::{Activations, GROUP};
use super::layout::{Bits, Layout, TILE};
use std::arch::x86_64::*;
use std::cell::RefCell;

/// Input rows handled together.
const BLOCK: usize = 4;
/// Bytes of an unpacked group: 8 x 64 quants, then scales and offsets of two halves, 16 floats each.
const UNPACKED: usize = 512 + 256;

thread_local! {
    /// One unpacked tile, kept by each thread.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See [`super::portable::tile`]. SAFETY: needs AVX2, FMA and F16C.
pub unsafe fn tile(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    let first = 0;
    assert!(tile.len() >= layout.groups * layout.payload + layout.scale_bytes);
    assert!(x.k == layout.groups * GROUP && first + out.len() <= x.n);
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(layout.groups * UNPACKED + 32), 0);
        let skip = scratch.as_ptr().align_offset(32);
        let scratch = &mut scratch[skip..];
        // SAFETY: the features are the caller's promise; the scratch holds `UNPACKED` bytes a group.
        unsafe {
            unpack(layout, tile, scratch);
            match layout.bits {
                Bits::Four => all::<8, false>(layout, scratch, x, first, out),
                Bits::Five => all::<4, false>(layout, scratch, x, first, out),
                Bits::Six => all::<2, false>(layout, scratch, x, first, out),
                Bits::Eight => all::<1, true>(layout, scratch, x, first, out),
            }
        }
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack(layout: &Layout, tile: &[u8], out: &mut [u8]) {
    let (payloads, scales) = tile.split_at(layout.groups * layout.payload);
    for (g, out) in out.chunks_exact_mut(UNPACKED).take(layout.groups).enumerate() {
        let (quants, floats) = out.split_at_mut(512);
        if let Some(quants) = quants.first_chunk_mut() {
            layout.unpack(&payloads[g * layout.payload..][..layout.payload], quants);
        }
        // SAFETY: the scratch is aligned to 32 bytes and a group is a multiple of that.
        let floats = unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast::<f32>(), 64) };
        for p in 0..layout.parts() {
            let (scale, offset) = layout.scales(scales, g, p);
            floats[p * TILE..][..TILE].copy_from_slice(&scale);
            floats[32 + p * TILE..][..TILE].copy_from_slice(&offset);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn all<const RUN: usize, const WIDE: bool>(
    layout: &Layout,
    scratch: &[u8],
    x: &Activations,
    first: usize,
    out: &mut [[f32; TILE]],
) {
    let mut done = 0;
    while done < out.len() {
        let (left, at, part) = (out.len() - done, first + done, &mut out[done..]);
        // SAFETY: forwarded from the caller.
        done += unsafe {
            if left >= BLOCK {
                rows::<RUN, WIDE, BLOCK>(layout, scratch, x, at, part);
                BLOCK
            } else {
                rows::<RUN, WIDE, 1>(layout, scratch, x, at, part);
                1
            }
        };
    }
}

/// Four-way products of unsigned `w` and signed `a`, as sixteen 16-bit pairs.
#[inline(always)]
unsafe fn pairs(w: __m256i, a: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_maddubs_epi16(w, a) }
}

/// `C` input rows times one tile. `RUN` steps fit into 16-bit sums; `WIDE` quants of 8 bits do not even alone, and
/// are split into their upper seven bits and the last.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<const RUN: usize, const WIDE: bool, const C: usize>(
    layout: &Layout,
    scratch: &[u8],
    x: &Activations,
    first: usize,
    out: &mut [[f32; TILE]],
) {
    let groups = layout.groups;
    let parts = layout.parts();
    let steps = 8 / parts;
    let ones = _mm256_set1_epi16(1);
    for half in 0..2 {
        let mut acc = [_mm256_setzero_ps(); C];
        for g in 0..groups {
            // SAFETY: the scratch holds `groups` groups and `x` rows `first..first + C`, checked by `tile`.
            unsafe {
                let base = scratch.as_ptr().add(g * UNPACKED);
                let floats = base.add(512).cast::<f32>().add(half * 8);
                for p in 0..parts {
                    let mut dot = [_mm256_setzero_si256(); C];
                    let mut s = p * steps;
                    while s < (p + 1) * steps {
                        let mut sum = [_mm256_setzero_si256(); C];
                        let run = RUN.min(steps);
                        for step in s..s + run {
                            let w = _mm256_load_si256(base.add(step * 64 + half * 32).cast());
                            for c in 0..C {
                                let q = x.q.as_ptr().add(x.place(first + c).group(g) * GROUP + step * 4);
                                let a = _mm256_set1_epi32(q.cast::<i32>().read_unaligned());
                                if WIDE {
                                    let upper = _mm256_and_si256(_mm256_srli_epi16::<1>(w), _mm256_set1_epi8(127));
                                    let last = _mm256_and_si256(w, _mm256_set1_epi8(1));
                                    let twice = _mm256_madd_epi16(pairs(upper, a), _mm256_set1_epi16(2));
                                    dot[c] = _mm256_add_epi32(dot[c], twice);
                                    sum[c] = pairs(last, a);
                                } else {
                                    sum[c] = _mm256_add_epi16(sum[c], pairs(w, a));
                                }
                            }
                        }
                        for c in 0..C {
                            dot[c] = _mm256_add_epi32(dot[c], _mm256_madd_epi16(sum[c], ones));
                        }
                        s += run;
                    }
                    let ws = _mm256_load_ps(floats.add(p * TILE));
                    let offset = _mm256_load_ps(floats.add(32 + p * TILE));
                    for c in 0..C {
                        let group = x.place(first + c).group(g);
                        let sum = if parts == 2 { x.sum16[group * 2 + p] } else { x.sum32[group] };
                        let scale = _mm256_mul_ps(ws, _mm256_set1_ps(x.scale[group]));
                        acc[c] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[c]), scale, acc[c]);
                        acc[c] = _mm256_fmadd_ps(offset, _mm256_set1_ps(sum), acc[c]);
                    }
                }
            }
        }
        for c in 0..C {
            // SAFETY: `out[c]` is 16 floats, of which this half is 8.
            unsafe { _mm256_storeu_ps(out[c].as_mut_ptr().add(half * 8), acc[c]) };
        }
    }
}
