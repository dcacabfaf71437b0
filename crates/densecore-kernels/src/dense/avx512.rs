//! A column is one 512-bit register.

use super::lanes::Lanes;
use crate::quant::TILE;
use std::arch::x86_64::*;

/// Needs the features of `Tier::Avx512`.
pub struct Avx512;

impl Lanes for Avx512 {
    type Column = __m512;
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller has the features.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller has the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn half(p: *const u8) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn brain_low(p: *const u8) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_loadu_si512(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn brain_high(p: *const u8) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p.cast()), upper))
        }
    }
    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn transpose(rows: [__m512; TILE]) -> [__m512; TILE] {
        // SAFETY: the caller has the features.
        unsafe {
            // Blocks of 4 x 4 within each 128-bit lane, then the lanes as a 4 x 4 of their own.
            let mut quads = [_mm512_setzero_ps(); TILE];
            for b in 0..4 {
                let low01 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[b * 4], rows[b * 4 + 1]));
                let high01 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[b * 4], rows[b * 4 + 1]));
                let low23 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[b * 4 + 2], rows[b * 4 + 3]));
                let high23 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[b * 4 + 2], rows[b * 4 + 3]));
                // `quads[c * 4 + b]`: rows 4 b .. 4 b + 4 of columns c, c + 4, c + 8, c + 12, a lane each.
                quads[b] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
                quads[4 + b] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
                quads[8 + b] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
                quads[12 + b] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
            }
            let mut out = [_mm512_setzero_ps(); TILE];
            for c in 0..4 {
                let q = &quads[c * 4..][..4];
                let even01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(q[0], q[1]);
                let odd01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(q[0], q[1]);
                let even23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(q[2], q[3]);
                let odd23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(q[2], q[3]);
                out[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even01, even23);
                out[c + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even01, even23);
                out[c + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd01, odd23);
                out[c + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd01, odd23);
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
