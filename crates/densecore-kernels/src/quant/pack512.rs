//! Packing with 512-bit registers: sixteen rows of blocks are gathered word by word, one row a lane, which is already
//! the order of a tile.

use super::activation::GROUP;
use super::layout::{Bits, Layout, Scales, TILE};
use crate::format::Format;
use std::arch::x86_64::*;

/// Sixteen rows of blocks, `stride` bytes from one to the next.
struct Rows {
    first: *const u8,
    offsets: __m512i,
}

// Loops, and functions with the features instead of `inline(always)`: a closure called by `array::from_fn` is compiled
// without them if it happens not to be inlined, and then every operation is a call.
impl Rows {
    /// The little-endian words at byte `at` of the rows. SAFETY: four bytes are there in each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn word(&self, at: usize) -> __m512i {
        // SAFETY: the caller's contract.
        unsafe { _mm512_i32gather_epi32::<1>(self.offsets, self.first.add(at).cast()) }
    }

    /// The 32 unsigned quants of a group, four to a word, of the block at byte `at`; `sub` is the group's number in it.
    /// SAFETY: the block is there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn quants(&self, format: Format, at: usize, sub: usize) -> [__m512i; 8] {
        let (nibbles, ones) = (_mm512_set1_epi32(0x0f0f_0f0f), _mm512_set1_epi32(0x0101_0101));
        let mut w = [nibbles; 8];
        // SAFETY: the caller's contract; offsets are those of the formats.
        unsafe {
            match format {
                Format::Q4_0 => self.halves(at + 2, &mut w),
                Format::Q4_1 => self.halves(at + 4, &mut w),
                Format::Q5_0 => {
                    self.halves(at + 6, &mut w);
                    fifth(self.word(at + 2), &mut w);
                }
                Format::Q5_1 => {
                    self.halves(at + 8, &mut w);
                    fifth(self.word(at + 4), &mut w);
                }
                Format::Q8_0 => {
                    for i in 0..8 {
                        let sign = _mm512_set1_epi32(0x8080_8080_u32 as i32);
                        w[i] = _mm512_xor_si512(self.word(at + 2 + 4 * i), sign);
                    }
                }
                Format::Q4K => {
                    for i in 0..8 {
                        w[i] =
                            _mm512_and_si512(shifted(self.word(at + 16 + sub / 2 * 32 + 4 * i), sub % 2 * 4), nibbles);
                    }
                }
                Format::Q5K => {
                    for i in 0..8 {
                        let low = shifted(self.word(at + 48 + sub / 2 * 32 + 4 * i), sub % 2 * 4);
                        let high = _mm512_and_si512(shifted(self.word(at + 16 + 4 * i), sub), ones);
                        w[i] = _mm512_or_si512(_mm512_and_si512(low, nibbles), _mm512_slli_epi32::<4>(high));
                    }
                }
                _ => {
                    let (half, quarter) = (sub / 4, sub % 4);
                    for i in 0..8 {
                        let low = shifted(self.word(at + half * 64 + quarter % 2 * 32 + 4 * i), quarter / 2 * 4);
                        let high = shifted(self.word(at + 128 + half * 32 + 4 * i), 2 * quarter);
                        let high = _mm512_slli_epi32::<4>(_mm512_and_si512(high, _mm512_set1_epi32(0x0303_0303)));
                        w[i] = _mm512_or_si512(_mm512_and_si512(low, nibbles), high);
                    }
                }
            }
        }
        w
    }

    /// Low nibbles of four words, then high ones. SAFETY: 16 bytes are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn halves(&self, at: usize, w: &mut [__m512i; 8]) {
        let nibbles = _mm512_set1_epi32(0x0f0f_0f0f);
        for i in 0..4 {
            // SAFETY: the caller's contract.
            let both = unsafe { self.word(at + 4 * i) };
            w[i] = _mm512_and_si512(both, nibbles);
            w[i + 4] = _mm512_and_si512(_mm512_srli_epi32::<4>(both), nibbles);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn shifted(w: __m512i, by: usize) -> __m512i {
    _mm512_srl_epi32(w, _mm_cvtsi32_si128(by as i32))
}

/// The bits of a mask, four to a word, to bit 4 of its bytes, by a multiplication without carries.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn fifth(mask: __m512i, w: &mut [__m512i; 8]) {
    for i in 0..8 {
        let four = _mm512_and_si512(shifted(mask, 4 * i), _mm512_set1_epi32(15));
        let spread = _mm512_mullo_epi32(four, _mm512_set1_epi32(0x0020_4081));
        let bits = _mm512_and_si512(spread, _mm512_set1_epi32(0x0101_0101));
        w[i] = _mm512_or_si512(w[i], _mm512_slli_epi32::<4>(bits));
    }
}

/// [`Layout::pack_tile`] of sixteen rows that follow one another in `rows`. SAFETY: needs the features of
/// `Tier::Avx512`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub unsafe fn tile(layout: &Layout, format: Format, rows: &[u8], tile: &mut [u8]) {
    let (stride, bytes) = (rows.len() / TILE, format.block_bytes());
    let per_block = format.block_len() / GROUP;
    assert!(stride == layout.groups / per_block * bytes && i32::try_from(stride * TILE).is_ok());
    assert!(tile.len() >= layout.groups * layout.payload + layout.scale_bytes);
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let rows = Rows { first: rows.as_ptr(), offsets: _mm512_mullo_epi32(lanes, _mm512_set1_epi32(stride as i32)) };
    let (payloads, scales) = tile.split_at_mut(layout.groups * layout.payload);
    let ahead = TILE * stride;
    for (g, out) in payloads.chunks_exact_mut(layout.payload).enumerate() {
        // The rows of the next tile follow these: an equal share of them is asked for with each group.
        for line in (g * ahead / layout.groups..(g + 1) * ahead / layout.groups).step_by(64) {
            _mm_prefetch::<_MM_HINT_T1>(rows.first.wrapping_add(ahead + line).cast());
        }
        // SAFETY: the lengths were checked above; a payload holds what is stored into it, see `Layout`.
        unsafe {
            let w = rows.quants(format, g / per_block * bytes, g % per_block);
            let out = out.as_mut_ptr();
            let put = |at: usize, w| _mm512_storeu_si512(out.add(at).cast(), w);
            if layout.bits == Bits::Eight {
                for s in 0..8 {
                    put(s * 64, w[s]);
                }
                continue;
            }
            let nibbles = _mm512_set1_epi32(0x0f0f_0f0f);
            for s in 0..4 {
                let (low, high) = (_mm512_and_si512(w[s], nibbles), _mm512_and_si512(w[s + 4], nibbles));
                put(s * 64, _mm512_or_si512(low, _mm512_slli_epi32::<4>(high)));
            }
            if layout.bits == Bits::Five {
                for s in 0..8 {
                    let mask = _mm512_test_epi8_mask(w[s], _mm512_set1_epi8(16));
                    out.add(256 + s * 8).cast::<u64>().write_unaligned(mask);
                }
            }
            if layout.bits == Bits::Six {
                for half in 0..2 {
                    let part = |s: usize| {
                        _mm512_and_si512(_mm512_srli_epi32::<4>(w[half * 4 + s]), _mm512_set1_epi32(0x0303_0303))
                    };
                    let (a, b) = (part(0), _mm512_slli_epi32::<2>(part(1)));
                    let (c, d) = (_mm512_slli_epi32::<4>(part(2)), _mm512_slli_epi32::<6>(part(3)));
                    put(256 + half * 64, _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)));
                }
            }
        }
    }
    let blocks = layout.groups / per_block;
    for (b, out) in scales.chunks_exact_mut(layout.scale_bytes / blocks).take(blocks).enumerate() {
        let (at, out) = (b * bytes, out.as_mut_ptr());
        // SAFETY: as above.
        unsafe {
            let halves = |slot: usize, w| _mm256_storeu_si256(out.add(slot * 32).cast(), _mm512_cvtepi32_epi16(w));
            let bytes_of = |from: usize, w| {
                for j in 0..4 {
                    let byte = _mm512_cvtepi32_epi8(_mm512_srl_epi32(w, _mm_cvtsi32_si128(j as i32 * 8)));
                    _mm_storeu_si128(out.add(from + j * TILE).cast(), byte);
                }
            };
            match layout.scales {
                Scales::Centred { .. } => halves(0, rows.word(at)),
                Scales::Offset | Scales::SuperBlock => {
                    let both = rows.word(at);
                    halves(0, both);
                    halves(1, _mm512_srli_epi32::<16>(both));
                }
                // The half before the last two bytes is not theirs: no word begins at them in the last block.
                Scales::SixBit => halves(0, _mm512_srli_epi32::<16>(rows.word(at + 206))),
            }
            if layout.scales == Scales::SuperBlock {
                let (scale, min, rest) = (rows.word(at + 4), rows.word(at + 8), rows.word(at + 12));
                let six = _mm512_set1_epi32(0x3f3f_3f3f);
                let (upper, lower) = (_mm512_set1_epi32(0x3030_3030), _mm512_set1_epi32(0x0f0f_0f0f));
                let high = |rest, six| {
                    let upper = _mm512_and_si512(_mm512_srli_epi32::<2>(six), upper);
                    _mm512_or_si512(_mm512_and_si512(rest, lower), upper)
                };
                bytes_of(64, _mm512_and_si512(scale, six));
                bytes_of(64 + 4 * TILE, high(rest, scale));
                bytes_of(192, _mm512_and_si512(min, six));
                bytes_of(192 + 4 * TILE, high(_mm512_srli_epi32::<4>(rest), min));
            }
            if layout.scales == Scales::SixBit {
                for i in 0..4 {
                    bytes_of(32 + i * 4 * TILE, rows.word(at + 192 + 4 * i));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Tier;
    use crate::quant::QuantMatrix;

    #[test]
    fn equals_the_packing_of_single_rows() {
        if Tier::detect() != Tier::Avx512 {
            return;
        }
        let mut state = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        let formats = [
            Format::Q4_0,
            Format::Q4_1,
            Format::Q5_0,
            Format::Q5_1,
            Format::Q8_0,
            Format::Q4K,
            Format::Q5K,
            Format::Q6K,
        ];
        for (format, cols) in formats.into_iter().flat_map(|f| [(f, f.block_len()), (f, 768)]) {
            assert!(QuantMatrix::supports(format, cols));
            let (Some(layout), Some(stride)) = (Layout::new(format, cols), format.row_bytes(cols)) else { continue };
            let bytes: Vec<u8> = (0..TILE * stride)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect();
            let rows: Vec<&[u8]> = bytes.chunks_exact(stride).collect();
            let (mut fast, mut plain) = (vec![0; layout.tile_bytes], vec![0; layout.tile_bytes]);
            layout.pack_tile(format, &rows, &mut plain);
            // SAFETY: the tier was asked for above.
            unsafe { tile(&layout, format, &bytes, &mut fast) };
            assert!(fast == plain, "{format:?}, {cols} columns");
        }
    }
}
