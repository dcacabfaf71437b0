//! Every packed format against its decoder, and the decoder against Candle's.
#![allow(clippy::unwrap_used, reason = "a test")]

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use densecore_kernels::{
    Activations, Arena, Format, GROUP, Input, Matrix, Output, Pool, QuantMatrix, Source, TILE, products,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
            let matrix = Matrix::pack(&pool, &Arena::default(), format, rows, cols, &bytes).unwrap();
            let n = 27;
            let x = random(n * cols, 99);
            let mut input = Input::default();
            let prepared = input.prepare(&pool, &x, n, &[], &[&matrix]);
            let mut y = vec![0.0; n * rows];
            products(&pool, prepared, &mut [(&matrix, Output::new(&mut y, rows))]);
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
                products(&pool, prepared, &mut [(&matrix, Output::new(&mut part, rows))]);
                assert_eq!(part, y[..n * rows], "{format:?} rows {n}");
            }
        }
    }
}

#[test]
fn precise_rows_are_the_same_in_any_company_and_better_than_others() {
    let pool = Pool::new(3);
    for (format, kind) in FORMATS {
        let (rows, cols) = (40, 512);
        let (bytes, values) = weights(kind, rows, cols, 17);
        let matrix = Matrix::pack(&pool, &Arena::default(), format, rows, cols, &bytes).unwrap();
        // One component drowns the others of its group.
        let mut x = random(25 * cols, 23);
        x.iter_mut().step_by(GROUP).for_each(|v| *v *= 1000.0);
        let run = |x: &[f32], precise: &[usize]| {
            let n = x.len() / cols;
            let (mut input, mut y) = (Input::default(), vec![0.0; n * rows]);
            let prepared = input.prepare(&pool, x, n, precise, &[&matrix]);
            products(&pool, prepared, &mut [(&matrix, Output::new(&mut y, rows))]);
            y
        };
        let error = |y: &[f32], row: usize| -> f64 {
            let truth = |r: usize| -> f64 {
                (0..cols).map(|k| f64::from(x[row * cols + k]) * f64::from(values[r * cols + k])).sum()
            };
            (0..rows).map(|r| (f64::from(y[row * rows + r]) - truth(r)).powi(2)).sum::<f64>().sqrt()
        };
        // The rests come behind the rows, in the last block or in one of their own.
        for n in [1, 2, 10, 11, 12, 13, 23, 24, 25] {
            let precise = if n == 1 { vec![0] } else { vec![0, n - 1] };
            let (plain, better) = (run(&x[..n * cols], &[]), run(&x[..n * cols], &precise));
            for row in 0..n {
                let (all, part) = (&better[row * rows..][..rows], &plain[row * rows..][..rows]);
                if precise.contains(&row) {
                    assert_eq!(all, run(&x[row * cols..][..cols], &[0]), "{format:?}, row {row} of {n}");
                    assert!(error(&better, row) < 0.1 * error(&plain, row), "{format:?}, row {row} of {n}");
                } else {
                    assert_eq!(all, part, "{format:?}, row {row} of {n}");
                }
            }
        }
    }
}

#[test]
fn inputs_larger_than_the_caches_change_nothing() {
    let pool = Pool::new(2);
    for (format, kind) in FORMATS {
        let (rows, cols, n) = (70, 9216, 61);
        let (bytes, _) = weights(kind, rows, cols, 5);
        let matrix = QuantMatrix::pack(&pool, &Arena::default(), format, rows, cols, &bytes).unwrap();
        let mut x = Activations::default();
        x.quantize(&random(n * cols, 6), n, cols);
        let mut all = vec![[f32::NAN; TILE]; n * matrix.tiles()];
        matrix.products(0..matrix.tiles(), &x, &mut all);
        for (t, fast) in all.chunks_exact(n).enumerate() {
            let mut reference = vec![[0f32; TILE]; n];
            matrix.reference_product(t, &x, &mut reference);
            assert!(fast == reference, "{format:?}, tile {t}");
        }
    }
}

/// Blocks that know when they are dropped.
#[derive(Debug)]
struct Blocks(Vec<u8>, Arc<AtomicBool>);

impl Source for Blocks {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_opened_matrix_equals_a_packed_one_and_lets_its_source_go() {
    let (pool, arena) = (Pool::new(3), Arc::new(Arena::default()));
    for (format, kind) in FORMATS {
        for (rows, cols, n) in [(1, 256, 1), (40, 512, 3), (333, 768, 30)] {
            let (bytes, _) = weights(kind, rows, cols, 29);
            let dropped = Arc::new(AtomicBool::new(false));
            let source = Box::new(Blocks(bytes.clone(), Arc::clone(&dropped)));
            let opened = Matrix::open(&pool, &arena, format, rows, cols, source).unwrap();
            let packed = Matrix::pack(&pool, &arena, format, rows, cols, &bytes).unwrap();
            assert_eq!(opened.bytes(), packed.bytes());
            for time in 0..3 {
                assert_eq!(dropped.load(Ordering::Relaxed), time > 1, "{format:?}, use {time}");
                let x = random(n * cols, 31 + time);
                let results = [&opened, &packed].map(|matrix| {
                    let (mut input, mut y) = (Input::default(), vec![f32::NAN; n * rows]);
                    let prepared = input.prepare(&pool, &x, n, &[], &[matrix]);
                    products(&pool, prepared, &mut [(matrix, Output::new(&mut y, rows))]);
                    y
                });
                assert!(results[0] == results[1], "{format:?} {rows} x {cols}, {n} rows, use {time}");
            }
        }
    }
}

#[test]
fn callers_of_an_opened_matrix_do_not_disturb_each_other() {
    let (pool, arena) = (Pool::new(2), Arc::new(Arena::default()));
    let (rows, cols) = (500, 512);
    for (format, kind) in FORMATS {
        let (bytes, _) = weights(kind, rows, cols, 37);
        let source = Box::new(Blocks(bytes.clone(), Arc::default()));
        let opened = Matrix::open(&pool, &arena, format, rows, cols, source).unwrap();
        let packed = Matrix::pack(&pool, &arena, format, rows, cols, &bytes).unwrap();
        let x = random(2 * cols, 41);
        let run = |matrix: &Matrix| {
            let (mut input, mut y) = (Input::default(), vec![f32::NAN; 2 * rows]);
            let prepared = input.prepare(&pool, &x, 2, &[], &[matrix]);
            products(&pool, prepared, &mut [(matrix, Output::new(&mut y, rows))]);
            y
        };
        let right = run(&packed);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..4).for_each(|_| assert!(run(&opened) == right, "{format:?}")));
            }
        });
    }
}

/// Blocks of any bits at all but tame scales, or the largest quants if `full`.
fn blocks(format: Format, rows: usize, cols: usize, full: bool, random: &mut impl FnMut() -> u64) -> Vec<u8> {
    let size = format.block_bytes();
    let halves: &[usize] = match format {
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
        Format::Q6K => &[208],
        _ => &[0, 2],
    };
    let largest = if format == Format::Q8_0 { 0x7f } else { 0xff };
    let mut bytes: Vec<u8> =
        (0..rows * cols / format.block_len() * size).map(|_| if full { largest } else { random() as u8 }).collect();
    for block in bytes.chunks_exact_mut(size) {
        for &at in halves {
            let scale = half::f16::from_f32((random() % 2001) as f32 * 1e-4 - 0.1);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

/// All tiles times the rows of `x` through this machine's tier and through the reference, bit for bit; and the last
/// row again without the others.
fn compare(matrix: &QuantMatrix, x: &[f32], what: &str) {
    let (cols, n) = (matrix.cols(), x.len() / matrix.cols());
    let (mut together, mut alone) = (Activations::default(), Activations::default());
    together.quantize(x, n, cols);
    alone.quantize(&x[x.len().saturating_sub(cols)..], n.min(1), cols);
    for t in 0..matrix.tiles() {
        let mut fast = vec![[f32::NAN; TILE]; n];
        matrix.products(t..t + 1, &together, &mut fast);
        let mut reference = vec![[0f32; TILE]; n];
        matrix.reference_product(t, &together, &mut reference);
        assert!(reference.as_flattened().iter().all(|v| v.is_finite()), "{what}");
        assert_eq!(fast, reference, "{what}, tile {t}, {n} rows");
        let mut last = vec![[f32::NAN; TILE]; n.min(1)];
        matrix.products(t..t + 1, &alone, &mut last);
        assert_eq!(fast.last(), last.last(), "{what}, tile {t}, the last of {n} rows");
    }
}

#[test]
fn tiers_agree_bit_for_bit() {
    // The reference, which is plain Rust written from the definition, against whichever tier this machine has; on
    // other numbers each time.
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 24
    };
    let pool = Pool::new(1);
    for (format, _) in FORMATS {
        let per_block = format.block_len();
        for (rows, cols) in [(16, per_block), (1, 96), (7, 768), (33, 896), (20, 2560)] {
            if cols % per_block != 0 {
                continue;
            }
            let bytes = blocks(format, rows, cols, false, &mut number);
            let matrix = QuantMatrix::pack(&pool, &Arena::default(), format, rows, cols, &bytes).unwrap();
            let what = format!("{format:?} {rows}x{cols}, seed {seed}");
            for n in (0..=25).chain([36, 61]) {
                compare(&matrix, &random(n * cols, number()), &what);
            }
        }
    }
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let pool = Pool::new(1);
    for (format, _) in FORMATS {
        let (rows, cols) = (TILE, 512);
        let mut scale = 1000;
        let bytes = blocks(format, rows, cols, true, &mut || {
            scale += 37;
            scale
        });
        let matrix = QuantMatrix::pack(&pool, &Arena::default(), format, rows, cols, &bytes).unwrap();
        // All inputs at one end, at the other, and alternating by one, two and three.
        let inputs: [fn(usize) -> bool; 5] = [|_| true, |_| false, |i| i % 2 == 0, |i| i / 2 % 2 == 0, |i| i % 3 == 0];
        let x: Vec<f32> = (0..10 * cols).map(|i| if inputs[i / cols % 5](i % cols) { 1.0 } else { -1.0 }).collect();
        for n in [1, 2, 3, 4, 5, 10] {
            compare(&matrix, &x[..n * cols], &format!("{format:?}"));
            compare(&matrix, &x[(10 - n) * cols..], &format!("{format:?}"));
        }
    }
}
