//! Attention against a plain softmax in double precision, whole against piecewise.

use densecore_kernels::attention::{CacheFormat, KvTile, SPAN, Scratch, attend, write_tile};

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut s = seed | 1;
    (0..n)
        .map(|_| {
            s = s.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (s >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

#[test]
fn equals_plain_softmax_and_does_not_depend_on_chunks() {
    for (format, tolerance) in [(CacheFormat::F32, 2e-6), (CacheFormat::F16, 2e-3)] {
        let all = usize::MAX;
        for (head_dim, group, window) in [
            (20, 3, all),
            (24, 5, all),
            (32, 7, all),
            (64, 1, all),
            (80, 2, all),
            (128, 6, all),
            (20, 3, 1),
            (24, 2, 40),
            (32, 1, 63),
            (32, 2, 64),
            (64, 1, 65),
            (16, 2, 70),
            (80, 1, 129),
            (24, 2, 150),
        ] {
            let length = 150usize;
            let (k, v) = (random(length * head_dim, 1), random(length * head_dim, 2));
            let q = random(length * group * head_dim, 3);
            let bytes = SPAN * head_dim * format.bytes();
            let mut tiles = vec![(vec![0u8; bytes], vec![0u8; bytes]); length.div_ceil(SPAN)];
            for p in 0..length {
                let (keys, values) = &mut tiles[p / SPAN];
                let row = p * head_dim..(p + 1) * head_dim;
                write_tile(format, keys, values, p % SPAN, &k[row.clone()], &v[row]);
            }
            let tile = |t: usize| KvTile { keys: &tiles[t].0, values: &tiles[t].1 };
            let positions: Vec<usize> = (0..length * group).map(|r| r / group).collect();
            let mut whole = vec![0.0; q.len()];
            let mut scratch = Scratch::default();
            attend(format, head_dim, &q, &positions, window, &tile, &mut scratch, &mut whole);
            for (r, &p) in positions.iter().enumerate() {
                let q = &q[r * head_dim..][..head_dim];
                let from = (p + 1).saturating_sub(window);
                let scores: Vec<f64> = (from..=p)
                    .map(|j| (0..head_dim).map(|d| f64::from(q[d]) * f64::from(k[j * head_dim + d])).sum())
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                for d in 0..head_dim {
                    let truth: f64 = (from..=p)
                        .zip(&scores)
                        .map(|(j, score)| (score - largest).exp() / total * f64::from(v[j * head_dim + d]))
                        .sum();
                    let ours = f64::from(whole[r * head_dim + d]);
                    assert!(
                        (ours - truth).abs() < tolerance * (1.0 + head_dim as f64 / 16.0),
                        "{format:?} {head_dim}: {ours} {truth}"
                    );
                }
            }
            // One position at a time: the same bits.
            for p in [0, 1, 63, 64, 65, 127, 128, 149] {
                let row = p * group * head_dim..(p + 1) * group * head_dim;
                let mut alone = vec![0.0; group * head_dim];
                attend(format, head_dim, &q[row.clone()], &vec![p; group], window, &tile, &mut scratch, &mut alone);
                assert_eq!(alone, whole[row]);
            }
        }
    }
}
