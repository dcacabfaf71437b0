//! The way back through the attention of a whole batch.
//!
//! Scores are computed again, tile by tile as on the way there. Each task takes one key/value head of one sequence, so
//! what several queries give to one key is summed by one thread, in one order.

use crate::attention::{self, CacheFormat, SPAN, multiply_strided};
use crate::cpu::tiered;
use crate::heads::{Heads, Span};
use crate::pool::Pool;
use crate::vector::{exp, lane_sum, max};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Query positions taken through the tiles at a time.
const POSITIONS: usize = 16;

/// What attention gave and what its result's gradient is; all `[rows][heads * head_dim]`.
#[derive(Debug, Clone, Copy)]
pub struct Attended<'a> {
    /// Rotated queries.
    pub queries: &'a [f32],
    /// The result, [`crate::attend_batch`].
    pub out: &'a [f32],
    /// Its gradient.
    pub d_out: &'a [f32],
}

/// Gradients by the keys and values of one sequence, `[positions][kv_heads * head_dim]` from some position on.
#[derive(Debug, Clone, Default)]
pub struct KvGradients {
    /// By the keys, as they lie in the cache: rotated.
    pub keys: Vec<f32>,
    /// By the values.
    pub values: Vec<f32>,
}

/// The gradient by the queries goes to `d_queries`; those by keys and values, from position `from[s]` of span `s` on,
/// are returned. Rounding of keys and values in the cache counts as no rounding.
pub fn attend_batch_back(
    pool: &Pool,
    heads: Heads,
    x: Attended<'_>,
    spans: &[Span<'_>],
    from: &[usize],
    d_queries: &mut [f32],
) -> Vec<KvGradients> {
    let (d, width, group) = (heads.head_dim, heads.heads * heads.head_dim, heads.heads / heads.kv_heads);
    let least = x.queries.len().min(x.out.len()).min(x.d_out.len()).min(d_queries.len());
    assert!(spans.iter().all(|s| (s.row + s.len) * width <= least), "span outside the batch");
    assert!(spans.len() == from.len() && spans.iter().zip(from).all(|(s, &from)| from <= s.position + s.len));
    let heads_done: Vec<Mutex<HeadGradients>> =
        (0..spans.len() * heads.kv_heads).map(|_| Mutex::new(HeadGradients::default())).collect();
    // Long sequences first.
    let mut order: Vec<usize> = (0..heads_done.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(spans[i / heads.kv_heads].len));
    pool.run(order.len(), &|i| {
        let (s, head) = (order[i] / heads.kv_heads, order[i] % heads.kv_heads);
        let done = one_head(heads, x, &spans[s], head, from[s]);
        *heads_done[order[i]].lock().unwrap_or_else(PoisonError::into_inner) = done;
    });
    let mut all = Vec::with_capacity(spans.len());
    let mut heads_done = heads_done.into_iter().map(|h| h.into_inner().unwrap_or_else(PoisonError::into_inner));
    for (span, &from) in spans.iter().zip(from) {
        let (positions, kv_width) = (span.position + span.len - from, heads.kv_heads * d);
        let mut both = KvGradients { keys: vec![0.0; positions * kv_width], values: vec![0.0; positions * kv_width] };
        for (head, done) in heads_done.by_ref().take(heads.kv_heads).enumerate() {
            let skip = from % SPAN;
            for (to, from) in [(&mut both.keys, &done.keys), (&mut both.values, &done.values)] {
                for (to, from) in to.chunks_exact_mut(kv_width).zip(from.chunks_exact(d).skip(skip)) {
                    to[head * d..(head + 1) * d].copy_from_slice(from);
                }
            }
            for (p, from) in done.queries.chunks_exact(group * d).enumerate() {
                d_queries[(span.row + p) * width + head * group * d..][..group * d].copy_from_slice(from);
            }
        }
        all.push(both);
    }
    all
}

/// What one key/value head gives: by its queries `[len][group * d]`, and by keys and values `[positions][d]` from the
/// beginning of the tile that holds the first position asked for.
#[derive(Default)]
struct HeadGradients {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// A tile the other way round: keys by positions `[64][d]`, values by components `[d][64]`; unseen positions are zero.
struct Turned {
    keys: Vec<f32>,
    values: Vec<f32>,
}

fn one_head(heads: Heads, x: Attended<'_>, span: &Span<'_>, head: usize, from: usize) -> HeadGradients {
    let Heads { heads: all, kv_heads, head_dim: d, format, scale, window } = heads;
    let (width, group) = (all * d, all / kv_heads);
    let end = span.position + span.len;
    let tiles = end.div_ceil(SPAN);
    let first_tile = from / SPAN;
    let turned: Vec<Turned> = (0..tiles)
        .map(|t| {
            let mut turned = Turned { keys: vec![0.0; SPAN * d], values: vec![0.0; SPAN * d] };
            let mut value = vec![0.0; d];
            for p in 0..SPAN.min(end - t * SPAN) {
                let key = &mut turned.keys[p * d..(p + 1) * d];
                attention::read_tile(format, (span.tile)(head, t), p, key, &mut value);
                value.iter().enumerate().for_each(|(i, &v)| turned.values[i * SPAN + p] = v);
            }
            turned
        })
        .collect();
    let kept = (tiles - first_tile.min(tiles)) * SPAN * d;
    let mut done =
        HeadGradients { queries: vec![0.0; span.len * group * d], keys: vec![0.0; kept], values: vec![0.0; kept] };
    let most = POSITIONS * group;
    let (mut q, mut d_out, mut owed) = (vec![0.0; most * d], vec![0.0; most * d], vec![0.0; most]);
    let mut scores = vec![0.0; tiles * most * SPAN];
    let (mut d_scores, mut across) = (vec![0.0; most * SPAN], vec![0.0; most * SPAN]);
    for at in (0..span.len).step_by(POSITIONS) {
        let len = POSITIONS.min(span.len - at);
        let rows = len * group;
        for p in 0..len {
            let from = (span.row + at + p) * width + head * group * d;
            for g in 0..group {
                let (row, from) = (p * group + g, from + g * d);
                let d_row = &x.d_out[from..from + d];
                d_out[row * d..(row + 1) * d].copy_from_slice(d_row);
                q[row * d..(row + 1) * d].iter_mut().zip(&x.queries[from..]).for_each(|(to, q)| *to = q * scale);
                owed[row] = d_row.iter().zip(&x.out[from..]).map(|(a, b)| a * b).sum();
            }
        }
        let (q, d_out) = (&q[..rows * d], &d_out[..rows * d]);
        let seen = span.position + at + len;
        let tiles = seen.div_ceil(SPAN);
        let visible = |row: usize, t: usize| attention::visible(span.position + at + row / group, window, t);
        for (t, scores) in scores.chunks_exact_mut(most * SPAN).take(tiles).enumerate() {
            let scores = &mut scores[..rows * SPAN];
            scores.fill(0.0);
            multiply_strided(format, q, d, d, (span.tile)(head, t).keys, SPAN, scores);
        }
        for row in 0..rows {
            let mut parts: Vec<&mut [f32]> = scores
                .chunks_exact_mut(most * SPAN)
                .take(tiles)
                .map(|s| &mut s[row * SPAN..(row + 1) * SPAN])
                .collect();
            soften(&mut parts, |t| visible(row, t));
        }
        let d_q = &mut done.queries[at * group * d..][..rows * d];
        for (t, weights) in scores.chunks_exact(most * SPAN).take(tiles).enumerate() {
            let weights = &weights[..rows * SPAN];
            let d_scores = &mut d_scores[..rows * SPAN];
            d_scores.fill(0.0);
            let bytes = CacheFormat::F32;
            multiply_strided(bytes, d_out, d, d, as_bytes(&turned[t].values), SPAN, d_scores);
            for row in 0..rows {
                let part = row * SPAN..(row + 1) * SPAN;
                for (ds, w) in d_scores[part.clone()].iter_mut().zip(&weights[part]) {
                    *ds = w * (*ds - owed[row]);
                }
            }
            multiply_strided(bytes, d_scores, SPAN, SPAN, as_bytes(&turned[t].keys), d, d_q);
            if t >= first_tile {
                let part = (t - first_tile) * SPAN * d..(t - first_tile + 1) * SPAN * d;
                let across = &mut across[..rows * SPAN];
                transpose(d_scores, rows, across);
                multiply_strided(bytes, across, rows, rows, as_bytes(q), d, &mut done.keys[part.clone()]);
                transpose(weights, rows, across);
                multiply_strided(bytes, across, rows, rows, as_bytes(d_out), d, &mut done.values[part]);
            }
        }
        for v in d_q.iter_mut() {
            *v *= scale;
        }
    }
    done
}

/// One row's scores, cut into tiles, to weights; what the row does not see becomes 0.
fn soften(parts: &mut [&mut [f32]], visible: impl Fn(usize) -> Range<usize>) {
    let mut largest = f32::NEG_INFINITY;
    for (t, part) in parts.iter().enumerate() {
        largest = largest.max(max(&part[visible(t)]));
    }
    let mut sum = 0.0;
    for (t, part) in parts.iter_mut().enumerate() {
        let Range { start, end } = visible(t);
        part[..start].fill(0.0);
        part[end..].fill(0.0);
        sum += exp_in_place(&mut part[start..end], largest);
    }
    let inverse = 1.0 / sum;
    for s in parts.iter_mut().flat_map(|part| part.iter_mut()) {
        *s *= inverse;
    }
}

tiered! {
    /// `x = e^(x - shift)`, and the sum of it.
    pub fn exp_in_place(x: &mut [f32], shift: f32) -> f32 = exp_in_place_body
}
#[inline(always)]
fn exp_in_place_body(x: &mut [f32], shift: f32) -> f32 {
    for x in x.iter_mut() {
        *x = exp(*x - shift);
    }
    lane_sum(x.len(), |i| x[i])
}

/// `[rows][64]` to `[64][rows]`.
fn transpose(x: &[f32], rows: usize, out: &mut [f32]) {
    for (r, row) in x.chunks_exact(SPAN).enumerate() {
        for (p, v) in row.iter().enumerate() {
            out[p * rows + r] = *v;
        }
    }
}

/// Floats as the bytes they are, in native order.
fn as_bytes(x: &[f32]) -> &[u8] {
    // SAFETY: floats have no padding, and any alignment will do for bytes.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), size_of_val(x)) }
}
