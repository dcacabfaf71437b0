//! Packed products with 256-bit integers, for processors without 512-bit dot products.
//!
//! A register holds half a tile (eight rows); both halves go through together, so that the payload streams by once.
//! Few input rows read the packed payload straight into registers. Many first unpack a stretch of a tile to bytes
//! that stay in the first-level cache, and read them once per block of rows.
//!
//! Products are summed by one of two [`Dots`]: with AVX-VNNI, in 32 bits; without, in pairs of 16 bits as long as
//! they fit, which depends on the width of the quants. These sums are exact, and the floats after them are computed
//! in the order of the reference, so results equal it bit for bit.

use super::activation::{Activations, GROUP, MAGIC};
use super::layout::{Layout, TILE};
use super::packed::{CENTRED, OFFSET, Packed, SIX, SUPER, for_layout};
use crate::cpu;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Groups unpacked at a time: 20 KiB, which leave room for inputs in the first-level cache.
const STRETCH: usize = 32;
/// Bytes of an unpacked group: 8 x 64 quants, then twice 16 floats.
const UNPACKED: usize = 512 + 128;

/// Exact sums of products of unsigned weights of `BITS` bits and signed inputs, a row of the tile in each 32-bit lane.
/// Functions need the processor features of their implementation.
trait Dots<const BITS: u8> {
    /// A chain of at most eight steps.
    type Sum: Copy;
    /// Whether a step waits for the one before, so that two short chains are faster than a long one.
    const WAITS: bool;
    /// From this many input rows on, unpacking pays.
    const UNPACK_FROM: usize;
    /// Input rows whose sums fit into registers beside two halves of weights.
    const BLOCK: usize;
    /// An empty chain.
    unsafe fn start() -> Self::Sum;
    /// A chain that begins at a number. Of six bits only, whose zero is taken off so.
    unsafe fn start_at(number: i32) -> Self::Sum;
    /// An empty chain to be the second of [`Dots::join`].
    unsafe fn second() -> Self::Sum;
    /// Adds four products to each lane, as step `s` of its chain.
    unsafe fn add(sum: &mut Self::Sum, s: usize, w: __m256i, a: __m256i);
    /// A chain of four or eight steps as floats.
    unsafe fn float(sum: Self::Sum) -> __m256;
    /// Two chains of four steps as one.
    unsafe fn join(first: Self::Sum, second: Self::Sum) -> Self::Sum;
    /// The bits of a 32-bit number, the same in every lane, to bit 4 of 32 bytes.
    unsafe fn sixteens(mask: __m256i) -> __m256i;
}

/// AVX-VNNI, and GFNI for the fifth bits. Sums start at the bits of a float so large that adding an integer to them
/// adds it to the float: a subtraction then makes a float of the sum (below 2^22), on a port that the products leave
/// free.
struct Vnni;
/// Bit `j` of byte `j`.
const BIT: i64 = 0x8040_2010_0804_0201_u64 as i64;

impl<const BITS: u8> Dots<BITS> for Vnni {
    type Sum = __m256i;
    const WAITS: bool = true;
    const UNPACK_FROM: usize = if BITS == 5 || BITS == 6 { 5 } else { 9 };
    const BLOCK: usize = 4;
    #[inline(always)]
    unsafe fn start() -> __m256i {
        // SAFETY: the trait's contract, as in all that follows.
        unsafe { _mm256_set1_epi32(MAGIC.to_bits() as i32) }
    }
    #[inline(always)]
    unsafe fn start_at(number: i32) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_set1_epi32(MAGIC.to_bits() as i32 + number) }
    }
    #[inline(always)]
    unsafe fn second() -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn add(sum: &mut __m256i, _s: usize, w: __m256i, a: __m256i) {
        // SAFETY: as above.
        *sum = unsafe { _mm256_dpbusd_avx_epi32(*sum, w, a) };
    }
    #[inline(always)]
    unsafe fn float(sum: __m256i) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_sub_ps(_mm256_castsi256_ps(sum), _mm256_set1_ps(MAGIC)) }
    }
    #[inline(always)]
    unsafe fn join(first: __m256i, second: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(first, second) }
    }
    #[inline(always)]
    unsafe fn sixteens(mask: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe {
            // One row of a bit matrix, the one for bit 4, for each eight bytes; byte `j` picks its bit `j`.
            let row = |byte: i64| 0x8080_8080_0080_8080_u64 as i64 | byte << 24;
            let rows = _mm256_shuffle_epi8(mask, _mm256_setr_epi64x(row(0), row(1), row(2), row(3)));
            _mm256_gf2p8affine_epi64_epi8::<0>(_mm256_set1_epi64x(BIT), rows)
        }
    }
}

/// AVX2. A pair of products is at most 2 * 127 * the largest weight: eight pairs of 4 bits fit into 16 bits, four of
/// 5 bits, two of 6 bits. Of 8 bits not even one does; they are split into two nibbles.
struct Plain;

/// 16-bit pairs in the making (of low nibbles), and what was moved to 32 bits (pairs of high nibbles).
type Narrow = [__m256i; 2];

impl<const BITS: u8> Dots<BITS> for Plain {
    type Sum = Narrow;
    const WAITS: bool = false;
    const UNPACK_FROM: usize = match BITS {
        5 => 3,
        6 => 2,
        _ => 9,
    };
    const BLOCK: usize = if BITS == 4 { 4 } else { 2 };
    #[inline(always)]
    unsafe fn start() -> Narrow {
        // SAFETY: the trait's contract, as in all that follows.
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    unsafe fn start_at(number: i32) -> Narrow {
        // SAFETY: as above.
        unsafe { [_mm256_setzero_si256(), _mm256_set1_epi32(number)] }
    }
    #[inline(always)]
    unsafe fn second() -> Narrow {
        // SAFETY: as above.
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    unsafe fn add(sum: &mut Narrow, s: usize, w: __m256i, a: __m256i) {
        // SAFETY: as above.
        unsafe {
            if BITS == 8 {
                let low = _mm256_set1_epi8(15);
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(w), low);
                sum[0] = _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(_mm256_and_si256(w, low), a));
                sum[1] = _mm256_add_epi16(sum[1], _mm256_maddubs_epi16(upper, a));
                return;
            }
            sum[0] = _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(w, a));
            if (BITS == 5 && s % 4 == 3) || (BITS == 6 && s % 2 == 1) {
                sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(sum[0], _mm256_set1_epi16(1)));
                sum[0] = _mm256_setzero_si256();
            }
        }
    }
    #[inline(always)]
    unsafe fn float(sum: Narrow) -> __m256 {
        // SAFETY: as above.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            _mm256_cvtepi32_ps(match BITS {
                4 => _mm256_madd_epi16(sum[0], ones),
                8 => {
                    let upper = _mm256_madd_epi16(sum[1], _mm256_set1_epi16(16));
                    _mm256_add_epi32(_mm256_madd_epi16(sum[0], ones), upper)
                }
                _ => sum[1],
            })
        }
    }
    #[inline(always)]
    unsafe fn join(first: Narrow, second: Narrow) -> Narrow {
        // SAFETY: as above.
        unsafe {
            if BITS == 4 || BITS == 8 {
                [_mm256_add_epi16(first[0], second[0]), _mm256_add_epi16(first[1], second[1])]
            } else {
                [first[0], _mm256_add_epi32(first[1], second[1])]
            }
        }
    }
    #[inline(always)]
    unsafe fn sixteens(mask: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
            let bit = _mm256_set1_epi64x(BIT);
            let set = _mm256_and_si256(_mm256_shuffle_epi8(mask, spread), bit);
            _mm256_and_si256(_mm256_cmpeq_epi8(set, bit), _mm256_set1_epi8(16))
        }
    }
}

#[inline(always)]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller has AVX2 and passes a pointer to 32 readable bytes.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

#[inline(always)]
unsafe fn halves(p: *const u8) -> __m256 {
    // SAFETY: the caller has F16C and passes a pointer to eight half floats.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
}

#[inline(always)]
unsafe fn unsigned(p: *const u8) -> __m256 {
    // SAFETY: the caller has AVX2 and passes a pointer to eight bytes.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
}

#[inline(always)]
unsafe fn signed(p: *const u8) -> __m256 {
    // SAFETY: the caller has AVX2 and passes a pointer to eight bytes.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
}

impl<const BITS: u8, const KIND: u8> Packed<BITS, KIND> {
    /// Steps `s` and `s + 4` (`s` below 4) of half `h`. SAFETY: `g` is a group of the tile; needs AVX2.
    #[inline(always)]
    unsafe fn steps<D: Dots<BITS>>(&self, g: usize, s: usize, h: usize) -> [__m256i; 2] {
        // SAFETY: the caller's contract; payload sizes are those of `Layout::payload`.
        unsafe {
            let p = self.payload.add(g * Self::SIZE);
            let both = load(p.add(s * 64 + h * 32));
            if BITS == 8 {
                return [both, load(p.add((s + 4) * 64 + h * 32))];
            }
            let low = _mm256_set1_epi8(15);
            let mut w = [_mm256_and_si256(both, low), _mm256_and_si256(_mm256_srli_epi16::<4>(both), low)];
            if BITS == 5 {
                for i in 0..2 {
                    let mask = p.add(256 + (s + 4 * i) * 8 + h * 4).cast::<i32>().read_unaligned();
                    w[i] = _mm256_or_si256(w[i], D::sixteens(_mm256_set1_epi32(mask)));
                }
            }
            if BITS == 6 {
                for i in 0..2 {
                    let high = load(p.add(256 + i * 64 + h * 32));
                    let high = match s {
                        0 => _mm256_slli_epi16::<4>(high),
                        1 => _mm256_slli_epi16::<2>(high),
                        2 => high,
                        _ => _mm256_srli_epi16::<2>(high),
                    };
                    w[i] = _mm256_or_si256(w[i], _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
                }
            }
            w
        }
    }

    /// Scale and offset of half `h`, or its scales of the group's two parts, whose zero is taken off before.
    /// SAFETY: `g` is a group of the tile; needs AVX2 and F16C.
    #[inline(always)]
    unsafe fn scales(&self, g: usize, h: usize) -> [__m256; 2] {
        // SAFETY: the caller's contract; scale sizes are those of `Layout::scale_bytes`.
        unsafe {
            match KIND {
                CENTRED => {
                    let d = halves(self.scales.add(g * 32 + h * 16));
                    [d, _mm256_mul_ps(_mm256_set1_ps(-self.zero), d)]
                }
                OFFSET => {
                    let at = self.scales.add(g * 64 + h * 16);
                    [halves(at), halves(at.add(32))]
                }
                SUPER => {
                    let (block, at) = (self.scales.add(g / 8 * 320), g % 8 * TILE + h * 8);
                    let (d, dmin) = (halves(block.add(h * 16)), halves(block.add(32 + h * 16)));
                    let negative = _mm256_xor_ps(dmin, _mm256_set1_ps(-0.0));
                    let (scale, min) = (unsigned(block.add(64 + at)), unsigned(block.add(192 + at)));
                    [_mm256_mul_ps(d, scale), _mm256_mul_ps(negative, min)]
                }
                _ => {
                    let (block, at) = (self.scales.add(g / 8 * 288), g % 8 * 2 * TILE + h * 8);
                    let d = halves(block.add(h * 16));
                    let scale = |part: usize| _mm256_mul_ps(d, signed(block.add(32 + at + part * TILE)));
                    [scale(0), scale(1)]
                }
            }
        }
    }
}

/// Where the numbers of a block of input rows lie, see [`Activations`].
#[derive(Clone, Copy)]
struct Rows {
    q: *const i8,
    scale: *const f32,
    sum: *const f32,
    zero: *const i32,
    height: usize,
    groups: usize,
}

impl Rows {
    fn new(x: &Activations, b: usize) -> Self {
        let (groups, rows) = (x.k / GROUP, x.block(b));
        let first = rows.start * groups;
        Self {
            q: x.q[first * GROUP..].as_ptr(),
            scale: x.scale[first..].as_ptr(),
            sum: x.sum32[first..].as_ptr(),
            zero: x.zero16[first * 2..].as_ptr(),
            height: rows.len(),
            groups,
        }
    }

    /// Four components of a row, in every lane. SAFETY: they exist; needs AVX2.
    #[inline(always)]
    unsafe fn four(&self, row: usize, g: usize, step: usize) -> __m256i {
        // SAFETY: the caller's contract.
        unsafe {
            let q = self.q.add((g * self.height + row) * GROUP + step * 4);
            _mm256_set1_epi32(q.cast::<i32>().read_unaligned())
        }
    }

    /// What half `p` of a group of six bits begins with. SAFETY: it exists.
    #[inline(always)]
    unsafe fn zero(&self, row: usize, g: usize, p: usize) -> i32 {
        // SAFETY: the caller's contract.
        unsafe { *self.zero.add((g * self.height + row) * 2 + p) }
    }

    /// `acc` and the product of a group, or of its part, that `scale` belongs to. SAFETY: as for `four`, with FMA.
    #[inline(always)]
    unsafe fn scaled(&self, row: usize, g: usize, dot: __m256, scale: __m256, acc: __m256) -> __m256 {
        // SAFETY: the caller's contract.
        unsafe {
            let input = _mm256_set1_ps(*self.scale.add(g * self.height + row));
            _mm256_fmadd_ps(dot, _mm256_mul_ps(scale, input), acc)
        }
    }

    /// `acc` and what the offset of a group's weights adds. SAFETY: as above.
    #[inline(always)]
    unsafe fn offset(&self, row: usize, g: usize, offset: __m256, acc: __m256) -> __m256 {
        // SAFETY: the caller's contract.
        unsafe { _mm256_fmadd_ps(offset, _mm256_set1_ps(*self.sum.add(g * self.height + row)), acc) }
    }
}

/// `C` input rows times one packed tile. SAFETY: all rows and groups exist; needs the features of `D`.
#[inline(always)]
unsafe fn few<D: Dots<BITS>, const BITS: u8, const KIND: u8, const C: usize>(
    tile: &Packed<BITS, KIND>,
    x: Rows,
    first: usize,
    out: &mut [[f32; TILE]],
) {
    // A single row or two leave the multipliers idle if steps wait for one another.
    let two = D::WAITS && C <= 2;
    // SAFETY: the caller's contract.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); C]; 2];
        for g in 0..x.groups {
            tile.ask_ahead(g);
            let mut low = [[D::start(); C]; 2];
            // The upper steps, if they have their own scale or their own chain.
            let mut high = [[D::second(); C]; 2];
            if KIND == SIX {
                for c in 0..C {
                    for h in 0..2 {
                        low[h][c] = D::start_at(x.zero(first + c, g, 0));
                        high[h][c] = D::start_at(x.zero(first + c, g, 1));
                    }
                }
            }
            for s in 0..4 {
                let w = [tile.steps::<D>(g, s, 0), tile.steps::<D>(g, s, 1)];
                for c in 0..C {
                    let a = [x.four(first + c, g, s), x.four(first + c, g, s + 4)];
                    for h in 0..2 {
                        if KIND == SIX || two {
                            D::add(&mut low[h][c], s, w[h][0], a[0]);
                            D::add(&mut high[h][c], s, w[h][1], a[1]);
                        } else {
                            D::add(&mut low[h][c], 2 * s, w[h][0], a[0]);
                            D::add(&mut low[h][c], 2 * s + 1, w[h][1], a[1]);
                        }
                    }
                }
            }
            for h in 0..2 {
                let scales = tile.scales(g, h);
                for c in 0..C {
                    let (row, low, high) = (first + c, low[h][c], high[h][c]);
                    if KIND == SIX {
                        acc[h][c] = x.scaled(row, g, D::float(low), scales[0], acc[h][c]);
                        acc[h][c] = x.scaled(row, g, D::float(high), scales[1], acc[h][c]);
                    } else {
                        let dot = D::float(if two { D::join(low, high) } else { low });
                        acc[h][c] = x.scaled(row, g, dot, scales[0], acc[h][c]);
                        acc[h][c] = x.offset(row, g, scales[1], acc[h][c]);
                    }
                }
            }
        }
        for c in 0..C {
            for h in 0..2 {
                _mm256_storeu_ps(out[c].as_mut_ptr().add(h * 8), acc[h][c]);
            }
        }
    }
}

/// A stretch of a tile as bytes and floats.
type Stretch = [__m256i; STRETCH * UNPACKED / 32];

/// Fills a stretch from `len` groups from `from` on; quants of 8 bits stay where they are. SAFETY: the groups exist;
/// needs the features of `D`.
#[inline(always)]
unsafe fn unpack<D: Dots<BITS>, const BITS: u8, const KIND: u8>(
    tile: &Packed<BITS, KIND>,
    from: usize,
    len: usize,
    out: *mut u8,
) {
    for i in 0..len {
        // SAFETY: the caller's contract; `out` has `UNPACKED` bytes per group.
        unsafe {
            let (g, out) = (from + i, out.add(i * UNPACKED));
            for h in 0..2 {
                for s in 0..if BITS == 8 { 0 } else { 4 } {
                    let w = tile.steps::<D>(g, s, h);
                    _mm256_store_si256(out.add(s * 64 + h * 32).cast(), w[0]);
                    _mm256_store_si256(out.add((s + 4) * 64 + h * 32).cast(), w[1]);
                }
                let scales = tile.scales(g, h);
                for i in 0..2 {
                    _mm256_store_ps(out.add(512 + i * 64 + h * 32).cast(), scales[i]);
                }
            }
        }
    }
}

/// `C` input rows times `len` unpacked groups from `from` on, added to `out`; meanwhile asks for `lines` cache lines
/// a group from `ahead` on. The quants of a group are `size` from the next in `bytes`. SAFETY: all rows and groups
/// exist; needs the features of `D`.
#[inline(always)]
unsafe fn many<D: Dots<BITS>, const BITS: u8, const PARTS: usize, const C: usize>(
    (bytes, size): (*const u8, usize),
    stretch: *const u8,
    (from, len): (usize, usize),
    (ahead, lines): (*const u8, usize),
    x: Rows,
    first: usize,
    out: &mut [[f32; TILE]],
) {
    // SAFETY: the caller's contract; a prefetch does not read, any address will do.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); C]; 2];
        for c in 0..C {
            for h in 0..2 {
                acc[h][c] = _mm256_loadu_ps(out[c].as_ptr().add(h * 8));
            }
        }
        for i in 0..len {
            let (g, base) = (from + i, stretch.add(i * UNPACKED));
            for line in 0..lines {
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add((i * lines + line) * 64).cast());
            }
            for p in 0..PARTS {
                let mut dot = [[D::start(); C]; 2];
                if PARTS == 2 {
                    for c in 0..C {
                        let start = D::start_at(x.zero(first + c, g, p));
                        (dot[0][c], dot[1][c]) = (start, start);
                    }
                }
                for s in 0..8 / PARTS {
                    let step = p * 4 + s;
                    let at = bytes.add(i * size + step * 64);
                    let w = [load(at), load(at.add(32))];
                    for c in 0..C {
                        let a = x.four(first + c, g, step);
                        for h in 0..2 {
                            D::add(&mut dot[h][c], s, w[h], a);
                        }
                    }
                }
                for h in 0..2 {
                    let floats = |i: usize| _mm256_load_ps(base.add(512 + i * 64 + h * 32).cast());
                    for c in 0..C {
                        acc[h][c] = x.scaled(first + c, g, D::float(dot[h][c]), floats(p), acc[h][c]);
                        if PARTS == 1 {
                            acc[h][c] = x.offset(first + c, g, floats(1), acc[h][c]);
                        }
                    }
                }
            }
        }
        for c in 0..C {
            for h in 0..2 {
                _mm256_storeu_ps(out[c].as_mut_ptr().add(h * 8), acc[h][c]);
            }
        }
    }
}

/// A block of rows times one unpacked stretch; the first of them ask for the payload of the next. SAFETY: as for
/// `many`.
#[inline(always)]
unsafe fn blocks<D: Dots<BITS>, const BITS: u8, const PARTS: usize>(
    bytes: (*const u8, usize),
    stretch: *const u8,
    groups: (usize, usize),
    mut ahead: (*const u8, usize),
    x: Rows,
    out: &mut [[f32; TILE]],
) {
    let mut done = 0;
    while done < out.len() {
        let (left, at, out) = (out.len() - done, done, &mut out[done..]);
        // SAFETY: the caller's contract.
        done += unsafe {
            match left {
                4.. if D::BLOCK == 4 => {
                    many::<D, BITS, PARTS, 4>(bytes, stretch, groups, ahead, x, at, out);
                    4
                }
                2.. => {
                    many::<D, BITS, PARTS, 2>(bytes, stretch, groups, ahead, x, at, out);
                    2
                }
                _ => {
                    many::<D, BITS, PARTS, 1>(bytes, stretch, groups, ahead, x, at, out);
                    1
                }
            }
        };
        ahead.1 = 0;
    }
}

/// SAFETY: needs the features of `D`; rows and groups exist.
#[inline(always)]
unsafe fn run<D: Dots<BITS>, const BITS: u8, const KIND: u8>(
    layout: &Layout,
    bytes: &[u8],
    x: &Activations,
    out: &mut [[f32; TILE]],
) {
    let (tile, groups) = (&Packed::<BITS, KIND>::new(layout, bytes), layout.groups);
    if out.len() >= D::UNPACK_FROM {
        out.fill([0.0; TILE]);
        let mut stretch = MaybeUninit::<Stretch>::uninit();
        let stretch = stretch.as_mut_ptr().cast::<u8>();
        let size = Packed::<BITS, KIND>::SIZE;
        for from in (0..groups).step_by(STRETCH) {
            let len = STRETCH.min(groups - from);
            // SAFETY: the caller's contract; the stretch has room for `STRETCH` groups and is aligned.
            unsafe { unpack::<D, BITS, KIND>(tile, from, len, stretch) };
            let packed = tile.payload.wrapping_add(from * size);
            let bytes = if BITS == 8 { (packed, size) } else { (stretch.cast_const(), UNPACKED) };
            for b in 0..x.blocks() {
                let (rows, out) = (Rows::new(x, b), &mut out[x.block(b)]);
                let ahead = (packed.wrapping_add(len * size), if b == 0 { size / 64 } else { 0 });
                // SAFETY: as above.
                unsafe {
                    if KIND == SIX {
                        blocks::<D, BITS, 2>(bytes, stretch, (from, len), ahead, rows, out);
                    } else {
                        blocks::<D, BITS, 1>(bytes, stretch, (from, len), ahead, rows, out);
                    }
                }
            }
        }
        return;
    }
    for b in 0..x.blocks() {
        let (rows, out) = (Rows::new(x, b), &mut out[x.block(b)]);
        let mut done = 0;
        while done < out.len() {
            let (left, out) = (out.len() - done, &mut out[done..]);
            // SAFETY: the caller's contract.
            unsafe {
                match left {
                    4.. => few::<D, BITS, KIND, 4>(tile, rows, done, out),
                    3 => few::<D, BITS, KIND, 3>(tile, rows, done, out),
                    2 => few::<D, BITS, KIND, 2>(tile, rows, done, out),
                    _ => few::<D, BITS, KIND, 1>(tile, rows, done, out),
                }
            }
            done += left.min(4);
        }
    }
}

/// Everything above, compiled for AVX2 alone.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn plain<const BITS: u8, const KIND: u8>(
    layout: &Layout,
    tile: &[u8],
    x: &Activations,
    out: &mut [[f32; TILE]],
) {
    // SAFETY: forwarded from `tile`.
    unsafe { run::<Plain, BITS, KIND>(layout, tile, x, out) }
}

/// Everything above, compiled for AVX-VNNI and GFNI.
#[target_feature(enable = "avx2,fma,f16c,avxvnni,gfni")]
unsafe fn vnni<const BITS: u8, const KIND: u8>(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    // SAFETY: forwarded from `tile`.
    unsafe { run::<Vnni, BITS, KIND>(layout, tile, x, out) }
}

/// See [`super::portable::tile`]. SAFETY: needs the features of `Tier::Avx2`.
pub unsafe fn tile(layout: &Layout, tile: &[u8], x: &Activations, out: &mut [[f32; TILE]]) {
    assert!(x.k == layout.groups * GROUP && out.len() == x.n);
    // SAFETY: the tier is the caller's promise, its dot products are asked for here.
    unsafe {
        if cpu::narrow_dots() {
            for_layout!(layout, vnni(layout, tile, x, out));
        } else {
            for_layout!(layout, plain(layout, tile, x, out));
        }
    }
}
