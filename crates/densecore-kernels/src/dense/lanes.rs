//! The operations dense kernels are made of, on columns of 16 floats. Each tier says what a column is in its registers;
//! the kernels are written once over them, so all tiers compute the same function, bit for bit.

use crate::quant::TILE;

/// Columns of 16 floats. Every method may need the processor features of its tier; kernels are inlined into functions
/// that have them.
pub trait Lanes {
    /// One column.
    type Column: Copy;
    /// Whether 24 columns fit into registers beside their operands; otherwise 6 do.
    const WIDE: bool;

    /// Zeros.
    unsafe fn zero() -> Self::Column;
    /// The same number 16 times.
    unsafe fn splat(x: f32) -> Self::Column;
    /// SAFETY: 16 floats are readable at `p`.
    unsafe fn load(p: *const f32) -> Self::Column;
    /// SAFETY: 16 floats are writable at `p`.
    unsafe fn store(p: *mut f32, v: Self::Column);
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::Column, b: Self::Column, c: Self::Column) -> Self::Column;
    /// `a + b`.
    unsafe fn add(a: Self::Column, b: Self::Column) -> Self::Column;
    /// Sixteen f16. SAFETY: 32 bytes are readable at `p`.
    unsafe fn half(p: *const u8) -> Self::Column;
    /// The bf16 in the lower halves of sixteen 32-bit words. SAFETY: 64 bytes are readable at `p`.
    unsafe fn brain_low(p: *const u8) -> Self::Column;
    /// The bf16 in the upper halves. SAFETY: as above.
    unsafe fn brain_high(p: *const u8) -> Self::Column;
    /// Sixteen unsigned bytes. SAFETY: 16 bytes are readable at `p`.
    unsafe fn bytes(p: *const u8) -> Self::Column;
    /// Rows become columns.
    unsafe fn transpose(rows: [Self::Column; TILE]) -> [Self::Column; TILE];
    /// Asks for the cache line at `p`, which may be any address.
    unsafe fn prefetch(_p: *const u8) {}
}

/// Plain arrays: the reference.
pub struct Portable;

impl Lanes for Portable {
    type Column = [f32; TILE];
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self::Column {
        [0.0; TILE]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::Column {
        [x; TILE]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::Column {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<Self::Column>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::Column) {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<Self::Column>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::Column, b: Self::Column, c: Self::Column) -> Self::Column {
        std::array::from_fn(|r| a[r].mul_add(b[r], c[r]))
    }
    #[inline(always)]
    unsafe fn add(a: Self::Column, b: Self::Column) -> Self::Column {
        std::array::from_fn(|r| a[r] + b[r])
    }
    #[inline(always)]
    unsafe fn half(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        let stored = unsafe { p.cast::<[[u8; 2]; TILE]>().read_unaligned() };
        std::array::from_fn(|r| half::f16::from_le_bytes(stored[r]).to_f32())
    }
    #[inline(always)]
    unsafe fn brain_low(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        let stored = unsafe { p.cast::<[[u8; 4]; TILE]>().read_unaligned() };
        stored.map(|word| f32::from_bits(u32::from_le_bytes(word) << 16))
    }
    #[inline(always)]
    unsafe fn brain_high(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        let stored = unsafe { p.cast::<[[u8; 4]; TILE]>().read_unaligned() };
        stored.map(|word| f32::from_bits(u32::from_le_bytes(word) & 0xffff_0000))
    }
    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> Self::Column {
        // SAFETY: the trait's contract.
        unsafe { p.cast::<[u8; TILE]>().read_unaligned() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn transpose(rows: [Self::Column; TILE]) -> [Self::Column; TILE] {
        std::array::from_fn(|c| std::array::from_fn(|r| rows[r][c]))
    }
}
