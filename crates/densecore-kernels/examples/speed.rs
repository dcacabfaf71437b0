//! Products per second on the shapes of small models, and attention:
//! `cargo run --release -p densecore-kernels --example speed -- [formats] [rows of input] [MiB]`,
//! for instance `-- Q4K,Q6K 1,4,512 600`. The last argument is how much of one shape lies in memory: more than the
//! caches hold shows decoding as a large model sees it. `-- attention` measures attention instead.
#![allow(clippy::print_stdout)]
use densecore_kernels::attention::{CacheFormat, KvTile, SPAN};
use densecore_kernels::{
    Arena, Floats, Format, Heads, Input, Matrix, Output, Pool, Span, Tier, attend_batch, products,
};
use std::time::Instant;

const SHAPES: [(Format, usize, usize); 10] = [
    (Format::Q4K, 8960, 1536),
    (Format::Q4K, 1536, 8960),
    (Format::Q5K, 8960, 1536),
    (Format::Q6K, 1536, 8960),
    (Format::Q6K, 32_000, 1536),
    (Format::Q4_0, 4864, 896),
    (Format::Q4_1, 1536, 576),
    (Format::Q5_0, 4864, 896),
    (Format::Q5_1, 4864, 896),
    (Format::Q8_0, 4864, 896),
];
/// Seconds a measurement takes at least; the best of its slices counts.
const SLICES: usize = 4;
const SLICE: f64 = 0.12;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pool = Pool::new(std::thread::available_parallelism().map_or(1, Into::into));
    println!("tier {}, {} threads", Tier::detect().name(), pool.threads());
    if arguments.first().is_some_and(|a| a == "attention") {
        return attention(&pool);
    }
    let wanted = |format: Format| {
        arguments.first().is_none_or(|list| list == "all" || list.split(',').any(|f| f == format!("{format:?}")))
    };
    let counts: Vec<usize> = arguments
        .get(1)
        .map_or_else(|| vec![1, 4, 8, 16, 64, 512], |list| list.split(',').filter_map(|n| n.parse().ok()).collect());
    let room: usize = arguments.get(2).and_then(|m| m.parse().ok()).unwrap_or(64) << 20;
    for (format, rows, cols) in SHAPES.into_iter().filter(|s| wanted(s.0)) {
        let bytes: Vec<u8> = (0..rows * format.row_bytes(cols).unwrap_or(0)).map(|i| (i * 37 % 61) as u8).collect();
        let copies = room.div_ceil(bytes.len());
        let start = Instant::now();
        let arena = Arena::default();
        let matrices: Vec<Matrix> =
            (0..copies).filter_map(|_| Matrix::pack(&pool, &arena, format, rows, cols, &bytes).ok()).collect();
        let packing = (bytes.len() * matrices.len()) as f64 / start.elapsed().as_secs_f64() / 1e9;
        print!("{format:?} {rows}x{cols}: pack {packing:.2} GB/s;");
        for &n in &counts {
            let x: Vec<f32> = (0..n * cols).map(|i| (i % 17) as f32 - 8.0).collect();
            let mut y = Floats::default();
            if y.grow(n * rows).is_err() {
                continue;
            }
            let mut input = Input::default();
            let mut next = matrices.iter().cycle();
            let seconds = best(&mut || {
                let Some(m) = next.next() else { return };
                let prepared = input.prepare(&pool, &x, n, &[], &[m]);
                products(&pool, prepared, &mut [(m, Output::new(&mut y, rows))]);
            });
            let gops = 2.0 * (n * rows * cols) as f64 / seconds / 1e9;
            print!(" n={n}: {gops:.0} Gop/s {:.1} GB/s;", matrices[0].bytes() as f64 / seconds / 1e9);
        }
        println!();
    }
}

/// Seconds of one call, the best of some slices of many.
fn best(call: &mut dyn FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..SLICES {
        let (start, mut times) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < SLICE {
            call();
            times += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(times));
    }
    best
}

/// One layer's attention in the shape of a 1.5B model: a token, or a chunk of 64, at the end of 2048 positions.
fn attention(pool: &Pool) {
    let (heads, kv_heads, head_dim, positions) = (12, 2, 128, 2048);
    for format in [CacheFormat::F32, CacheFormat::F16] {
        let tile_bytes = head_dim * SPAN * format.bytes();
        let cache: Vec<u8> = vec![0; 2 * kv_heads * (positions / SPAN) * tile_bytes];
        for len in [1usize, 64] {
            let queries: Vec<f32> = (0..len * heads * head_dim).map(|i| (i % 17) as f32 - 8.0).collect();
            let mut out = vec![0.0; queries.len()];
            let tile = |head: usize, t: usize| {
                let at = (head * (positions / SPAN) + t) * 2 * tile_bytes;
                KvTile { keys: &cache[at..at + tile_bytes], values: &cache[at + tile_bytes..at + 2 * tile_bytes] }
            };
            let shape = Heads { heads, kv_heads, head_dim, format, scale: 0.088, window: usize::MAX };
            let seconds = best(&mut || {
                let span = Span { row: 0, len, position: positions - len, tile: &tile };
                attend_batch(pool, shape, &queries, &[span], &mut out);
            });
            let gops = 4.0 * (len * heads * head_dim * positions) as f64 / seconds / 1e9;
            println!("attention {format:?} rows={len}: {:.0} us, {gops:.1} Gop/s", seconds * 1e6);
        }
    }
}
