//! A column is two 256-bit registers.

use super::lanes::Lanes;
use crate::quant::TILE;
use std::arch::x86_64::*;

/// Needs the features of `Tier::Avx2`.
pub struct Avx2;

/// Eight rows of eight become columns.
#[inline(always)]
unsafe fn transpose8(rows: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller has AVX2.
    unsafe {
        let mut quads = [_mm256_setzero_ps(); 8];
        for b in 0..2 {
            let r = &rows[b * 4..][..4];
            let (low01, high01) = (_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1]));
            let (low23, high23) = (_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3]));
            // `quads[c * 2 + b]`: rows 4 b .. 4 b + 4 of columns c and c + 4, a lane each.
            quads[b] = _mm256_shuffle_ps::<0b01_00_01_00>(low01, low23);
            quads[2 + b] = _mm256_shuffle_ps::<0b11_10_11_10>(low01, low23);
            quads[4 + b] = _mm256_shuffle_ps::<0b01_00_01_00>(high01, high23);
            quads[6 + b] = _mm256_shuffle_ps::<0b11_10_11_10>(high01, high23);
        }
        let mut out = [_mm256_setzero_ps(); 8];
        for c in 0..4 {
            out[c] = _mm256_permute2f128_ps::<0x20>(quads[c * 2], quads[c * 2 + 1]);
            out[c + 4] = _mm256_permute2f128_ps::<0x31>(quads[c * 2], quads[c * 2 + 1]);
        }
        out
    }
}

impl Lanes for Avx2 {
    type Column = [__m256; 2];
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self::Column {
        // SAFETY: the caller has the features.
        unsafe { [_mm256_setzero_ps(); 2] }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::Column {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::Column {
        // SAFETY: the trait's contract.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::Column) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Column, b: Self::Column, c: Self::Column) -> Self::Column {
        // SAFETY: the caller has the features.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn add(a: Self::Column, b: Self::Column) -> Self::Column {
        // SAFETY: as above.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn half(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(16).cast()))] }
    }
    #[inline(always)]
    unsafe fn brain_low(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        unsafe {
            let (a, b) = (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast()));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b))]
        }
    }
    #[inline(always)]
    unsafe fn brain_high(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        unsafe {
            let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let (a, b) = (_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast()));
            [_mm256_castsi256_ps(_mm256_and_si256(a, upper)), _mm256_castsi256_ps(_mm256_and_si256(b, upper))]
        }
    }
    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        unsafe {
            let (a, b) = (_mm_loadl_epi64(p.cast()), _mm_loadl_epi64(p.add(8).cast()));
            [_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(a)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b))]
        }
    }
    #[inline(always)]
    unsafe fn transpose(rows: [Self::Column; TILE]) -> [Self::Column; TILE] {
        // SAFETY: the caller has the features.
        unsafe {
            let mut out = rows;
            for across in 0..2 {
                for down in 0..2 {
                    let mut block = [_mm256_setzero_ps(); 8];
                    for i in 0..8 {
                        block[i] = rows[down * 8 + i][across];
                    }
                    let block = transpose8(block);
                    for i in 0..8 {
                        out[across * 8 + i][down] = block[i];
                    }
                }
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch does not read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
