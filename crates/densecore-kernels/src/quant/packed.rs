//! A packed tile as the kernels of every tier see it, and the choice of the kernel that fits a layout.

use super::layout::{Layout, Scales};

/// Where the parts of one tile lie; its layout is part of the type, so that a kernel is compiled for each.
pub struct Packed<const BITS: u8, const KIND: u8> {
    pub payload: *const u8,
    pub scales: *const u8,
    /// The quant that stands for zero, of [`CENTRED`] scales.
    pub zero: f32,
}

/// Kinds of scales, see [`Scales`].
pub const CENTRED: u8 = 0;
pub const OFFSET: u8 = 1;
pub const SUPER: u8 = 2;
pub const SIX: u8 = 3;

impl<const BITS: u8, const KIND: u8> Packed<BITS, KIND> {
    /// Bytes of a group's payload.
    pub const SIZE: usize = match BITS {
        4 => 256,
        5 => 320,
        6 => 384,
        _ => 512,
    };
    /// Scale groups per 32 components.
    pub const PARTS: usize = if KIND == SIX { 2 } else { 1 };

    /// The tile in `bytes`.
    pub fn new(layout: &Layout, bytes: &[u8]) -> Self {
        assert!(layout.payload == Self::SIZE, "a kernel for {BITS} bits was given {:?}", layout.bits);
        let (payload, scales) = bytes.split_at(layout.groups * layout.payload);
        assert!(scales.len() >= layout.scale_bytes, "a tile is too short");
        let zero = if let Scales::Centred { zero } = layout.scales { f32::from(zero) } else { 0.0 };
        Self { payload: payload.as_ptr(), scales: scales.as_ptr(), zero }
    }

    /// Asks for the payload of a later group: memory takes longer than one group's products.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn ask_ahead(&self, g: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const AHEAD: usize = 4096;
        let ahead = self.payload.wrapping_add(g * Self::SIZE + AHEAD);
        for line in 0..Self::SIZE / 64 {
            // SAFETY: a prefetch does not read; any address will do.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line * 64).cast()) };
        }
    }
}

/// Calls `kernel::<BITS, KIND>(arguments)` for a layout.
macro_rules! for_layout {
    ($layout:expr, $kernel:ident $arguments:tt) => {{
        use $crate::quant::layout::{Bits, Scales};
        use $crate::quant::packed::{CENTRED, OFFSET, SIX, SUPER};
        match ($layout.bits, $layout.scales) {
            (Bits::Four, Scales::Centred { .. }) => $kernel::<4, CENTRED> $arguments,
            (Bits::Four, Scales::Offset) => $kernel::<4, OFFSET> $arguments,
            (Bits::Four, Scales::SuperBlock) => $kernel::<4, SUPER> $arguments,
            (Bits::Five, Scales::Centred { .. }) => $kernel::<5, CENTRED> $arguments,
            (Bits::Five, Scales::Offset) => $kernel::<5, OFFSET> $arguments,
            (Bits::Five, Scales::SuperBlock) => $kernel::<5, SUPER> $arguments,
            (Bits::Six, Scales::SixBit) => $kernel::<6, SIX> $arguments,
            (Bits::Eight, Scales::Centred { .. }) => $kernel::<8, CENTRED> $arguments,
            (bits, scales) => unreachable!("{bits:?} bits with {scales:?}: no format has them"),
        }
    }};
}
pub(super) use for_layout;
