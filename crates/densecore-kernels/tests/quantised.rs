//! Every packed format against its decoder, and the decoder against Candle's.
#![allow(clippy::unwrap_used, reason = "a test")]

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use densecore_kernels::{Activations, Format, Input, Matrix, Output, Pool, QuantMatrix, TILE, products};

const FORMATS: [(Format, GgmlDType); 8] = [
    (Format::Q4_0, GgmlDType::Q4_0),
    (Format::Q4_1, GgmlDType::Q4_1),
    (Format::Q5_0, GgmlDType::Q5_0),
    (Format::Q5_1, GgmlDType::Q5_1),
    (Format::Q8_0, GgmlDType::Q8_0),
    (Format::Q4K, GgmlDType::Q4K),
    (Format::Q5K, GgmlDType::Q5K),
    (Format::Q6K, GgmlDType::Q6K),
];

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // A sum of uniforms: bell-shaped, with tails.
            let u = |shift: u32| ((state >> shift) & 0xffff) as f32 / 65_536.0 - 0.5;
            u(0) + u(16) + u(32) + u(48)
        })
        .collect()
}

/// Blocks of random weights as Candle quantises them, and their values as Candle decodes them.
fn weights(kind: GgmlDType, rows: usize, cols: usize, seed: u64) -> (Vec<u8>, Vec<f32>) {
    let tensor = Tensor::from_vec(random(rows * cols, seed), (rows, cols), &Device::Cpu).unwrap();
    let quantised = QTensor::quantize(&tensor, kind).unwrap();
    let values = quantised.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    (quantised.data().unwrap().to_vec(), values)
}

#[test]
fn decoders_equal_candle() {
    for (format, kind) in FORMATS {
        let (rows, cols) = (5, 512);
        let (bytes, values) = weights(kind, rows, cols, 7);
        let mut ours = vec![0.0; rows * cols];
        format.dequantize_row(&bytes, &mut ours);
        for (a, b) in ours.iter().zip(&values) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{format:?}: {a} is not {b}");
        }
    }
}

#[test]
fn products_equal_the_reference_and_do_not_depend_on_company() {
    let pool = Pool::new(2);
    for (format, kind) in FORMATS {
        for (rows, groups) in [(1, 1), (16, 3), (37, 28), (70, 8)] {
            let cols = groups * format.block_len();
            let (bytes, values) = weights(kind, rows, cols, rows as u64);
            let matrix = Matrix::pack(&pool, format, rows, cols, &bytes).unwrap();
            let n = 27;
            let x = random(n * cols, 99);
            let mut input = Input::default();
            let prepared = input.prepare(&pool, &x, n, &[], &[&matrix]);
            let mut y = vec![0.0; n * rows];
            products(&pool, prepared, &[(&matrix, Output::new(&mut y, rows))]);
            // Against decoded weights: only the 8-bit inputs may differ.
            for i in 0..n {
                for r in 0..rows {
                    let (mut truth, mut size) = (0f64, 0f64);
                    for k in 0..cols {
                        let p = f64::from(x[i * cols + k]) * f64::from(values[r * cols + k]);
                        truth += p;
                        size += p * p;
                    }
                    let error = (f64::from(y[i * rows + r]) - truth).abs();
                    assert!(error <= 0.05 * size.sqrt() + 1e-5, "{format:?} {rows}x{cols}: {error} of {truth}");
                }
            }
            // One row alone, or in a batch of any size: the same bits.
            for n in [1, 2, 3, 5, 8, 13] {
                let mut input = Input::default();
                let prepared = input.prepare(&pool, &x, n, &[], &[&matrix]);
                let mut part = vec![0.0; n * rows];
                products(&pool, prepared, &[(&matrix, Output::new(&mut part, rows))]);
                assert_eq!(part, y[..n * rows], "{format:?} rows {n}");
            }
        }
    }
}

#[test]
fn tiers_agree_bit_for_bit() {
    // A scalar product over decoded integers, written from the definition, against whichever tier this machine has.
    let pool = Pool::new(1);
    for (format, kind) in FORMATS {
        let (rows, cols) = (TILE, format.block_len() * 3);
        let (bytes, _) = weights(kind, rows, cols, 3);
        let matrix = QuantMatrix::pack(&pool, format, rows, cols, &bytes).unwrap();
        let mut x = Activations::default();
        x.quantize(&random(cols * 14, 5), 14, cols);
        // Few rows and many take different paths, and blocks leave rests.
        for (first, n) in [(0, 1), (3, 2), (1, 3), (0, 4), (2, 7), (1, 13)] {
            let mut fast = vec![[0f32; TILE]; n];
            matrix.tile_product(0, &x, first, &mut fast);
            let mut reference = vec![[0f32; TILE]; n];
            matrix.reference_product(0, &x, first, &mut reference);
            assert_eq!(fast, reference, "{format:?}, {n} rows from {first}");
        }
    }
}

#[test]
fn dense_products_equal_the_plain_sum() {
    let pool = Pool::new(2);
    for (format, tolerance) in [(Format::F32, 1e-5), (Format::F16, 1e-5), (Format::BF16, 1e-5)] {
        for (rows, cols) in [(1, 1), (16, 64), (50, 33)] {
            let w = random(rows * cols, 11);
            let bytes: Vec<u8> = w
                .iter()
                .flat_map(|&v| match format {
                    Format::F16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
                    Format::BF16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
                    _ => v.to_le_bytes().to_vec(),
                })
                .collect();
            let mut stored = vec![0.0; rows * cols];
            format.dequantize_row(&bytes, &mut stored);
            let matrix = Matrix::pack(&pool, format, rows, cols, &bytes).unwrap();
            let n = 11;
            let x = random(n * cols, 12);
            let mut input = Input::default();
            let prepared = input.prepare(&pool, &x, n, &[], &[&matrix]);
            let mut y = vec![0.0; n * rows];
            products(&pool, prepared, &[(&matrix, Output::new(&mut y, rows))]);
            for i in 0..n {
                for r in 0..rows {
                    let truth: f64 =
                        (0..cols).map(|k| f64::from(x[i * cols + k]) * f64::from(stored[r * cols + k])).sum();
                    assert!((f64::from(y[i * rows + r]) - truth).abs() <= tolerance * (cols as f64).sqrt());
                }
            }
        }
    }
}
