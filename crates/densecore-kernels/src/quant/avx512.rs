//! Packed products with 512-bit 8-bit dot products (VNNI).
//!
//! Low blocks of input rows read the packed payload straight into registers; for higher ones some groups at a time are
//! unpacked to bytes that stay in the first-level cache. Both run the same operations in the same order.

use super::activation::{ActivationPart, Activations, BLOCK, GROUP, MAGIC, scale_of};
use super::layout::{Layout, TILE};
use super::packed::{CENTRED, OFFSET, Packed, SIX, SUPER, for_layout};
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

/// Rows of a block that read the packed payload; higher blocks have it unpacked once for all.
const DIRECT: usize = 8;
/// Groups unpacked at a time: they stay in the first-level cache beside the inputs of a block.
const CHUNK: usize = 16;
/// Bytes of inputs that stay in the second-level cache while tiles go by.
const NEAR: usize = 1 << 19;
/// Bytes of an unpacked group: 8 x 64 quants, then twice 16 floats.
const UNPACKED: usize = 512 + 128;

/// How a group of one tile becomes eight registers of bytes and its scales and offsets.
trait Source {
    /// Scale groups per 32 components: 1, or 2 for Q6_K.
    const HALVES: usize;
    /// Whether blocks of more than eight rows come: registers are left where a step's weights are loaded when needed.
    const WIDE: bool;
    /// A group's quants, at hand.
    type Weights: Copy;
    /// SAFETY: `payload` points at the tile and `g` is below its groups; needs AVX-512 BW.
    unsafe fn weights(&self, g: usize) -> Self::Weights;
    /// The operand of step `s`. SAFETY: as above, `s` below 8.
    unsafe fn step(weights: Self::Weights, s: usize) -> __m512i;
    /// Asks for what a later group will need.
    fn prefetch(&self, _g: usize) {}
    /// Scale and offset of the group, or the scales of its halves, whose zero is taken off before. SAFETY: as above.
    unsafe fn scales(&self, g: usize) -> [__m512; 2];
}

#[inline(always)]
unsafe fn load(p: *const u8) -> __m512i {
    // SAFETY: the caller passes a pointer to 64 readable bytes.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

#[inline(always)]
unsafe fn halves(p: *const u8) -> __m512 {
    // SAFETY: the caller passes a pointer to 16 half floats.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
}

#[inline(always)]
unsafe fn unsigned(p: *const u8) -> __m512 {
    // SAFETY: the caller passes a pointer to 16 bytes.
    unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
}

impl<const BITS: u8, const KIND: u8> Source for Packed<BITS, KIND> {
    const HALVES: usize = Self::PARTS;
    const WIDE: bool = false;

    #[inline(always)]
    fn prefetch(&self, g: usize) {
        self.ask_ahead(g);
    }

    type Weights = [__m512i; 8];

    #[inline(always)]
    unsafe fn step(weights: [__m512i; 8], s: usize) -> __m512i {
        weights[s]
    }

    #[inline(always)]
    unsafe fn weights(&self, g: usize) -> [__m512i; 8] {
        // SAFETY: the trait's contract; payload sizes are those of `Layout::payload`.
        unsafe {
            let mut w = [_mm512_setzero_si512(); 8];
            let p = self.payload.add(g * Self::SIZE);
            if BITS == 8 {
                for s in 0..8 {
                    w[s] = load(p.add(s * 64));
                }
                return w;
            }
            let low = _mm512_set1_epi8(15);
            for s in 0..4 {
                let both = load(p.add(s * 64));
                w[s] = _mm512_and_si512(both, low);
                w[s + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
            }
            if BITS == 5 {
                let sixteen = _mm512_set1_epi8(16);
                for s in 0..8 {
                    let mask = p.add(256 + s * 8).cast::<u64>().read_unaligned();
                    w[s] = _mm512_mask_add_epi8(w[s], mask, w[s], sixteen);
                }
            }
            if BITS == 6 {
                let bits = _mm512_set1_epi8(0x30);
                for h in 0..2 {
                    let high = load(p.add(256 + h * 64));
                    let parts = [
                        _mm512_slli_epi16::<4>(high),
                        _mm512_slli_epi16::<2>(high),
                        high,
                        _mm512_srli_epi16::<2>(high),
                    ];
                    for s in 0..4 {
                        let w = &mut w[h * 4 + s];
                        *w = _mm512_or_si512(*w, _mm512_and_si512(parts[s], bits));
                    }
                }
            }
            w
        }
    }

    #[inline(always)]
    unsafe fn scales(&self, g: usize) -> [__m512; 2] {
        // SAFETY: the trait's contract; scale sizes are those of `Layout::scale_bytes`.
        unsafe {
            match KIND {
                CENTRED => {
                    let d = halves(self.scales.add(g * 32));
                    [d, _mm512_mul_ps(_mm512_set1_ps(-self.zero), d)]
                }
                OFFSET => {
                    let p = self.scales.add(g * 64);
                    [halves(p), halves(p.add(32))]
                }
                SUPER => {
                    let (p, sub) = (self.scales.add(g / 8 * 320), g % 8);
                    let scale = _mm512_mul_ps(halves(p), unsigned(p.add(64 + sub * TILE)));
                    let min = unsigned(p.add(192 + sub * TILE));
                    let dmin = _mm512_sub_ps(_mm512_setzero_ps(), halves(p.add(32)));
                    [scale, _mm512_mul_ps(dmin, min)]
                }
                _ => {
                    let (p, sub) = (self.scales.add(g / 8 * 288), g % 8 * 2);
                    let d = halves(p);
                    let scale = |h: usize| {
                        let bytes = _mm_loadu_si128(p.add(32 + (sub + h) * TILE).cast());
                        _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
                    };
                    [scale(0), scale(1)]
                }
            }
        }
    }
}

/// Some groups of a tile unpacked to bytes, see [`unpack`].
struct Unpacked<const H: usize> {
    bytes: *const u8,
    /// The group that `bytes` begins with.
    start: usize,
}

impl<const H: usize> Source for Unpacked<H> {
    const HALVES: usize = H;
    const WIDE: bool = true;

    type Weights = *const u8;

    #[inline(always)]
    unsafe fn weights(&self, g: usize) -> *const u8 {
        // SAFETY: the scratch holds `UNPACKED` bytes per group.
        unsafe { self.bytes.add((g - self.start) * UNPACKED) }
    }

    #[inline(always)]
    unsafe fn step(weights: *const u8, s: usize) -> __m512i {
        // SAFETY: as above; a group begins with 8 steps of 64 bytes.
        unsafe { load(weights.add(s * 64)) }
    }

    #[inline(always)]
    unsafe fn scales(&self, g: usize) -> [__m512; 2] {
        // SAFETY: as above; two registers follow the bytes.
        unsafe {
            let p = self.bytes.add((g - self.start) * UNPACKED + 512).cast::<f32>();
            [_mm512_loadu_ps(p), _mm512_loadu_ps(p.add(16))]
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn unpack<S: Source>(source: &S, part: &Range<usize>, out: *mut u8) {
    for g in part.clone() {
        // SAFETY: `out` has `UNPACKED` bytes per group; the source is valid for them.
        unsafe {
            source.prefetch(g);
            let p = out.add((g - part.start) * UNPACKED);
            let w = source.weights(g);
            for s in 0..8 {
                _mm512_store_si512(p.add(s * 64).cast(), S::step(w, s));
            }
            let scales = source.scales(g);
            let p = p.add(512).cast::<f32>();
            for h in 0..2 {
                _mm512_store_ps(p.add(h * 16), scales[h]);
            }
        }
    }
}

/// Where a block of input rows lies, see [`Activations`].
#[derive(Clone, Copy)]
struct Rows {
    q: *const i8,
    scale: *const f32,
    sum32: *const f32,
    zero16: *const i32,
}

/// A block of `C` input rows times some groups of one tile, added to what the groups before gave.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rows<S: Source, const C: usize>(source: &S, part: &Range<usize>, x: Rows, out: &mut [[f32; TILE]]) {
    let mut acc = [_mm512_setzero_ps(); C];
    if part.start > 0 {
        for c in 0..C {
            // SAFETY: `out[c]` is 16 floats.
            acc[c] = unsafe { _mm512_loadu_ps(out[c].as_ptr()) };
        }
    }
    let steps = 8 / S::HALVES;
    // Pointers that move, for addresses without an index, which cost an operation more each.
    let start = part.start * C;
    let (mut q, mut scale) = (x.q.wrapping_add(start * GROUP), x.scale.wrapping_add(start));
    let (mut sum, mut zero) = (x.sum32.wrapping_add(start), x.zero16.wrapping_add(start * 2));
    for g in part.clone() {
        // SAFETY: the block has `C` rows and these groups (checked by the caller); the source is valid for them.
        unsafe {
            source.prefetch(g);
            let input = |c: usize, s: usize| _mm512_set1_epi32(q.add(c * GROUP + s * 4).cast::<i32>().read_unaligned());
            let w = source.weights(g);
            let scales = source.scales(g);
            // Steps outside, rows inside: the multipliers work on `C` sums at a time instead of waiting for one.
            for h in 0..S::HALVES {
                let mut dot = [_mm512_setzero_si512(); C];
                if S::HALVES == 2 {
                    for c in 0..C {
                        dot[c] = _mm512_set1_epi32(*zero.add(c * 2 + h));
                    }
                }
                if C < 4 && S::HALVES == 1 {
                    // Few rows: two shorter chains each, an exact sum.
                    let mut other = [_mm512_setzero_si512(); C];
                    for s in 0..4 {
                        let (low, high) = (S::step(w, s), S::step(w, s + 4));
                        for c in 0..C {
                            dot[c] = _mm512_dpbusd_epi32(dot[c], low, input(c, s));
                            other[c] = _mm512_dpbusd_epi32(other[c], high, input(c, s + 4));
                        }
                    }
                    for c in 0..C {
                        dot[c] = _mm512_add_epi32(dot[c], other[c]);
                    }
                } else {
                    for s in h * steps..(h + 1) * steps {
                        let w = S::step(w, s);
                        for c in 0..C {
                            dot[c] = _mm512_dpbusd_epi32(dot[c], w, input(c, s));
                        }
                    }
                }
                for c in 0..C {
                    let a = _mm512_set1_ps(*scale.add(c));
                    acc[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[c]), _mm512_mul_ps(scales[h], a), acc[c]);
                    if S::HALVES == 1 {
                        acc[c] = _mm512_fmadd_ps(scales[1], _mm512_set1_ps(*sum.add(c)), acc[c]);
                    }
                }
            }
            (q, scale, sum, zero) = (q.add(C * GROUP), scale.add(C), sum.add(C), zero.add(C * 2));
        }
    }
    for c in 0..C {
        // SAFETY: `out[c]` is 16 floats.
        unsafe { _mm512_storeu_ps(out[c].as_mut_ptr(), acc[c]) };
    }
}

/// All blocks of rows times some groups of one tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn all_rows<S: Source>(source: &S, part: &Range<usize>, x: &Activations, out: &mut [[f32; TILE]]) {
    let groups = x.k / GROUP;
    for b in 0..x.blocks() {
        let block = x.block(b);
        let first = block.start * groups;
        let out = &mut out[block.clone()];
        // SAFETY: a block's groups begin at its first row's; forwarded from the caller otherwise.
        unsafe {
            let x = Rows {
                q: x.q.as_ptr().add(first * GROUP),
                scale: x.scale.as_ptr().add(first),
                sum32: x.sum32.as_ptr().add(first),
                zero16: x.zero16.as_ptr().add(first * 2),
            };
            match block.len() {
                1 => rows::<S, 1>(source, part, x, out),
                2 => rows::<S, 2>(source, part, x, out),
                3 => rows::<S, 3>(source, part, x, out),
                4 => rows::<S, 4>(source, part, x, out),
                5 => rows::<S, 5>(source, part, x, out),
                6 => rows::<S, 6>(source, part, x, out),
                7 => rows::<S, 7>(source, part, x, out),
                8 => rows::<S, 8>(source, part, x, out),
                9 if S::WIDE => rows::<S, 9>(source, part, x, out),
                10 if S::WIDE => rows::<S, 10>(source, part, x, out),
                11 if S::WIDE => rows::<S, 11>(source, part, x, out),
                BLOCK if S::WIDE => rows::<S, BLOCK>(source, part, x, out),
                height => unreachable!("a block of {height} rows"),
            }
        }
    }
}

/// Room for some unpacked groups, aligned to a register.
#[repr(align(64))]
struct Scratch([u8; CHUNK * UNPACKED]);

thread_local! {
    /// Unpacked groups, kept by each thread.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch([0; CHUNK * UNPACKED])) };
}

/// SAFETY: needs the features of `Tier::Avx512`; `BITS` and `KIND` are the layout's.
unsafe fn run<const BITS: u8, const KIND: u8>(layout: &Layout, bytes: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    let groups = layout.groups;
    let packed = |t: usize| Packed::<BITS, KIND>::new(layout, &bytes[t * layout.tile_bytes..][..layout.tile_bytes]);
    if x.block(0).len() <= DIRECT {
        for (t, out) in out.chunks_exact_mut(x.n).enumerate() {
            // SAFETY: a tile holds what its layout says; the caller's contract.
            unsafe { all_rows(&packed(t), &(0..groups), x, out) };
        }
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let bytes = scratch.0.as_mut_ptr();
        let (tiles, starts) = (out.len() / x.n, (0..groups).step_by(CHUNK));
        let mut step = |start: usize, t: usize| {
            let part = start..groups.min(start + CHUNK);
            let out = &mut out[t * x.n..(t + 1) * x.n];
            // SAFETY: as above; the scratch holds `CHUNK` groups.
            unsafe {
                unpack(&packed(t), &part, bytes);
                if KIND == SIX {
                    all_rows(&Unpacked::<2> { bytes, start }, &part, x, out);
                } else {
                    all_rows(&Unpacked::<1> { bytes, start }, &part, x, out);
                }
            }
        };
        if x.q.len() > NEAR {
            // The inputs of some groups stay near for all tiles.
            starts.for_each(|start| (0..tiles).for_each(|t| step(start, t)));
        } else {
            (0..tiles).for_each(|t| starts.clone().for_each(|start| step(start, t)));
        }
    });
}

/// [`super::portable::tile`] for tiles that follow one another. SAFETY: needs the features of `Tier::Avx512`.
pub unsafe fn tiles(layout: &Layout, bytes: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    assert!(x.k == layout.groups * GROUP && out.len() == bytes.len() / layout.tile_bytes * x.n);
    if x.n == 0 {
        return;
    }
    // SAFETY: the tier is the caller's promise, the formats are the layout's.
    unsafe { for_layout!(layout, run(layout, bytes, x, out)) }
}

/// See [`super::activation::quantize_groups`]. SAFETY: needs the features of `Tier::Avx512`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn quantize(part: &mut ActivationPart<'_>, row: usize, x: &[f32]) {
    let place = part.place(row);
    let (groups, _) = x.as_chunks::<GROUP>();
    let (q, _) = part.q.as_chunks_mut::<GROUP>();
    let (zero16, _) = part.zero16.as_chunks_mut::<2>();
    let (scale, sum32) = (&mut *part.scale, &mut *part.sum32);
    let magic = _mm512_set1_ps(MAGIC);
    for (g, x) in groups.iter().enumerate() {
        let at = place.group(g);
        // SAFETY: a group is two registers of floats, and as integers two quarters of one.
        let (low, high) = unsafe { (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))) };
        let d = scale_of(_mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high))));
        let inverse = _mm512_set1_ps(if d > 0.0 { 1.0 / d } else { 0.0 });
        let round = |v| {
            let shifted = _mm512_castps_si512(_mm512_add_ps(_mm512_mul_ps(v, inverse), magic));
            _mm512_cvtepi32_epi8(_mm512_sub_epi32(shifted, _mm512_castps_si512(magic)))
        };
        let (low, high) = (round(low), round(high));
        // SAFETY: as above.
        unsafe {
            let to = q[at].as_mut_ptr();
            _mm_storeu_si128(to.cast(), low);
            _mm_storeu_si128(to.add(16).cast(), high);
        }
        let sum = |v| {
            let fours = _mm_dpbusd_epi32(_mm_setzero_si128(), _mm_set1_epi8(1), v);
            let twos = _mm_add_epi32(fours, _mm_shuffle_epi32::<0b01_00_11_10>(fours));
            _mm_cvtsi128_si32(_mm_add_epi32(twos, _mm_shuffle_epi32::<0b10_11_00_01>(twos)))
        };
        let (a, b) = (sum(low), sum(high));
        scale[at] = d;
        zero16[at] = [-32 * a, -32 * b];
        sum32[at] = d * (a + b) as f32;
    }
}
