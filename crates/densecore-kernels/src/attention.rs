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
/// position (it sees 0..=position); `out` has the shape of `queries`.
pub fn attend<'a>(
    format: CacheFormat,
    head_dim: usize,
    queries: &[f32],
    positions: &[usize],
    tile: &dyn Fn(usize) -> KvTile<'a>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let rows = positions.len();
    assert!(queries.len() == rows * head_dim && out.len() == rows * head_dim);
    let Some(&last) = positions.last() else { return };
    scratch.scores.resize(rows * SPAN, 0.0);
    scratch.sums.clear();
    scratch.sums.resize(rows, 0.0);
    scratch.maxima.clear();
    scratch.maxima.resize(rows, f32::NEG_INFINITY);
    out.fill(0.0);
    for t in 0..=last / SPAN {
        let start = t * SPAN;
        let first = positions.partition_point(|&p| p < start);
        let KvTile { keys, values } = tile(t);
        let q = &queries[first * head_dim..];
        let seen = (last + 1 - start).min(SPAN);
        let scores = &mut scratch.scores[first * SPAN..];
        scores.fill(0.0);
        multiply(format, q, head_dim, keys, SPAN, scores);
        for r in first..rows {
            let scores = &mut scratch.scores[r * SPAN..][..SPAN];
            let out = &mut out[r * head_dim..][..head_dim];
            let visible = (positions[r] + 1 - start).min(SPAN);
            soften(scores, visible, &mut scratch.maxima[r], &mut scratch.sums[r], out);
        }
        // The masked scores are zero now; the tile's unseen tail is not read at all.
        let scores = &scratch.scores[first * SPAN..];
        multiply_strided(format, scores, SPAN, seen, values, head_dim, &mut out[first * head_dim..]);
    }
    for (row, sum) in out.chunks_exact_mut(head_dim).zip(&scratch.sums) {
        let inverse = 1.0 / sum;
        for v in row.iter_mut() {
            *v *= inverse;
        }
    }
}

tiered! {
    /// One step of the running softmax: scores become weights, `out` and `sum` shrink to the new maximum.
    pub fn soften(scores: &mut [f32], visible: usize, maximum: &mut f32, sum: &mut f32, out: &mut [f32]) = soften_body
}
#[inline(always)]
fn soften_body(scores: &mut [f32], visible: usize, maximum: &mut f32, sum: &mut f32, out: &mut [f32]) {
    let Some((scores, _)) = scores.split_first_chunk_mut::<SPAN>() else { return };
    for (i, s) in scores.iter_mut().enumerate() {
        *s = if i < visible { *s } else { f32::NEG_INFINITY };
    }
    let mut lanes = [f32::NEG_INFINITY; 16];
    for i in 0..SPAN {
        lanes[i % 16] = lanes[i % 16].max(scores[i]);
    }
    let largest = lanes.iter().fold(*maximum, |a, &b| a.max(b));
    let shrink = crate::vector::exp(*maximum - largest);
    let mut lanes = [0f32; 16];
    for i in 0..SPAN {
        scores[i] = crate::vector::exp(scores[i] - largest);
        lanes[i % 16] += scores[i];
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
fn multiply_strided(
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
    if Tier::detect() == Tier::Avx512 && width.is_multiple_of(16) {
        // SAFETY: the tier was chosen because the processor has these features; lengths were checked above.
        unsafe {
            match format {
                CacheFormat::F32 => avx512::product::<false>(a, stride, inner, b, width, c),
                CacheFormat::F16 => avx512::product::<true>(a, stride, inner, b, width, c),
            }
        }
        return;
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

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

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

    /// `R` rows by `16 V` columns, sums held in registers.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    unsafe fn block<const HALF: bool, const R: usize, const V: usize>(
        a: *const f32,
        stride: usize,
        inner: usize,
        b: *const u8,
        width: usize,
        c: *mut f32,
    ) {
        // SAFETY: the caller checked that all rows and columns are inside.
        unsafe {
            let mut acc = [[_mm512_setzero_ps(); V]; R];
            for r in 0..R {
                for v in 0..V {
                    acc[r][v] = _mm512_loadu_ps(c.add(r * width + v * 16));
                }
            }
            for i in 0..inner {
                let mut w = [_mm512_setzero_ps(); V];
                for v in 0..V {
                    w[v] = load::<HALF>(b, i * width + v * 16);
                }
                for r in 0..R {
                    let a = _mm512_set1_ps(*a.add(r * stride + i));
                    for v in 0..V {
                        acc[r][v] = _mm512_fmadd_ps(a, w[v], acc[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..V {
                    _mm512_storeu_ps(c.add(r * width + v * 16), acc[r][v]);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    unsafe fn columns<const HALF: bool, const V: usize>(
        a: &[f32],
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
                let (a, c) = (a.as_ptr().add(r * stride), c.add(r * width));
                r += match rows - r {
                    6.. => {
                        block::<HALF, 6, V>(a, stride, inner, b, width, c);
                        6
                    }
                    3.. => {
                        block::<HALF, 3, V>(a, stride, inner, b, width, c);
                        3
                    }
                    _ => {
                        block::<HALF, 1, V>(a, stride, inner, b, width, c);
                        1
                    }
                };
            }
        }
    }

    /// SAFETY: needs the features of `Tier::Avx512`; lengths as checked in `multiply_strided`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,f16c")]
    pub unsafe fn product<const HALF: bool>(
        a: &[f32],
        stride: usize,
        inner: usize,
        b: &[u8],
        width: usize,
        c: &mut [f32],
    ) {
        let rows = c.len() / width;
        let bytes = if HALF { 2 } else { 4 };
        let mut at = 0;
        while at < width {
            // SAFETY: forwarded from the caller; `at` stays below `width`.
            unsafe {
                let (b, c) = (b.as_ptr().add(at * bytes), c.as_mut_ptr().add(at));
                at += match width - at {
                    64.. => {
                        columns::<HALF, 4>(a, stride, inner, b, width, c, rows);
                        64
                    }
                    32.. => {
                        columns::<HALF, 2>(a, stride, inner, b, width, c, rows);
                        32
                    }
                    _ => {
                        columns::<HALF, 1>(a, stride, inner, b, width, c, rows);
                        16
                    }
                };
            }
        }
    }
}
