//! How a packed matrix lies in memory, and the packing itself.
//!
//! A **tile** is 16 rows, one per lane of a 512-bit register. Along `k` it is cut into groups of 32. A group's
//! payload holds eight steps of 16 x 4 quants, the operands of eight 4-way dot products; byte `r * 4 + b` of step
//! `s` is row `r`, component `4 s + b`. Quants are unsigned, `weight = scale * q + offset`:
//!
//! | bits | payload of a group |
//! |---|---|
//! | 4 | 256 B: byte of step `s` (low nibble) with step `s + 4` (high nibble) |
//! | 5 | the same, then 8 x 64 bits, one per byte of a step |
//! | 6 | the same as 4, then 128 B: two high bits of steps 0-3, then of steps 4-7 |
//! | 8 | 512 B |
//!
//! A tile is all its payloads, then all its scales (see [`Scales`]); the next tile follows at a multiple of 64.

use super::activation::GROUP;
use crate::format::Format;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rows of a tile: the lanes of one 512-bit register.
pub const TILE: usize = 16;

/// Bits of a stored quant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    Four,
    Five,
    Six,
    Eight,
}

/// How scales are stored behind the payloads. All halves are f16, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// Per group: `d[16]`; offset = -zero * d.
    Centred { zero: u8 },
    /// Per group: `d[16], m[16]`; offset = m.
    Offset,
    /// Per 8 groups: `d[16], dmin[16]`, then bytes `scale[8][16]`, `min[8][16]`.
    SuperBlock,
    /// Per 8 groups: `d[16]`, then signed bytes `scale[16][16]`, one per half group; zero at 32.
    SixBit,
}

/// Sizes of one packed format, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub bits: Bits,
    pub scales: Scales,
    pub payload: usize,
    pub scale_bytes: usize,
    pub tile_bytes: usize,
    pub groups: usize,
}

impl Layout {
    /// The layout of a quantised format with `k` columns; `None` for dense formats and ragged `k`.
    pub fn new(format: Format, k: usize) -> Option<Self> {
        let (bits, scales) = match format {
            Format::Q4_0 => (Bits::Four, Scales::Centred { zero: 8 }),
            Format::Q4_1 => (Bits::Four, Scales::Offset),
            Format::Q5_0 => (Bits::Five, Scales::Centred { zero: 16 }),
            Format::Q5_1 => (Bits::Five, Scales::Offset),
            Format::Q8_0 => (Bits::Eight, Scales::Centred { zero: 128 }),
            Format::Q4K => (Bits::Four, Scales::SuperBlock),
            Format::Q5K => (Bits::Five, Scales::SuperBlock),
            Format::Q6K => (Bits::Six, Scales::SixBit),
            Format::F32 | Format::F16 | Format::BF16 => return None,
        };
        if k == 0 || !k.is_multiple_of(format.block_len()) {
            return None;
        }
        let groups = k / GROUP;
        let payload = match bits {
            Bits::Four => 256,
            Bits::Five => 320,
            Bits::Six => 384,
            Bits::Eight => 512,
        };
        let scale_bytes = match scales {
            Scales::Centred { .. } => groups * 32,
            Scales::Offset => groups * 64,
            Scales::SuperBlock => groups / 8 * 320,
            Scales::SixBit => groups / 8 * 288,
        };
        let tile_bytes = (groups * payload + scale_bytes).next_multiple_of(64);
        Some(Self { bits, scales, payload, scale_bytes, tile_bytes, groups })
    }

    /// Packs up to 16 rows of `format` into one zeroed tile; missing rows stay zero.
    #[inline(always)]
    pub fn pack_tile(&self, format: Format, rows: &[&[u8]], tile: &mut [u8]) {
        let (payloads, scales) = tile.split_at_mut(self.groups * self.payload);
        for (g, payload) in payloads.chunks_exact_mut(self.payload).enumerate() {
            for (r, row) in rows.iter().enumerate() {
                pack_row(self.bits, &unpack_group(format, row, g), r, payload);
            }
        }
        self.pack_scales(format, rows, scales);
    }

    fn pack_scales(&self, format: Format, rows: &[&[u8]], out: &mut [u8]) {
        let bytes = format.block_bytes();
        let blocks = self.groups * GROUP / format.block_len();
        let per_block = self.scale_bytes / blocks;
        for (b, out) in out.chunks_exact_mut(per_block).take(blocks).enumerate() {
            for (r, row) in rows.iter().enumerate() {
                let block = &row[b * bytes..][..bytes];
                let mut half = |slot: usize, at: usize| {
                    out[slot * 32 + r * 2..][..2].copy_from_slice(&block[at..at + 2]);
                };
                match self.scales {
                    Scales::Centred { .. } => half(0, 0),
                    Scales::Offset => {
                        half(0, 0);
                        half(1, 2);
                    }
                    Scales::SuperBlock => {
                        half(0, 0);
                        half(1, 2);
                        let (scales, mins) = k_scales(&block[4..16]);
                        for sub in 0..8 {
                            out[64 + sub * TILE + r] = scales[sub];
                            out[192 + sub * TILE + r] = mins[sub];
                        }
                    }
                    Scales::SixBit => {
                        half(0, 208);
                        for sub in 0..16 {
                            out[32 + sub * TILE + r] = block[192 + sub];
                        }
                    }
                }
            }
        }
    }

    /// Scale groups per 32 components.
    pub fn parts(&self) -> usize {
        if self.scales == Scales::SixBit { 2 } else { 1 }
    }

    /// Scales and offsets of part `p` (0, or 1 where there are two) of group `g`, one a row:
    /// `weight = scale * q + offset`.
    #[inline(always)]
    pub fn scales(&self, scales: &[u8], g: usize, p: usize) -> ([f32; TILE], [f32; TILE]) {
        match self.scales {
            Scales::Centred { zero } => {
                let d = halves(&scales[g * 32..]);
                (d, d.map(|d| -f32::from(zero) * d))
            }
            Scales::Offset => (halves(&scales[g * 64..]), halves(&scales[g * 64 + 32..])),
            Scales::SuperBlock => {
                let (block, sub) = (&scales[g / 8 * 320..][..320], g % 8);
                let (d, dmin) = (halves(block), halves(&block[32..]));
                let (scale, min) = (&block[64 + sub * TILE..][..TILE], &block[192 + sub * TILE..][..TILE]);
                (
                    std::array::from_fn(|r| d[r] * f32::from(scale[r])),
                    std::array::from_fn(|r| -dmin[r] * f32::from(min[r])),
                )
            }
            Scales::SixBit => {
                let (block, sub) = (&scales[g / 8 * 288..][..288], g % 8 * 2 + p);
                let (d, scale) = (halves(block), &block[32 + sub * TILE..][..TILE]);
                let scale: [f32; TILE] = std::array::from_fn(|r| d[r] * f32::from(scale[r] as i8));
                (scale, scale.map(|s| -32.0 * s))
            }
        }
    }

    /// A group's payload as bytes: `[8 steps][16 rows][4]`.
    #[inline(always)]
    pub fn unpack(&self, payload: &[u8], out: &mut [u8; 512]) {
        if self.bits == Bits::Eight {
            out.copy_from_slice(&payload[..512]);
            return;
        }
        for i in 0..256 {
            out[i] = payload[i] & 15;
            out[256 + i] = payload[i] >> 4;
        }
        match self.bits {
            Bits::Five => {
                for (bits, out) in payload[256..320].iter().zip(out.as_chunks_mut::<8>().0) {
                    // Bit `i` to bit 4 of byte `i`: spread by a multiplication, then mask.
                    let spread = (u64::from(*bits & 0x7f).wrapping_mul(0x0002_0408_1020_4081) & 0x0101_0101_0101_0101)
                        | u64::from(bits >> 7) << 56;
                    *out = (u64::from_le_bytes(*out) | spread << 4).to_le_bytes();
                }
            }
            Bits::Six => {
                for h in 0..2 {
                    let high = &payload[256 + h * 64..][..64];
                    for s in 0..4 {
                        let out = &mut out[(h * 4 + s) * 64..][..64];
                        for i in 0..64 {
                            out[i] |= ((high[i] >> (2 * s)) & 3) << 4;
                        }
                    }
                }
            }
            Bits::Four | Bits::Eight => {}
        }
    }
}

/// Sixteen half floats.
#[inline(always)]
fn halves(bytes: &[u8]) -> [f32; TILE] {
    let stored: [f16; TILE] = std::array::from_fn(|r| f16::from_le_bytes([bytes[r * 2], bytes[r * 2 + 1]]));
    let mut out = [0.0; TILE];
    stored.convert_to_f32_slice(&mut out);
    out
}

/// The eight 6-bit scales and minima in the 12 packed bytes of a Q4_K or Q5_K block, four to a word.
#[inline(always)]
fn k_scales(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let [scale, min, rest] = words::<3>(packed);
    let both = |low: u32, high: u32| (u64::from(low) | u64::from(high) << 32).to_le_bytes();
    let (six, upper, lower) = (0x3f3f_3f3f, 0x3030_3030, 0x0f0f_0f0f);
    (both(scale & six, rest & lower | scale >> 2 & upper), both(min & six, rest >> 4 & lower | min >> 2 & upper))
}

/// The 32 unsigned quants of group `g` of a row, four to a word.
#[inline(always)]
fn unpack_group(format: Format, row: &[u8], g: usize) -> [u32; 8] {
    let per_block = format.block_len() / GROUP;
    let (b, sub) = (g / per_block, g % per_block);
    let block = &row[b * format.block_bytes()..][..format.block_bytes()];
    let nibbles = |at: usize| {
        let w = words::<4>(&block[at..]);
        std::array::from_fn(|i| w[i % 4] >> (i / 4 * 4) & NIBBLES)
    };
    let fifth = |at: usize, low: [u32; 8]| {
        let [high] = words::<1>(&block[at..]);
        // Four neighbours to bit 4 of four bytes, by a multiplication without carries.
        std::array::from_fn(|i| low[i] | ((high >> (4 * i) & 15).wrapping_mul(0x0020_4081) & ONES) << 4)
    };
    match format {
        Format::Q4_0 => nibbles(2),
        Format::Q4_1 => nibbles(4),
        Format::Q5_0 => fifth(2, nibbles(6)),
        Format::Q5_1 => fifth(4, nibbles(8)),
        Format::Q8_0 => words::<8>(&block[2..]).map(|w| w ^ 0x8080_8080),
        Format::Q4K => words::<8>(&block[16 + sub / 2 * 32..]).map(|w| w >> (sub % 2 * 4) & NIBBLES),
        Format::Q5K => {
            let (low, high) = (words::<8>(&block[48 + sub / 2 * 32..]), words::<8>(&block[16..]));
            std::array::from_fn(|i| (low[i] >> (sub % 2 * 4) & NIBBLES) | (high[i] >> sub & ONES) << 4)
        }
        Format::Q6K => {
            let (half, quarter) = (sub / 4, sub % 4);
            let low = words::<8>(&block[half * 64 + quarter % 2 * 32..]);
            let high = words::<8>(&block[128 + half * 32..]);
            std::array::from_fn(|i| {
                (low[i] >> (quarter / 2 * 4) & NIBBLES) | (high[i] >> (2 * quarter) & 0x0303_0303) << 4
            })
        }
        Format::F32 | Format::F16 | Format::BF16 => [0; 8],
    }
}

const NIBBLES: u32 = 0x0f0f_0f0f;
const ONES: u32 = 0x0101_0101;

/// The first little-endian words.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let bytes = &bytes[..4 * N];
    std::array::from_fn(|i| u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]))
}

/// The 32 quants of row `r` to their places in the payload described at the top of this file, four at a time.
#[inline(always)]
fn pack_row(bits: Bits, four: &[u32; 8], r: usize, out: &mut [u8]) {
    let mut put = |step: usize, four: u32| out[(step * TILE + r) * 4..][..4].copy_from_slice(&four.to_le_bytes());
    if bits == Bits::Eight {
        for s in 0..8 {
            put(s, four[s]);
        }
        return;
    }
    for s in 0..4 {
        put(s, four[s] & NIBBLES | (four[s + 4] & NIBBLES) << 4);
    }
    match bits {
        Bits::Five => {
            for s in 0..8 {
                // Bit 4 of each byte, gathered into four neighbours by a multiplication without carries.
                let nibble = ((four[s] >> 4 & ONES).wrapping_mul(0x0102_0408) >> 24) as u8 & 15;
                out[256 + s * 8 + r / 2] |= nibble << (r % 2 * 4);
            }
        }
        Bits::Six => {
            for half in 0..2 {
                let high = (0..4).fold(0, |high, s| high | (four[half * 4 + s] >> 4 & 0x0303_0303) << (2 * s));
                put(4 + half, high);
            }
        }
        Bits::Four | Bits::Eight => {}
    }
}
