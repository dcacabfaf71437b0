//! Dense products bit for bit against their definition, and products with the transposed matrix, of every format.
#![allow(clippy::unwrap_used, reason = "a test")]

use densecore_kernels::{Arena, Format, Input, Matrix, Output, Panels, Pool, products, transposed_products};

const DENSE: [Format; 3] = [Format::F32, Format::F16, Format::BF16];
const QUANTISED: [Format; 8] =
    [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0, Format::Q4K, Format::Q5K, Format::Q6K];
/// Terms of a sum that are added up before their sum joins the total.
const RUN: usize = 64;

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// A matrix of random weights and the floats it stands for. Quants are random bytes, scales random halves of about 1/8.
fn weights(pool: &Pool, format: Format, rows: usize, cols: usize) -> (Matrix, Vec<f32>) {
    let seed = (rows * 1000 + cols) as u64;
    let mut bytes: Vec<u8> = match format {
        Format::F32 => random(rows * cols, seed).into_iter().flat_map(f32::to_le_bytes).collect(),
        Format::F16 => {
            random(rows * cols, seed).into_iter().flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect()
        }
        Format::BF16 => {
            random(rows * cols, seed).into_iter().flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect()
        }
        _ => {
            let len = rows * format.row_bytes(cols).unwrap();
            random(len, seed).into_iter().map(|v| (v * 128.0) as i8 as u8).collect()
        }
    };
    let halves: &[usize] = match format {
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        Format::Q6K => &[208],
        Format::F32 | Format::F16 | Format::BF16 => &[],
    };
    for (i, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
        for &at in halves {
            let scale = half::f16::from_f32((1.0 + (i % 13) as f32) / 64.0);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    let mut values = vec![0.0; rows * cols];
    for (row, out) in bytes.chunks_exact(format.row_bytes(cols).unwrap()).zip(values.chunks_exact_mut(cols)) {
        format.dequantize_row(row, out);
    }
    (Matrix::pack(pool, &Arena::default(), format, rows, cols, &bytes).unwrap(), values)
}

/// The definition: runs of fused multiply-adds from zero, added to a total.
fn defined(total: f32, k: usize, x: impl Fn(usize) -> f32, w: impl Fn(usize) -> f32) -> f32 {
    (0..k)
        .step_by(RUN)
        .fold(total, |total, start| total + (start..k.min(start + RUN)).fold(0f32, |sum, i| w(i).mul_add(x(i), sum)))
}

/// Sum of products in double precision, and the sum of their sizes.
fn exact(k: usize, x: impl Fn(usize) -> f32, w: impl Fn(usize) -> f32) -> (f64, f64) {
    (0..k).fold((0.0, 0.0), |(sum, size), i| {
        let p = f64::from(x(i)) * f64::from(w(i));
        (sum + p, size + p.abs())
    })
}

#[test]
fn dense_products_equal_their_definition_in_any_company() {
    for format in DENSE {
        for (rows, cols) in [(1, 1), (16, 64), (50, 33), (37, 129), (112, 96), (70, 896)] {
            let pool = Pool::new(2);
            let (matrix, w) = weights(&pool, format, rows, cols);
            let most = 41;
            let x = random(most * cols, 12);
            for n in [1, 2, 3, 4, 7, 8, 9, 12, 13, 23, 24, most] {
                let mut input = Input::default();
                let prepared = input.prepare(&pool, &x, n, &[], &[&matrix]);
                let stride = rows + 3;
                let mut y = vec![7.0; n * stride];
                products(&pool, prepared, &mut [(&matrix, Output::new(&mut y, stride))]);
                for (i, y) in y.chunks_exact(stride).enumerate() {
                    for r in 0..rows {
                        let (x, w) = (|k: usize| x[i * cols + k], |k: usize| w[r * cols + k]);
                        assert_eq!(y[r], defined(0.0, cols, x, w), "{format:?} {rows}x{cols}, row {i} of {n}");
                        let (truth, size) = exact(cols, x, w);
                        assert!((f64::from(y[r]) - truth).abs() <= 1e-6 * size + 1e-30);
                    }
                    assert_eq!(y[rows..], [7.0; 3]);
                }
            }
        }
    }
}

#[test]
fn many_rows_and_several_jobs_equal_single_rows() {
    let pool = Pool::new(3);
    for format in DENSE {
        let cols = 80;
        let shapes = [100, 16, 33];
        let matrices: Vec<Matrix> = shapes.iter().map(|&rows| weights(&pool, format, rows, cols).0).collect();
        let n = 1600;
        let x = random(n * cols, 4);
        let mut together: Vec<Vec<f32>> = shapes.iter().map(|rows| vec![0.0; n * rows]).collect();
        let all: Vec<&Matrix> = matrices.iter().collect();
        let mut input = Input::default();
        let prepared = input.prepare(&pool, &x, n, &[0], &all);
        let mut jobs: Vec<_> =
            all.iter().zip(&mut together).zip(shapes).map(|((&m, y), rows)| (m, Output::new(y, rows))).collect();
        products(&pool, prepared, &mut jobs);
        drop(jobs);
        for (j, &rows) in shapes.iter().enumerate() {
            for i in (0..n).step_by(61).chain([767, 768, n - 1]) {
                let mut alone = vec![0.0; rows];
                let mut input = Input::default();
                let prepared = input.prepare(&pool, &x[i * cols..(i + 1) * cols], 1, &[], &[&matrices[j]]);
                products(&pool, prepared, &mut [(&matrices[j], Output::new(&mut alone, rows))]);
                assert_eq!(alone, together[j][i * rows..(i + 1) * rows], "{format:?}, job {j}, row {i}");
            }
        }
    }
}

#[test]
fn transposed_products_equal_their_definition_in_any_company() {
    let pools = [Pool::new(1), Pool::new(3)];
    for format in DENSE.into_iter().chain(QUANTISED) {
        let shapes: &[(usize, usize)] = match format.block_len() {
            1 => &[(1, 1), (16, 64), (50, 33), (300, 17), (65, 896)],
            32 => &[(1, 32), (70, 96), (300, 32), (17, 896)],
            _ => &[(1, 256), (70, 512), (300, 256)],
        };
        for &(rows, cols) in shapes {
            let (matrix, w) = weights(&pools[0], format, rows, cols);
            let most = 26;
            let dy = random(most * rows, 5);
            for n in [1, 2, 5, 12, most] {
                for pool in &pools {
                    let mut dx = vec![7.0; n * cols];
                    let mut panels = Panels::default();
                    transposed_products(
                        pool,
                        &mut panels,
                        n,
                        &[(&matrix, &dy[..n * rows])],
                        &mut Output::new(&mut dx, cols),
                    )
                    .unwrap();
                    for (i, dx) in dx.chunks_exact(cols).enumerate() {
                        for c in 0..cols {
                            let (x, w) = (|r: usize| dy[i * rows + r], |r: usize| w[r * cols + c]);
                            assert_eq!(dx[c], defined(0.0, rows, x, w), "{format:?} {rows}x{cols}, row {i} of {n}");
                            let (truth, size) = exact(rows, x, w);
                            assert!((f64::from(dx[c]) - truth).abs() <= 1e-6 * size + 1e-30);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn transposed_products_sum_over_their_terms_and_many_rows() {
    let pool = Pool::new(2);
    let (cols, n) = (256, 800);
    let terms: Vec<(Matrix, Vec<f32>, Vec<f32>)> = [(Format::BF16, 40), (Format::Q4K, 70), (Format::F32, 5)]
        .into_iter()
        .map(|(format, rows)| {
            let (matrix, w) = weights(&pool, format, rows, cols);
            (matrix, w, random(n * rows, rows as u64))
        })
        .collect();
    let parts: Vec<(&Matrix, &[f32])> = terms.iter().map(|(m, _, dy)| (m, &dy[..])).collect();
    let mut dx = vec![0.0; n * cols];
    transposed_products(&pool, &mut Panels::default(), n, &parts, &mut Output::new(&mut dx, cols)).unwrap();
    for i in [0, 1, 500, 767, 768, n - 1] {
        for c in 0..cols {
            let truth = terms
                .iter()
                .fold(0.0, |total, (m, w, dy)| defined(total, m.rows(), |r| dy[i * m.rows() + r], |r| w[r * cols + c]));
            assert_eq!(dx[i * cols + c], truth, "row {i}, column {c}");
        }
    }
}
