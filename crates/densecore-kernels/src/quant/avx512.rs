//! Packed products with 512-bit 8-bit dot products (VNNI).
//!
//! Few input rows read the packed payload straight into registers; many first unpack a tile to bytes that stay in
//! the first-level cache and are read once per block of eight rows. Both run the same operations in the same order.

use super::activation::{Activations, GROUP};
use super::layout::{Bits, Layout, Scales, TILE};
use std::arch::x86_64::*;
use std::cell::RefCell;

/// Input rows handled together: eight accumulators, eight weight registers and the temporaries fit into 32.
const BLOCK: usize = 8;
/// From this many rows on, unpacking a tile once pays.
const UNPACK_FROM: usize = 3;
/// How far ahead of its use a packed payload is asked for (bytes): memory takes longer than one group's products.
const AHEAD: usize = 4096;
/// Bytes of an unpacked group: 8 x 64 quants, then per half scales and offsets of 16 floats.
const UNPACKED: usize = 512 + 256;

/// How a group of one tile becomes eight registers of bytes and its scales and offsets.
trait Source {
    /// Scale groups per 32 components: 1, or 2 for Q6_K.
    const HALVES: usize;
    /// SAFETY: `payload` points at the tile and `g` is below its groups; needs AVX-512 BW.
    unsafe fn weights(&self, g: usize) -> [__m512i; 8];
    /// Asks for what a later group will need.
    fn prefetch(&self, _g: usize) {}
    /// SAFETY: as above.
    unsafe fn scales(&self, g: usize) -> ([__m512; 2], [__m512; 2]);
}

struct Packed<const BITS: u8, const KIND: u8> {
    payload: *const u8,
    scales: *const u8,
    zero: f32,
}
const CENTRED: u8 = 0;
const OFFSET: u8 = 1;
const SUPER: u8 = 2;
const SIX: u8 = 3;

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

impl<const BITS: u8, const KIND: u8> Packed<BITS, KIND> {
    /// Bytes of a group's payload.
    const SIZE: usize = match BITS {
        4 => 256,
        5 => 320,
        6 => 384,
        _ => 512,
    };
}

impl<const BITS: u8, const KIND: u8> Source for Packed<BITS, KIND> {
    const HALVES: usize = if KIND == SIX { 2 } else { 1 };

    #[inline(always)]
    fn prefetch(&self, g: usize) {
        let size = Self::SIZE;
        let ahead = self.payload.wrapping_add(g * size + AHEAD);
        for line in 0..size / 64 {
            // SAFETY: a prefetch does not read; any address will do.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line * 64).cast()) };
        }
    }

    #[inline(always)]
    unsafe fn weights(&self, g: usize) -> [__m512i; 8] {
        // SAFETY: the trait's contract; payload sizes are those of `Layout::payload`.
        unsafe {
            let mut w = [_mm512_setzero_si512(); 8];
            if BITS == 8 {
                let p = self.payload.add(g * 512);
                for s in 0..8 {
                    w[s] = load(p.add(s * 64));
                }
                return w;
            }
            let p = self.payload.add(g * Self::SIZE);
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
    unsafe fn scales(&self, g: usize) -> ([__m512; 2], [__m512; 2]) {
        // SAFETY: the trait's contract; scale sizes are those of `Layout::scale_bytes`.
        unsafe {
            let none = _mm512_setzero_ps();
            match KIND {
                CENTRED => {
                    let d = halves(self.scales.add(g * 32));
                    ([d, none], [_mm512_mul_ps(_mm512_set1_ps(-self.zero), d), none])
                }
                OFFSET => {
                    let p = self.scales.add(g * 64);
                    ([halves(p), none], [halves(p.add(32)), none])
                }
                SUPER => {
                    let (p, sub) = (self.scales.add(g / 8 * 320), g % 8);
                    let scale = _mm512_mul_ps(halves(p), unsigned(p.add(64 + sub * TILE)));
                    let min = unsigned(p.add(192 + sub * TILE));
                    let dmin = _mm512_sub_ps(none, halves(p.add(32)));
                    ([scale, none], [_mm512_mul_ps(dmin, min), none])
                }
                _ => {
                    let (p, sub) = (self.scales.add(g / 8 * 288), g % 8 * 2);
                    let d = halves(p);
                    let mut scale = [none; 2];
                    let mut offset = [none; 2];
                    for h in 0..2 {
                        let bytes = _mm_loadu_si128(p.add(32 + (sub + h) * TILE).cast());
                        let s = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
                        scale[h] = _mm512_mul_ps(d, s);
                        offset[h] = _mm512_mul_ps(_mm512_set1_ps(-32.0), scale[h]);
                    }
                    (scale, offset)
                }
            }
        }
    }
}

/// A tile unpacked to bytes, see [`unpack`].
struct Unpacked<const H: usize>(*const u8);

impl<const H: usize> Source for Unpacked<H> {
    const HALVES: usize = H;

    #[inline(always)]
    unsafe fn weights(&self, g: usize) -> [__m512i; 8] {
        // SAFETY: the scratch holds `UNPACKED` bytes per group.
        unsafe {
            let p = self.0.add(g * UNPACKED);
            std::array::from_fn(|s| load(p.add(s * 64)))
        }
    }

    #[inline(always)]
    unsafe fn scales(&self, g: usize) -> ([__m512; 2], [__m512; 2]) {
        // SAFETY: as above; two scale and two offset registers follow the bytes.
        unsafe {
            let p = self.0.add(g * UNPACKED + 512).cast::<f32>();
            let at = |i: usize| _mm512_loadu_ps(p.add(i * 16));
            if H == 1 { ([at(0), at(0)], [at(2), at(2)]) } else { ([at(0), at(1)], [at(2), at(3)]) }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn unpack<S: Source>(source: &S, groups: usize, out: *mut u8) {
    for g in 0..groups {
        // SAFETY: `out` has `UNPACKED` bytes per group; the source is valid for `groups`.
        unsafe {
            let p = out.add(g * UNPACKED);
            for (s, w) in source.weights(g).into_iter().enumerate() {
                _mm512_storeu_si512(p.add(s * 64).cast(), w);
            }
            let (scale, offset) = source.scales(g);
            let p = p.add(512).cast::<f32>();
            for h in 0..2 {
                _mm512_storeu_ps(p.add(h * 16), scale[h]);
                _mm512_storeu_ps(p.add(32 + h * 16), offset[h]);
            }
        }
    }
}

/// `C` input rows times one tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn rows<S: Source, const C: usize>(
    source: &S,
    groups: usize,
    x: &Activations,
    first: usize,
    out: &mut [[f32; TILE]],
) {
    let q = x.q.as_ptr();
    let (scale, sum32, sum16) = (x.scale.as_ptr(), x.sum32.as_ptr(), x.sum16.as_ptr());
    let mut acc = [_mm512_setzero_ps(); C];
    for g in 0..groups {
        // SAFETY: `first + C` rows of `groups` groups exist in `x` (checked by the caller); the source is valid.
        unsafe {
            source.prefetch(g);
            let w = source.weights(g);
            let (ws, offset) = source.scales(g);
            for c in 0..C {
                let row = first + c;
                let q = q.add(row * x.k + g * GROUP).cast::<i32>();
                let group = row * groups + g;
                let a = _mm512_set1_ps(*scale.add(group));
                let step = |dot, s: usize| _mm512_dpbusd_epi32(dot, w[s], _mm512_set1_epi32(q.add(s).read_unaligned()));
                if S::HALVES == 1 {
                    let mut dot = _mm512_setzero_si512();
                    if C < 4 {
                        // Few rows leave the multipliers waiting for one another: two shorter chains, an exact sum.
                        let mut other = _mm512_setzero_si512();
                        for s in 0..4 {
                            dot = step(dot, s);
                            other = step(other, s + 4);
                        }
                        dot = _mm512_add_epi32(dot, other);
                    } else {
                        for s in 0..8 {
                            dot = step(dot, s);
                        }
                    }
                    let sum = _mm512_set1_ps(*sum32.add(group));
                    acc[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(ws[0], a), acc[c]);
                    acc[c] = _mm512_fmadd_ps(offset[0], sum, acc[c]);
                } else {
                    for h in 0..2 {
                        let mut dot = _mm512_setzero_si512();
                        for s in 0..4 {
                            dot = step(dot, h * 4 + s);
                        }
                        let sum = _mm512_set1_ps(*sum16.add(group * 2 + h));
                        acc[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(ws[h], a), acc[c]);
                        acc[c] = _mm512_fmadd_ps(offset[h], sum, acc[c]);
                    }
                }
            }
        }
    }
    for c in 0..C {
        // SAFETY: `out[c]` is 16 floats.
        unsafe { _mm512_storeu_ps(out[c].as_mut_ptr(), acc[c]) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn all_rows<S: Source>(source: &S, groups: usize, x: &Activations, first: usize, out: &mut [[f32; TILE]]) {
    let mut done = 0;
    while done < out.len() {
        let (left, at, part) = (out.len() - done, first + done, &mut out[done..]);
        // SAFETY: forwarded from the caller.
        done += unsafe {
            match left {
                BLOCK.. => {
                    rows::<S, BLOCK>(source, groups, x, at, part);
                    BLOCK
                }
                4.. => {
                    rows::<S, 4>(source, groups, x, at, part);
                    4
                }
                2.. => {
                    rows::<S, 2>(source, groups, x, at, part);
                    2
                }
                _ => {
                    rows::<S, 1>(source, groups, x, at, part);
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

unsafe fn run<S: Source>(source: &S, groups: usize, x: &Activations, first: usize, out: &mut [[f32; TILE]]) {
    if out.len() < UNPACK_FROM {
        // SAFETY: forwarded from `tile`.
        unsafe { all_rows(source, groups, x, first, out) };
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(groups * UNPACKED + 64), 0);
        let skip = scratch.as_ptr().align_offset(64);
        // SAFETY: 64 spare bytes allow the alignment; sizes as `unpack` needs them.
        unsafe {
            let aligned = scratch.as_mut_ptr().add(skip);
            unpack(source, groups, aligned);
            if S::HALVES == 1 {
                all_rows(&Unpacked::<1>(aligned), groups, x, first, out);
            } else {
                all_rows(&Unpacked::<2>(aligned), groups, x, first, out);
            }
        }
    });
}

/// See [`super::portable::tile`]. SAFETY: needs the features of `Tier::Avx512`.
pub unsafe fn tile(layout: &Layout, tile: &[u8], x: &Activations, first: usize, out: &mut [[f32; TILE]]) {
    assert!(tile.len() >= layout.groups * layout.payload + layout.scale_bytes);
    assert!(x.k == layout.groups * GROUP && first + out.len() <= x.n);
    let payload = tile.as_ptr();
    let scales = tile[layout.groups * layout.payload..].as_ptr();
    macro_rules! packed {
        ($bits:literal, $kind:ident, $zero:expr) => {{
            let source = Packed::<$bits, $kind> { payload, scales, zero: $zero };
            // SAFETY: the lengths were checked above, the tier by the caller.
            unsafe { run(&source, layout.groups, x, first, out) }
        }};
    }
    match (layout.bits, layout.scales) {
        (Bits::Four, Scales::Centred { zero }) => packed!(4, CENTRED, f32::from(zero)),
        (Bits::Four, Scales::Offset) => packed!(4, OFFSET, 0.0),
        (Bits::Four, _) => packed!(4, SUPER, 0.0),
        (Bits::Five, Scales::Centred { zero }) => packed!(5, CENTRED, f32::from(zero)),
        (Bits::Five, Scales::Offset) => packed!(5, OFFSET, 0.0),
        (Bits::Five, _) => packed!(5, SUPER, 0.0),
        (Bits::Six, _) => packed!(6, SIX, 0.0),
        (Bits::Eight, Scales::Centred { zero }) => packed!(8, CENTRED, f32::from(zero)),
        (Bits::Eight, _) => packed!(8, OFFSET, 0.0),
    }
}
