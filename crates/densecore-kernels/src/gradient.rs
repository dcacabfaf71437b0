//! The way back through what happens between products: given the gradient by a result, the gradient by its input.
//!
//! Weights are frozen, so only inputs have gradients. Everything is f32; sums run as in [`crate::vector`].

use crate::cpu::tiered;
use crate::vector::{exp, lane_sum, max};

tiered! {
    /// Adds to `dx` the gradient of [`crate::vector::rms_norm`] at `x`, `dy` being that by its result.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) = rms_norm_body
}
#[inline(always)]
fn rms_norm_body(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = dx.len();
    let (x, weight, dy) = (&x[..n], &weight[..n], &dy[..n]);
    let mean = lane_sum(n, |i| x[i] * x[i]) / n as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    // What the scale itself owes to every component.
    let share = lane_sum(n, |i| weight[i] * dy[i] * x[i]) * scale * scale / n as f32;
    for i in 0..n {
        dx[i] += scale * (weight[i] * dy[i] - x[i] * share);
    }
}

tiered! {
    /// The same for each `weight.len()`-wide head of `x`; `d` is the gradient by the results and becomes that by `x`.
    pub fn rms_norm_heads(x: &[f32], weight: &[f32], eps: f32, d: &mut [f32]) = rms_norm_heads_body
}
#[inline(always)]
fn rms_norm_heads_body(x: &[f32], weight: &[f32], eps: f32, d: &mut [f32]) {
    let n = weight.len();
    for (x, d) in x.chunks_exact(n).zip(d.chunks_exact_mut(n)) {
        let mean = lane_sum(n, |i| x[i] * x[i]) / n as f32;
        let scale = 1.0 / (mean + eps).sqrt();
        let share = lane_sum(n, |i| weight[i] * d[i] * x[i]) * scale * scale / n as f32;
        for i in 0..n {
            d[i] = scale * (weight[i] * d[i] - x[i] * share);
        }
    }
}

tiered! {
    /// The gradients of `silu(gate) * up`, whose own gradient is `d`, take the places of `gate` and `up`.
    pub fn silu_mul(gate: &mut [f32], up: &mut [f32], d: &[f32]) = silu_mul_body
}
#[inline(always)]
fn silu_mul_body(gate: &mut [f32], up: &mut [f32], d: &[f32]) {
    for ((g, u), d) in gate.iter_mut().zip(up).zip(d) {
        let open = 1.0 / (1.0 + exp(-*g));
        let act = *g * open;
        let by_gate = open * (1.0 + *g - act);
        (*g, *u) = (d * *u * by_gate, d * act);
    }
}

tiered! {
    /// The negative log-probability of `target`; `logits` become its gradient, `weight * (softmax - one)`.
    pub fn cross_entropy(logits: &mut [f32], target: usize, weight: f32) -> f64 = cross_entropy_body
}
#[inline(always)]
fn cross_entropy_body(logits: &mut [f32], target: usize, weight: f32) -> f64 {
    let (largest, chosen) = (max(logits), logits[target]);
    let mut total = 0f64;
    for part in logits.chunks_mut(256) {
        for l in part.iter_mut() {
            *l = exp(*l - largest);
        }
        total += f64::from(lane_sum(part.len(), |i| part[i]));
    }
    let share = (f64::from(weight) / total) as f32;
    for l in logits.iter_mut() {
        *l *= share;
    }
    logits[target] -= weight;
    total.ln() + f64::from(largest) - f64::from(chosen)
}
