//! Packed products with the 128-bit dot products of ARM (`sdot`).
//!
//! A step of 16 rows is four registers of four rows, called quarters here; a group's input is two registers, each the
//! by-lane operand of four steps. The instruction multiplies signed bytes: quants of up to six bits are that already,
//! those of eight are taken less 128, and 128 times the sum of the input is added to the product, exactly. So results
//! equal the reference bit for bit.
//!
//! Few input rows read the packed payload straight into registers; many first unpack a tile to bytes.

use super::activation::{Activations, GROUP};
use super::layout::{Layout, TILE};
use super::packed::{CENTRED, OFFSET, Packed, SIX, SUPER, for_layout};
use std::arch::aarch64::*;
use std::arch::asm;
use std::cell::RefCell;

/// Input rows handled together once a tile is unpacked: with two quarters a pass, inputs, weights and sums fit into 32
/// registers.
const BLOCK: usize = 4;
/// From this many rows on, unpacking a tile once pays.
const UNPACK_FROM: usize = 3;
/// Registers a step takes.
const QUARTERS: usize = 4;
/// Bytes of a quarter of an unpacked group: 8 x 16 quants, then twice 4 floats.
const UNPACKED: usize = 128 + 32;

/// How a quarter of a group becomes eight registers of signed bytes and its scales and offsets.
trait Source {
    /// Scale groups per 32 components: 1, or 2 for Q6_K.
    const HALVES: usize;
    /// Quants of eight bits, less 128.
    const WIDE: bool;
    /// SAFETY: the source points at a tile that has group `g`; `q` is below `QUARTERS`.
    unsafe fn weights(&self, g: usize, q: usize) -> [int8x16_t; 8];
    /// Scale and offset of the group, or the scales of its halves, whose zero is taken off before. SAFETY: as above.
    unsafe fn scales(&self, g: usize, q: usize) -> [float32x4_t; 2];
}

/// Four half floats; every processor with NEON widens them, but the intrinsic came later than our oldest compiler.
#[inline(always)]
unsafe fn halves(p: *const u8) -> float32x4_t {
    // SAFETY: the caller passes a pointer to 4 half floats; the instruction touches registers only.
    unsafe {
        let stored = vld1_u8(p);
        let wide: float32x4_t;
        asm!(
            "fcvtl {0:v}.4s, {1:v}.4h",
            out(vreg) wide, in(vreg) stored,
            options(pure, nomem, nostack, preserves_flags),
        );
        wide
    }
}

/// Four bytes at `p`, as integers in a register of eight.
#[inline(always)]
unsafe fn four_bytes(p: *const u8) -> uint8x8_t {
    // SAFETY: the caller passes a pointer to 4 bytes.
    unsafe { vcreate_u8(u64::from(p.cast::<u32>().read_unaligned())) }
}

#[inline(always)]
unsafe fn unsigned(p: *const u8) -> float32x4_t {
    // SAFETY: the caller passes a pointer to 4 bytes.
    unsafe { vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four_bytes(p))))) }
}

#[inline(always)]
unsafe fn signed(p: *const u8) -> float32x4_t {
    // SAFETY: the caller passes a pointer to 4 bytes.
    unsafe { vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(four_bytes(p)))))) }
}

impl<const BITS: u8, const KIND: u8> Source for Packed<BITS, KIND> {
    const HALVES: usize = Self::PARTS;
    const WIDE: bool = BITS == 8;

    #[inline(always)]
    unsafe fn weights(&self, g: usize, q: usize) -> [int8x16_t; 8] {
        // SAFETY: the trait's contract; payload sizes are those of `Layout::payload`.
        unsafe {
            let mut w = [vdupq_n_u8(0); 8];
            let p = self.payload.add(g * Self::SIZE);
            if BITS == 8 {
                for s in 0..8 {
                    w[s] = veorq_u8(vld1q_u8(p.add(s * 64 + q * 16)), vdupq_n_u8(0x80));
                }
                return w.map(|w| vreinterpretq_s8_u8(w));
            }
            for s in 0..4 {
                let both = vld1q_u8(p.add(s * 64 + q * 16));
                w[s] = vandq_u8(both, vdupq_n_u8(15));
                w[s + 4] = vshrq_n_u8::<4>(both);
            }
            if BITS == 5 {
                let byte = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
                let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
                for s in 0..8 {
                    // Sixteen bits, spread to one a byte.
                    let mask = p.add(256 + s * 8 + q * 2).cast::<u16>().read_unaligned().to_le();
                    let spread = vqtbl1q_u8(vreinterpretq_u8_u64(vdupq_n_u64(u64::from(mask))), byte);
                    w[s] = vorrq_u8(w[s], vandq_u8(vtstq_u8(spread, bit), vdupq_n_u8(16)));
                }
            }
            if BITS == 6 {
                for h in 0..2 {
                    let high = vld1q_u8(p.add(256 + h * 64 + q * 16));
                    let parts = [vshlq_n_u8::<4>(high), vshlq_n_u8::<2>(high), high, vshrq_n_u8::<2>(high)];
                    for s in 0..4 {
                        let w = &mut w[h * 4 + s];
                        *w = vorrq_u8(*w, vandq_u8(parts[s], vdupq_n_u8(0x30)));
                    }
                }
            }
            w.map(|w| vreinterpretq_s8_u8(w))
        }
    }

    #[inline(always)]
    unsafe fn scales(&self, g: usize, q: usize) -> [float32x4_t; 2] {
        // SAFETY: the trait's contract; scale sizes are those of `Layout::scale_bytes`.
        unsafe {
            match KIND {
                CENTRED => {
                    let d = halves(self.scales.add(g * 32 + q * 8));
                    [d, vmulq_n_f32(d, -self.zero)]
                }
                OFFSET => {
                    let p = self.scales.add(g * 64 + q * 8);
                    [halves(p), halves(p.add(32))]
                }
                SUPER => {
                    let (p, sub) = (self.scales.add(g / 8 * 320), g % 8);
                    let (d, dmin) = (halves(p.add(q * 8)), halves(p.add(32 + q * 8)));
                    let (scale, min) = (p.add(64 + sub * TILE + q * 4), p.add(192 + sub * TILE + q * 4));
                    [vmulq_f32(d, unsigned(scale)), vmulq_f32(vnegq_f32(dmin), unsigned(min))]
                }
                _ => {
                    let (p, sub) = (self.scales.add(g / 8 * 288), g % 8 * 2);
                    let d = halves(p.add(q * 8));
                    [0, 1].map(|h| vmulq_f32(d, signed(p.add(32 + (sub + h) * TILE + q * 4))))
                }
            }
        }
    }
}

/// A tile unpacked by quarters, see [`unpack`].
struct Unpacked<const H: usize, const WIDE: bool>(*const u8);

impl<const H: usize, const WIDE: bool> Source for Unpacked<H, WIDE> {
    const HALVES: usize = H;
    const WIDE: bool = WIDE;

    #[inline(always)]
    unsafe fn weights(&self, g: usize, q: usize) -> [int8x16_t; 8] {
        // SAFETY: the scratch holds `UNPACKED` bytes a quarter.
        unsafe {
            let p = self.0.add((g * QUARTERS + q) * UNPACKED).cast::<i8>();
            std::array::from_fn(|s| vld1q_s8(p.add(s * 16)))
        }
    }

    #[inline(always)]
    unsafe fn scales(&self, g: usize, q: usize) -> [float32x4_t; 2] {
        // SAFETY: as above; two registers of floats follow the bytes.
        unsafe {
            let p = self.0.add((g * QUARTERS + q) * UNPACKED + 128);
            [0, 16].map(|at| vreinterpretq_f32_u8(vld1q_u8(p.add(at))))
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn unpack<S: Source>(source: &S, groups: usize, out: *mut u8) {
    for g in 0..groups {
        for q in 0..QUARTERS {
            // SAFETY: `out` has `UNPACKED` bytes a quarter; the source is valid for `groups`.
            unsafe {
                let p = out.add((g * QUARTERS + q) * UNPACKED);
                for (s, w) in source.weights(g, q).into_iter().enumerate() {
                    vst1q_s8(p.add(s * 16).cast(), w);
                }
                let scales = source.scales(g, q);
                for h in 0..2 {
                    vst1q_u8(p.add(128 + h * 16), vreinterpretq_u8_f32(scales[h]));
                }
            }
        }
    }
}

/// Four-way products of `w` with the four bytes `L` of `a`, added to `sum`. The intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const L: usize>(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction touches registers only, and the function has its feature.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {a:v}.4b[{lane}]",
            sum = inout(vreg) sum, w = in(vreg) w, a = in(vreg) a, lane = const L,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// The products of four steps, the half of a group.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn half(start: int32x4_t, w: &[int8x16_t], a: int8x16_t) -> int32x4_t {
    let sum = dot::<0>(start, w[0], a);
    let sum = dot::<1>(sum, w[1], a);
    let sum = dot::<2>(sum, w[2], a);
    dot::<3>(sum, w[3], a)
}

/// 128 times the sum of a group's input, in every lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn shift(a: [int8x16_t; 2]) -> int32x4_t {
    let pairs = vpadalq_s8(vpaddlq_s8(a[0]), a[1]);
    vdupq_n_s32(vaddlvq_s16(pairs) << 7)
}

/// `C` input rows times one tile, `Q` quarters of it a pass.
#[target_feature(enable = "neon,dotprod")]
unsafe fn rows<S: Source, const C: usize, const Q: usize>(
    source: &S,
    groups: usize,
    x: &Activations,
    first: usize,
    out: &mut [[f32; TILE]],
) {
    let (scale, sum32, zero16) = (x.scale.as_ptr(), x.sum32.as_ptr(), x.zero16.as_ptr());
    let zero = vdupq_n_s32(0);
    // The rows lie in one block: blocks begin at multiples of twelve, and these rows at a multiple of their number.
    let place = x.place(first);
    for pass in (0..QUARTERS).step_by(Q) {
        let mut acc = [[vdupq_n_f32(0.0); Q]; C];
        for g in 0..groups {
            // SAFETY: `first + C` rows of `groups` groups exist in `x` (checked by the caller); the source is valid.
            unsafe {
                let (mut a, mut start) = ([[vdupq_n_s8(0); 2]; C], [[zero; 2]; C]);
                for c in 0..C {
                    let q = x.q.as_ptr().add((place.group(g) + c) * GROUP);
                    a[c] = [vld1q_s8(q), vld1q_s8(q.add(16))];
                    if S::WIDE {
                        start[c][0] = shift(a[c]);
                    }
                    if S::HALVES == 2 {
                        let zero = zero16.add((place.group(g) + c) * 2);
                        start[c] = [vdupq_n_s32(*zero), vdupq_n_s32(*zero.add(1))];
                    }
                }
                for q in 0..Q {
                    let w = source.weights(g, pass + q);
                    let scales = source.scales(g, pass + q);
                    for c in 0..C {
                        let group = place.group(g) + c;
                        let a_scale = *scale.add(group);
                        let dots = [half(start[c][0], &w[..4], a[c][0]), half(start[c][1], &w[4..], a[c][1])];
                        let acc = &mut acc[c][q];
                        if S::HALVES == 1 {
                            let dot = vcvtq_f32_s32(vaddq_s32(dots[0], dots[1]));
                            *acc = vfmaq_f32(*acc, dot, vmulq_n_f32(scales[0], a_scale));
                            *acc = vfmaq_n_f32(*acc, scales[1], *sum32.add(group));
                        } else {
                            for h in 0..2 {
                                *acc = vfmaq_f32(*acc, vcvtq_f32_s32(dots[h]), vmulq_n_f32(scales[h], a_scale));
                            }
                        }
                    }
                }
            }
        }
        for c in 0..C {
            for q in 0..Q {
                // SAFETY: `out[c]` is 16 floats, a quarter is 4.
                unsafe { vst1q_f32(out[c].as_mut_ptr().add((pass + q) * 4), acc[c][q]) };
            }
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
unsafe fn all_rows<S: Source>(source: &S, groups: usize, x: &Activations, out: &mut [[f32; TILE]]) {
    let mut done = 0;
    while done < out.len() {
        let (left, at, part) = (out.len() - done, done, &mut out[done..]);
        // SAFETY: forwarded from the caller.
        done += unsafe {
            match left {
                BLOCK.. => {
                    rows::<S, BLOCK, 2>(source, groups, x, at, part);
                    BLOCK
                }
                2.. => {
                    rows::<S, 2, QUARTERS>(source, groups, x, at, part);
                    2
                }
                _ => {
                    rows::<S, 1, QUARTERS>(source, groups, x, at, part);
                    1
                }
            }
        };
    }
}

thread_local! {
    /// One unpacked tile, kept by each thread.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// SAFETY: needs the features of `Tier::Neon`; `BITS` and `KIND` are the layout's.
unsafe fn run<const BITS: u8, const KIND: u8>(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    let (source, groups) = (&Packed::<BITS, KIND>::new(layout, tile), layout.groups);
    if out.len() < UNPACK_FROM {
        // SAFETY: a tile holds what its layout says; the caller's contract.
        unsafe { all_rows(source, groups, x, out) };
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(groups * QUARTERS * UNPACKED + 64), 0);
        let skip = scratch.as_ptr().align_offset(64);
        // SAFETY: 64 spare bytes allow the alignment; sizes as `unpack` needs them.
        unsafe {
            let aligned = scratch.as_mut_ptr().add(skip);
            unpack(source, groups, aligned);
            match (KIND, BITS) {
                (SIX, _) => all_rows(&Unpacked::<2, false>(aligned), groups, x, out),
                (_, 8) => all_rows(&Unpacked::<1, true>(aligned), groups, x, out),
                _ => all_rows(&Unpacked::<1, false>(aligned), groups, x, out),
            }
        }
    });
}

/// See [`super::portable::tile`]. SAFETY: needs the features of `Tier::Neon`.
pub unsafe fn tile(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    assert!(x.k == layout.groups * GROUP && out.len() == x.n);
    // SAFETY: the tier is the caller's promise, the formats are the layout's.
    unsafe { for_layout!(layout, run(layout, tile, x, out)) }
}
