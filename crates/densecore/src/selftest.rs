//! A quick check that this machine's kernels compute what the reference computes.

use densecore_kernels::{Activations, Arena, Format, Pool, QuantMatrix, TILE, Tier};

/// One compared kernel.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// Whether the results were equal bit for bit.
    pub ok: bool,
}

/// Compares every packed format with the portable reference on made-up weights.
pub fn self_test() -> Vec<Check> {
    let pool = Pool::new(1);
    let formats =
        [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0, Format::Q4K, Format::Q5K, Format::Q6K];
    formats
        .into_iter()
        .map(|format| {
            let cols = format.block_len() * 2;
            let bytes = blocks(format, TILE * 2);
            let x: Vec<f32> = (0..3 * cols).map(|i| ((i * 29 % 101) as f32 - 50.0) / 17.0).collect();
            let equal = QuantMatrix::pack(&pool, &Arena::default(), format, TILE, cols, &bytes).is_ok_and(|matrix| {
                let mut input = Activations::default();
                input.quantize(&x, 3, cols);
                let (mut fast, mut reference) = ([[0f32; TILE]; 3], [[0f32; TILE]; 3]);
                matrix.products(0..1, &input, &mut fast);
                matrix.reference_product(0, &input, &mut reference);
                fast == reference
            });
            Check { name: format!("{} product, {format:?}", Tier::detect().name()), ok: equal }
        })
        .collect()
}

/// Blocks of scrambled quants with sane scales.
fn blocks(format: Format, count: usize) -> Vec<u8> {
    let size = format.block_bytes();
    let mut bytes: Vec<u8> = (0..count * size).map(|i| (i * 167 + i / 7 * 31) as u8).collect();
    let small = half::f16::from_f32(0.01).to_le_bytes();
    for block in bytes.chunks_exact_mut(size) {
        let scale = if format == Format::Q6K { 208 } else { 0 };
        block[scale..scale + 2].copy_from_slice(&small);
        if matches!(format, Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K) {
            block[2..4].copy_from_slice(&small);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_passes() {
        for check in super::self_test() {
            assert!(check.ok, "{}", check.name);
        }
    }
}
