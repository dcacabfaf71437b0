//! What this machine can do at best, beside which the kernels of `speed` are read:
//! `cargo run --release -p densecore-kernels --example peaks`. Products from registers with one operand broadcast from
//! the first-level cache, as the kernels use them; reads of a gigabyte.
#![allow(clippy::print_stdout)]
use std::time::Instant;

const TURNS: usize = 4_000_000;
/// Sums kept apart, so that no product waits for the one before.
const SUMS: usize = 16;

/// Seconds of `work` on so many threads at once, the best of some.
fn best(threads: usize, work: impl Fn() + Sync) -> f64 {
    (0..5)
        .map(|_| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                (0..threads).for_each(|_| {
                    scope.spawn(&work);
                });
            });
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{SUMS, TURNS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Operands of eight turns, read again and again.
    static BYTES: [i32; 8 * SUMS] = [0x0101_0101; 8 * SUMS];
    static FLOATS: [f32; 8 * SUMS] = [1e-9; 8 * SUMS];

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn dots() {
        let mut sums = [_mm512_setzero_si512(); SUMS];
        let w = _mm512_set1_epi8(black_box(3));
        for turn in 0..TURNS {
            let x = &BYTES[turn % 8 * SUMS..][..SUMS];
            for i in 0..SUMS {
                sums[i] = _mm512_dpbusd_epi32(sums[i], w, _mm512_set1_epi32(x[i]));
            }
        }
        black_box(sums.map(|s| _mm512_reduce_add_epi32(s)));
    }

    #[target_feature(enable = "avx512f")]
    pub fn floats() {
        let mut sums = [_mm512_setzero_ps(); SUMS];
        let w = _mm512_set1_ps(black_box(3.0));
        for turn in 0..TURNS {
            let x = &FLOATS[turn % 8 * SUMS..][..SUMS];
            for i in 0..SUMS {
                sums[i] = _mm512_fmadd_ps(w, _mm512_set1_ps(x[i]), sums[i]);
            }
        }
        black_box(sums.map(|s| _mm512_reduce_add_ps(s)));
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn halves() {
        let mut sums = [_mm512_setzero_ps(); SUMS];
        let pairs = _mm512_cvtneps_pbh(_mm512_set1_ps(black_box(1.0)));
        // SAFETY: both are 256 bits of brain floats.
        let w: __m512bh = unsafe { std::mem::transmute([pairs, pairs]) };
        for _ in 0..TURNS {
            for i in 0..SUMS {
                sums[i] = _mm512_dpbf16_ps(sums[i], w, w);
            }
        }
        black_box(sums.map(|s| _mm512_reduce_add_ps(s)));
    }
}

fn main() {
    let all = std::thread::available_parallelism().map_or(1, Into::into);
    for threads in if all == 1 { vec![1] } else { vec![1, all] } {
        print!("{threads} threads:");
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let rate = |operations: usize, work: fn()| {
                (threads * TURNS * SUMS * operations) as f64 / best(threads, work) / 1e9
            };
            if has!("avx512vnni") {
                // SAFETY: the feature was just asked for.
                let work = || unsafe { wide::dots() };
                print!(" 8-bit dot products {:.0} Gop/s;", rate(128, work));
            }
            if has!("avx512f") {
                // SAFETY: as above.
                let work = || unsafe { wide::floats() };
                print!(" floats {:.0} Gflop/s;", rate(32, work));
            }
            if has!("avx512bf16") {
                // SAFETY: as above.
                let work = || unsafe { wide::halves() };
                print!(" brain floats {:.0} Gflop/s;", rate(64, work));
            }
        }
        let data = vec![1u64; (1 << 30) / size_of::<u64>()];
        let part = data.len() / threads;
        let next = std::sync::atomic::AtomicUsize::new(0);
        let seconds = best(threads, || {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % threads;
            std::hint::black_box(data[i * part..(i + 1) * part].iter().fold(0u64, |a, b| a ^ b));
        });
        println!(" reads {:.1} GB/s", (threads * part * size_of::<u64>()) as f64 / seconds / 1e9);
    }
}
