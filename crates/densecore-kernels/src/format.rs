//! The block formats of GGUF weights: sizes, and the scalar decoder every packed kernel is checked against.

use half::{bf16, f16};

/// How the numbers of one tensor are stored. Names and layouts follow the GGUF specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// The format of a GGUF tensor type number, if it is one of ours.
    pub fn from_ggml(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// Weights in one block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `k` weights; `None` when `k` is not a whole number of blocks or overflows.
    pub fn row_bytes(self, k: usize) -> Option<usize> {
        if !k.is_multiple_of(self.block_len()) {
            return None;
        }
        (k / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether the numbers are plain floats rather than quantised blocks.
    pub fn is_dense(self) -> bool {
        self.block_len() == 1
    }

    /// Decodes one row: `out.len()` weights from `bytes`. Lengths must match [`Format::row_bytes`].
    pub fn dequantize_row(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(Some(bytes.len()), self.row_bytes(out.len()), "row bytes do not match its length");
        let blocks = bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block_len()));
        for (block, out) in blocks {
            match self {
                Self::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
                Self::F16 => out[0] = half_at(block, 0),
                Self::BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
                Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => self.small_block(block, out),
                Self::Q4K | Self::Q5K => self.k_block(block, out),
                Self::Q6K => q6k_block(block, out),
            }
        }
    }

    /// Formats of 32 weights with one scale, and one minimum in the `_1` kinds.
    fn small_block(self, block: &[u8], out: &mut [f32]) {
        let d = half_at(block, 0);
        if self == Self::Q8_0 {
            for (o, &q) in out.iter_mut().zip(&block[2..]) {
                *o = d * f32::from(q as i8);
            }
            return;
        }
        let has_min = matches!(self, Self::Q4_1 | Self::Q5_1);
        let five = matches!(self, Self::Q5_0 | Self::Q5_1);
        let head = if has_min { 4 } else { 2 };
        let (high, quants) = if five {
            let h = &block[head..head + 4];
            (u32::from_le_bytes([h[0], h[1], h[2], h[3]]), head + 4)
        } else {
            (0, head)
        };
        let zero = if five { 16.0 } else { 8.0 };
        let min = if has_min { half_at(block, 2) } else { -zero * d };
        for i in 0..16 {
            let byte = block[quants + i];
            let low = (byte & 15) | (((high >> i) & 1) << 4) as u8;
            let up = (byte >> 4) | (((high >> (i + 16)) & 1) << 4) as u8;
            out[i] = f32::from(low).mul_add(d, min);
            out[i + 16] = f32::from(up).mul_add(d, min);
        }
    }

    /// Super-blocks of 8 x 32 weights with 6-bit scales and minima.
    fn k_block(self, block: &[u8], out: &mut [f32]) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let scales = &block[4..16];
        let (high, quants) =
            if self == Self::Q5K { (Some(&block[16..48]), &block[48..]) } else { (None, &block[16..]) };
        for sub in 0..8 {
            let (scale, min) = k_scale(scales, sub);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for i in 0..32 {
                let byte = quants[sub / 2 * 32 + i];
                let mut q = if sub % 2 == 0 { byte & 15 } else { byte >> 4 };
                if let Some(high) = high {
                    q |= ((high[i] >> sub) & 1) << 4;
                }
                out[sub * 32 + i] = scale * f32::from(q) - min;
            }
        }
    }
}

/// The little-endian half float at byte `at`.
pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The 6-bit (scale, minimum) of sub-block `sub` in the 12 packed bytes of a Q4_K or Q5_K block.
pub(crate) fn k_scale(packed: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        ((packed[sub + 4] & 15) | ((packed[sub - 4] >> 6) << 4), (packed[sub + 4] >> 4) | ((packed[sub] >> 6) << 4))
    }
}

/// The 6-bit quant `i` (0..256) of a Q6_K block, 0 to 63 with zero at 32.
fn q6k_quant(block: &[u8], i: usize) -> u8 {
    let (half, r) = (i / 128, i % 128);
    let (quarter, l) = (r / 32, r % 32);
    let low = block[half * 64 + (quarter % 2) * 32 + l];
    let low = if quarter < 2 { low & 15 } else { low >> 4 };
    low | (((block[128 + half * 32 + l] >> (2 * quarter)) & 3) << 4)
}

fn q6k_block(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 208);
    for (i, o) in out.iter_mut().enumerate() {
        let scale = f32::from(block[192 + i / 16] as i8);
        *o = d * scale * (f32::from(q6k_quant(block, i)) - 32.0);
    }
}
