//! Dense products and their transposes on the shapes of a 0.5B model, weights read from memory rather than a cache:
//! `cargo run --release -p densecore-kernels --example dense_speed [rows of input]...`.
#![allow(clippy::print_stdout)]
use densecore_kernels::{Arena, Format, Input, Matrix, Output, Panels, Pool, products, transposed_products};
use std::time::Instant;

/// Bytes of all copies of a matrix together: more than caches hold.
const WEIGHTS: usize = 400 << 20;

fn random(len: usize) -> impl Iterator<Item = f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    (0..len).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    })
}

/// The best of some calls, in seconds; every call gets another number.
fn best(mut call: impl FnMut(usize)) -> f64 {
    let (start, mut best, mut calls) = (Instant::now(), f64::MAX, 0);
    while start.elapsed().as_secs_f64() < 0.4 || calls < 3 {
        let one = Instant::now();
        call(calls);
        best = best.min(one.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}

fn main() {
    let pool = Pool::new(std::thread::available_parallelism().map_or(1, Into::into));
    let mut rows: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    if rows.is_empty() {
        rows = vec![1, 2, 4, 8, 12, 16, 64, 512];
    }
    for (format, height, width) in [
        (Format::BF16, 4864, 896),
        (Format::BF16, 896, 4864),
        (Format::BF16, 896, 896),
        (Format::BF16, 151_936, 896),
        (Format::F16, 4864, 896),
        (Format::F32, 4864, 896),
        (Format::F32, 896, 4864),
        (Format::Q4K, 1024, 4096),
        (Format::Q6K, 1024, 4096),
        (Format::Q8_0, 4864, 896),
    ] {
        let mut bytes: Vec<u8> = match format {
            Format::F32 => random(height * width).flat_map(f32::to_le_bytes).collect(),
            Format::F16 => random(height * width).flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect(),
            Format::BF16 => random(height * width).flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect(),
            // Any bytes are quants; no scale of these is large.
            _ => random(height * format.row_bytes(width).unwrap_or(0)).map(|v| (v * 31.0) as u8).collect(),
        };
        bytes.shrink_to_fit();
        let copies = (WEIGHTS / bytes.len()).clamp(1, 64);
        let arena = Arena::default();
        let matrices: Vec<Matrix> =
            (0..copies).filter_map(|_| Matrix::pack(&pool, &arena, format, height, width, &bytes).ok()).collect();
        print!("{format:?} {height}x{width}:");
        for &n in rows.iter().filter(|&&n| n * height < 1 << 24) {
            let x: Vec<f32> = random(n * width).collect();
            let mut y = vec![0.0; n * height];
            let mut input = Input::default();
            let seconds = best(|call| {
                let m = &matrices[call % copies];
                let prepared = input.prepare(&pool, &x, n, &[], &[m]);
                products(&pool, prepared, &mut [(m, Output::new(&mut y, height))]);
            });
            let flops = 2.0 * (n * height * width) as f64 / 1e9;
            print!(" n={n} {:.0} Gflop/s {:.1} GB/s", flops / seconds, matrices[0].bytes() as f64 / seconds / 1e9);
            let dy: Vec<f32> = random(n * height).collect();
            let mut dx = vec![0.0; n * width];
            let mut panels = Panels::default();
            let seconds = best(|call| {
                let m = &matrices[call % copies];
                let done = transposed_products(&pool, &mut panels, n, &[(m, &dy)], &mut Output::new(&mut dx, width));
                assert!(done.is_ok());
            });
            print!(", transposed {:.0};", flops / seconds);
        }
        println!();
    }
}
