//! Quantised products per second on the shapes of a 1.5B model: `cargo run --release -p densecore-kernels --example speed`.
#![allow(clippy::print_stdout)]
use densecore_kernels::{Format, Input, Matrix, Output, Pool, products};
use std::time::Instant;

fn main() {
    let pool = Pool::new(std::thread::available_parallelism().map_or(1, Into::into));
    for (format, rows, cols) in [
        (Format::Q4K, 8960, 1536),
        (Format::Q4K, 1536, 8960),
        (Format::Q6K, 1536, 8960),
        (Format::Q6K, 32_000, 1536),
        (Format::Q8_0, 4864, 896),
        (Format::Q5_0, 4864, 896),
        (Format::Q4_1, 1536, 576),
    ] {
        let bytes: Vec<u8> = (0..rows * format.row_bytes(cols).unwrap_or(0)).map(|i| (i * 37 % 61) as u8).collect();
        let start = Instant::now();
        let matrices: Vec<Matrix> =
            (0..8).filter_map(|_| Matrix::pack(&pool, format, rows, cols, &bytes).ok()).collect();
        let packing = (bytes.len() * matrices.len()) as f64 / start.elapsed().as_secs_f64() / 1e9;
        print!("{format:?} {rows}x{cols}: pack {packing:.2} GB/s;");
        for n in [1usize, 4, 8, 64, 512] {
            let x: Vec<f32> = (0..n * cols).map(|i| (i % 17) as f32 - 8.0).collect();
            let mut y = vec![0.0; n * rows];
            let mut input = Input::default();
            let start = Instant::now();
            let mut times = 0;
            while start.elapsed().as_secs_f64() < 0.3 {
                for m in &matrices {
                    let prepared = input.prepare(&pool, &x, n, &[], &[m]);
                    products(&pool, prepared, &[(m, Output::new(&mut y, rows))]);
                    times += 1;
                }
            }
            let seconds = start.elapsed().as_secs_f64() / f64::from(times);
            let gops = 2.0 * (n * rows * cols) as f64 / seconds / 1e9;
            print!(" n={n}: {gops:.0} Gop/s {:.1} GB/s;", matrices[0].bytes() as f64 / seconds / 1e9);
        }
        println!();
    }
}
