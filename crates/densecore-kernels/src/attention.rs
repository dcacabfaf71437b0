//! Causal attention over a cache of 64-position tiles.
//!
//! A tile of one key/value head holds keys as `[head_dim][64]` and values as `[64][head_dim]`, so both products
//! stream the cache in its own order and no key is transposed at read time. Softmax is running (one pass over the
//! tiles, each row keeping its maximum and sum), and the tiles lie at absolute positions: a query's result is the same
//! whether it came alone or in a chunk.

#[cfg(target_arch = "x86_64")]
use crate::cpu::Tier;
use crate::cpu::tiered;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::ops::Range;

/// Positions of a tile.
pub const SPAN: usize = 64;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheFormat {
    /// Full precision, the reference.
    F32,
    /// Half the memory and read traffic.
    F16,
}

impl CacheFormat {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// Whether it can hold all these numbers: none is NaN, infinite or, as f16, beyond what rounds to its largest one.
    pub fn holds(self, numbers: &[f32]) -> bool {
        let most = match self {
            Self::F32 => f32::MAX,
            Self::F16 => 65_519.0,
        };
        // No early exit, so that it vectorises; NaN compares false.
        numbers.iter().fold(true, |all, v| all & (v.abs() <= most))
    }
}

/// Keys and values of one head over 64 positions, as raw numbers of the cache's format.
#[derive(Debug, Clone, Copy)]
pub struct KvTile<'a> {
    /// `[head_dim][64]`.
    pub keys: &'a [u8],
    /// `[64][head_dim]`.
    pub values: &'a [u8],
}

/// Writes position `at` (0..64) of a tile.
pub fn write_tile(format: CacheFormat, keys: &mut [u8], values: &mut [u8], at: usize, key: &[f32], value: &[f32]) {
    let d = key.len();
    match format {
        CacheFormat::F32 => {
            for i in 0..d {
                keys[(i * SPAN + at) * 4..][..4].copy_from_slice(&key[i].to_ne_bytes());
                values[(at * d + i) * 4..][..4].copy_from_slice(&value[i].to_ne_bytes());
            }
        }
        CacheFormat::F16 => {
            // Rounded a run at a time, which the processor does in one instruction each eight.
            let mut run = [f16::ZERO; SPAN];
            for first in (0..d).step_by(SPAN) {
                let run = &mut run[..SPAN.min(d - first)];
                run.convert_from_f32_slice(&key[first..first + run.len()]);
                for (i, k) in run.iter().enumerate() {
                    keys[((first + i) * SPAN + at) * 2..][..2].copy_from_slice(&k.to_ne_bytes());
                }
                run.convert_from_f32_slice(&value[first..first + run.len()]);
                for (i, v) in run.iter().enumerate() {
                    values[(at * d + first + i) * 2..][..2].copy_from_slice(&v.to_ne_bytes());
                }
            }
        }
    }
}

/// Reads position `at` of a tile back.
pub fn read_tile(format: CacheFormat, tile: KvTile<'_>, at: usize, key: &mut [f32], value: &mut [f32]) {
    let d = key.len();
    for i in 0..d {
        key[i] = number(format, tile.keys, i * SPAN + at);
        value[i] = number(format, tile.values, at * d + i);
    }
}

#[inline(always)]
fn number(format: CacheFormat, bytes: &[u8], i: usize) -> f32 {
    match format {
        CacheFormat::F32 => f32::from_ne_bytes([bytes[i * 4], bytes[i * 4 + 1], bytes[i * 4 + 2], bytes[i * 4 + 3]]),
        CacheFormat::F16 => f16::from_ne_bytes([bytes[i * 2], bytes[i * 2 + 1]]).to_f32(),
    }
}

/// Memory of one [`attend`] call, kept between calls.
#[derive(Debug, Default)]
pub struct Scratch {
    scores: Vec<f32>,
    sums: Vec<f32>,
    maxima: Vec<f32>,
}

/// Attention of some query rows over tiles `0..`.
///
/// `queries` is `[rows][head_dim]`, already scaled, rows ordered by position; `positions[r]` is row `r`'s absolute
/// position: it sees the last `window` positions up to that one. `out` has the shape of `queries`.
pub fn attend<'a>(
    format: CacheFormat,
    head_dim: usize,
    queries: &[f32],
    positions: &[usize],
    window: usize,
    tile: &dyn Fn(usize) -> KvTile<'a>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let rows = positions.len();
    assert!(queries.len() == rows * head_dim && out.len() == rows * head_dim);
    let (Some(&earliest), Some(&last)) = (positions.first(), positions.last()) else { return };
    scratch.scores.resize(rows * SPAN, 0.0);
    scratch.sums.clear();
    scratch.sums.resize(rows, 0.0);
    scratch.maxima.clear();
    scratch.maxima.resize(rows, f32::NEG_INFINITY);
    out.fill(0.0);
    for t in (earliest + 1).saturating_sub(window) / SPAN..=last / SPAN {
        let start = t * SPAN;
        // Rows that see something of this tile: neither before it, nor so far behind it that it left their window.
        let first = positions.partition_point(|&p| p < start);
        let end = positions.partition_point(|&p| (p + 1).saturating_sub(window) < start + SPAN);
        let KvTile { keys, values } = tile(t);
        let q = &queries[first * head_dim..end * head_dim];
        let seen = (last + 1 - start).min(SPAN);
        let scores = &mut scratch.scores[first * SPAN..end * SPAN];
        scores.fill(0.0);
        multiply(format, q, head_dim, keys, SPAN, scores);
        for r in first..end {
            let scores = &mut scratch.scores[r * SPAN..][..SPAN];
            let out = &mut out[r * head_dim..][..head_dim];
            let visible = visible(positions[r], window, t);
            soften(scores, visible.start, visible.end, &mut scratch.maxima[r], &mut scratch.sums[r], out);
        }
        // The masked scores are zero now; the tile's unseen tail is not read at all.
        let scores = &scratch.scores[first * SPAN..end * SPAN];
        multiply_strided(format, scores, SPAN, seen, values, head_dim, &mut out[first * head_dim..end * head_dim]);
    }
    for (row, sum) in out.chunks_exact_mut(head_dim).zip(&scratch.sums) {
        let inverse = 1.0 / sum;
        for v in row.iter_mut() {
            *v *= inverse;
        }
    }
}

/// What a row at `position` sees of tile `t`; it may be nothing.
pub(crate) fn visible(position: usize, window: usize, t: usize) -> Range<usize> {
    let (start, end) = (t * SPAN, position + 1);
    let within = |p: usize| p.saturating_sub(start).min(SPAN);
    within(end.saturating_sub(window))..within(end)
}

tiered! {
    /// One step of the running softmax over scores `from..to`, at least one: scores become weights, the others 0; `out`
    /// and `sum` shrink to the new maximum.
    pub fn soften(
        scores: &mut [f32], from: usize, to: usize, maximum: &mut f32, sum: &mut f32, out: &mut [f32],
    ) = soften_body
}
#[inline(always)]
fn soften_body(scores: &mut [f32], from: usize, to: usize, maximum: &mut f32, sum: &mut f32, out: &mut [f32]) {
    let Some((scores, _)) = scores.split_first_chunk_mut::<SPAN>() else { return };
    for (i, s) in scores.iter_mut().enumerate() {
        *s = if i >= from && i < to { *s } else { f32::NEG_INFINITY };
    }
    // Loops over whole registers, or the compiler would take one score at a time.
    let (chunks, _) = scores.as_chunks_mut::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks.iter() {
        for l in 0..16 {
            lanes[l] = if chunk[l] > lanes[l] { chunk[l] } else { lanes[l] };
        }
    }
    let largest = lanes.iter().fold(*maximum, |a, &b| a.max(b));
    let shrink = crate::vector::exp(*maximum - largest);
    let mut lanes = [0f32; 16];
    for chunk in chunks {
        for s in chunk.iter_mut() {
            *s = crate::vector::exp(*s - largest);
        }
        for l in 0..16 {
            lanes[l] += chunk[l];
        }
    }
    *sum = *sum * shrink + lanes.iter().sum::<f32>();
    *maximum = largest;
    if shrink != 1.0 {
        for v in out.iter_mut() {
            *v *= shrink;
        }
    }
}

/// `c += a b` with `a` `[rows][inner]` and `b` `[inner][width]` in the cache's format.
fn multiply(format: CacheFormat, a: &[f32], inner: usize, b: &[u8], width: usize, c: &mut [f32]) {
    multiply_strided(format, a, inner, inner, b, width, c);
}

/// The same with rows of `a` `stride` apart.
pub(crate) fn multiply_strided(
    format: CacheFormat,
    a: &[f32],
    stride: usize,
    inner: usize,
    b: &[u8],
    width: usize,
    c: &mut [f32],
) {
    let rows = c.len() / width;
    assert!(a.len() >= rows * stride && inner <= stride && b.len() >= inner * width * format.bytes());
    #[cfg(target_arch = "x86_64")]
    {
        let half = format == CacheFormat::F16;
        match Tier::detect() {
            // SAFETY: the tier was chosen because the processor has these features; lengths were checked above.
            Tier::Avx512 if width.is_multiple_of(16) => unsafe {
                return vectors::wide(half, a, stride, inner, b, width, c);
            },
            // SAFETY: as above.
            Tier::Avx2 if width.is_multiple_of(8) => unsafe {
                return vectors::narrow(half, a, stride, inner, b, width, c);
            },
            _ => {}
        }
    }
    portable_product(format, a, stride, inner, b, width, c);
}

tiered! {
    /// The reference: sums in the order of `inner`.
    pub fn portable_product(
        format: CacheFormat, a: &[f32], stride: usize, inner: usize, b: &[u8], width: usize, c: &mut [f32],
    ) = reference_product
}
#[inline(always)]
fn reference_product(
    format: CacheFormat,
    a: &[f32],
    stride: usize,
    inner: usize,
    b: &[u8],
    width: usize,
    c: &mut [f32],
) {
    for (r, c) in c.chunks_exact_mut(width).enumerate() {
        for i in 0..inner {
            let a = a[r * stride + i];
            for (j, c) in c.iter_mut().enumerate() {
                *c = a.mul_add(number(format, b, i * width + j), *c);
            }
        }
    }
}

/// The product by blocks of rows and columns whose sums stay in registers, for two widths of register.
#[cfg(target_arch = "x86_64")]
mod vectors {
    use std::arch::x86_64::*;

    /// Floats of one register. Functions need the processor features of their implementation.
    trait Lanes {
        type Floats: Copy;
        const WIDTH: usize;
        /// Registers of the processor.
        const REGISTERS: usize;
        /// Numbers from `at` on, half floats if `HALF`.
        unsafe fn load<const HALF: bool>(b: *const u8, at: usize) -> Self::Floats;
        /// One number in all lanes.
        unsafe fn set(a: f32) -> Self::Floats;
        unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
        unsafe fn store(to: *mut f32, v: Self::Floats);
    }

    struct Wide;
    impl Lanes for Wide {
        type Floats = __m512;
        const WIDTH: usize = 16;
        const REGISTERS: usize = 32;
        #[inline(always)]
        unsafe fn load<const HALF: bool>(b: *const u8, at: usize) -> __m512 {
            // SAFETY: 16 numbers are readable at `at`, by the caller.
            unsafe {
                if HALF {
                    _mm512_cvtph_ps(_mm256_loadu_si256(b.add(at * 2).cast()))
                } else {
                    _mm512_loadu_ps(b.add(at * 4).cast())
                }
            }
        }
        #[inline(always)]
        unsafe fn set(a: f32) -> __m512 {
            // SAFETY: the trait's contract.
            unsafe { _mm512_set1_ps(a) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the trait's contract.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m512) {
            // SAFETY: the caller passes room for 16 floats.
            unsafe { _mm512_storeu_ps(to, v) }
        }
    }

    struct Narrow;
    impl Lanes for Narrow {
        type Floats = __m256;
        const WIDTH: usize = 8;
        const REGISTERS: usize = 16;
        #[inline(always)]
        unsafe fn load<const HALF: bool>(b: *const u8, at: usize) -> __m256 {
            // SAFETY: eight numbers are readable at `at`, by the caller.
            unsafe {
                if HALF {
                    _mm256_cvtph_ps(_mm_loadu_si128(b.add(at * 2).cast()))
                } else {
                    _mm256_loadu_ps(b.add(at * 4).cast())
                }
            }
        }
        #[inline(always)]
        unsafe fn set(a: f32) -> __m256 {
            // SAFETY: the trait's contract.
            unsafe { _mm256_set1_ps(a) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the trait's contract.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m256) {
            // SAFETY: the caller passes room for eight floats.
            unsafe { _mm256_storeu_ps(to, v) }
        }
    }

    /// `R` rows by `V` registers of columns. SAFETY: they are inside, and the features of `L` are there.
    #[inline(always)]
    unsafe fn block<L: Lanes, const HALF: bool, const R: usize, const V: usize>(
        a: *const f32,
        stride: usize,
        inner: usize,
        b: *const u8,
        width: usize,
        c: *mut f32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let mut acc = [[L::set(0.0); V]; R];
            for r in 0..R {
                for v in 0..V {
                    acc[r][v] = L::load::<false>(c.add(r * width + v * L::WIDTH).cast(), 0);
                }
            }
            for i in 0..inner {
                let mut w = [L::set(0.0); V];
                for v in 0..V {
                    w[v] = L::load::<HALF>(b, i * width + v * L::WIDTH);
                }
                for r in 0..R {
                    let a = L::set(*a.add(r * stride + i));
                    for v in 0..V {
                        acc[r][v] = L::fma(a, w[v], acc[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    L::store(c.add(r * width + v * L::WIDTH), acc[r][v]);
                }
            }
        }
    }

    /// All rows of some columns. SAFETY: as for `block`.
    #[inline(always)]
    unsafe fn columns<L: Lanes, const HALF: bool, const V: usize>(
        a: *const f32,
        stride: usize,
        inner: usize,
        b: *const u8,
        width: usize,
        c: *mut f32,
        rows: usize,
    ) {
        let mut r = 0;
        while r < rows {
            // SAFETY: forwarded from the caller.
            unsafe {
                let (a, c) = (a.add(r * stride), c.add(r * width));
                let left = rows - r;
                // Blocks of like sizes: a row left over alone waits for its own sums.
                r += if left == 6 || left > 8 {
                    block::<L, HALF, 6, V>(a, stride, inner, b, width, c);
                    6
                } else if left == 4 || left > 6 {
                    block::<L, HALF, 4, V>(a, stride, inner, b, width, c);
                    4
                } else if left > 2 {
                    block::<L, HALF, 3, V>(a, stride, inner, b, width, c);
                    3
                } else if left == 2 {
                    block::<L, HALF, 2, V>(a, stride, inner, b, width, c);
                    2
                } else {
                    block::<L, HALF, 1, V>(a, stride, inner, b, width, c);
                    1
                };
            }
        }
    }

    /// SAFETY: needs the features of `L`; lengths as checked in `multiply_strided`, `width` whole registers.
    #[inline(always)]
    unsafe fn product<L: Lanes, const HALF: bool>(
        a: &[f32],
        stride: usize,
        inner: usize,
        b: &[u8],
        width: usize,
        c: &mut [f32],
    ) {
        let (a, rows) = (a.as_ptr(), c.len() / width);
        let bytes = if HALF { 2 } else { 4 };
        let mut at = 0;
        while at < width {
            let left = (width - at) / L::WIDTH;
            // SAFETY: forwarded from the caller; `at` stays below `width`.
            unsafe {
                let (b, c) = (b.as_ptr().add(at * bytes), c.as_mut_ptr().add(at));
                let done = if left >= 4 && L::REGISTERS == 32 {
                    columns::<L, HALF, 4>(a, stride, inner, b, width, c, rows);
                    4
                } else if left >= 4 && rows == 1 {
                    block::<L, HALF, 1, 4>(a, stride, inner, b, width, c);
                    4
                } else if left >= 2 {
                    columns::<L, HALF, 2>(a, stride, inner, b, width, c, rows);
                    2
                } else {
                    columns::<L, HALF, 1>(a, stride, inner, b, width, c, rows);
                    1
                };
                at += done * L::WIDTH;
            }
        }
    }

    macro_rules! entry {
        ($name:ident, $lanes:ty, $features:literal) => {
            /// SAFETY: needs these features; lengths as checked in `multiply_strided`, `width` whole registers.
            #[target_feature(enable = $features)]
            pub unsafe fn $name(
                half: bool,
                a: &[f32],
                stride: usize,
                inner: usize,
                b: &[u8],
                width: usize,
                c: &mut [f32],
            ) {
                // SAFETY: forwarded from the caller.
                unsafe {
                    if half {
                        product::<$lanes, true>(a, stride, inner, b, width, c);
                    } else {
                        product::<$lanes, false>(a, stride, inner, b, width, c);
                    }
                }
            }
        };
    }
    entry!(wide, Wide, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c");
    entry!(narrow, Narrow, "avx2,fma,f16c");
}
