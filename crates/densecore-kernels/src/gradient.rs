//! The way back through what happens between products: given the gradient by a result, the gradient by its input.
//!
//! Weights are frozen, so only inputs have gradients. Everything is f32; sums run as in [`crate::vector`].

use crate::cpu::tiered;
use crate::vector::{GELU, exp, lane_sum, max};

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
    /// `x`, what [`crate::vector::silu`] was given, becomes its gradient; `d` is that by the result.
    pub fn silu(x: &mut [f32], d: &[f32]) = silu_body
}
#[inline(always)]
fn silu_body(x: &mut [f32], d: &[f32]) {
    for (x, d) in x.iter_mut().zip(d) {
        let open = 1.0 / (1.0 + exp(-*x));
        *x = d * open * (1.0 + *x * (1.0 - open));
    }
}

/// GELU at `x`, and its slope.
#[inline(always)]
fn gelu_and_slope(x: f32) -> (f32, f32) {
    let open = 1.0 / (1.0 + exp(-GELU.0 * (x + GELU.1 * x * x * x)));
    (x * open, open + x * open * (1.0 - open) * GELU.0 * (1.0 + 3.0 * GELU.1 * x * x))
}

tiered! {
    /// `x`, what [`crate::vector::gelu`] was given, becomes its gradient; `d` is that by the result.
    pub fn gelu(x: &mut [f32], d: &[f32]) = gelu_body
}
#[inline(always)]
fn gelu_body(x: &mut [f32], d: &[f32]) {
    for (x, d) in x.iter_mut().zip(d) {
        *x = d * gelu_and_slope(*x).1;
    }
}

tiered! {
    /// The gradients of `gelu(gate) * up`, whose own gradient is `d`, take the places of `gate` and `up`.
    pub fn gelu_mul(gate: &mut [f32], up: &mut [f32], d: &[f32]) = gelu_mul_body
}
#[inline(always)]
fn gelu_mul_body(gate: &mut [f32], up: &mut [f32], d: &[f32]) {
    for ((g, u), d) in gate.iter_mut().zip(up).zip(d) {
        let (act, slope) = gelu_and_slope(*g);
        (*g, *u) = (d * *u * slope, d * act);
    }
}

tiered! {
    /// Adds to `dx` the gradient of [`crate::vector::layer_norm`] at `x`, `dy` being that by its result.
    pub fn layer_norm(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) = layer_norm_body
}
#[inline(always)]
fn layer_norm_body(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = dx.len();
    let (x, weight, dy) = (&x[..n], &weight[..n], &dy[..n]);
    let mean = lane_sum(n, |i| x[i]) / n as f32;
    let variance = lane_sum(n, |i| (x[i] - mean) * (x[i] - mean)) / n as f32;
    let scale = 1.0 / (variance + eps).sqrt();
    // What mean and scale owe to every component.
    let level = lane_sum(n, |i| weight[i] * dy[i]) / n as f32;
    let share = lane_sum(n, |i| weight[i] * dy[i] * (x[i] - mean)) * scale * scale / n as f32;
    for i in 0..n {
        dx[i] += scale * (weight[i] * dy[i] - level - (x[i] - mean) * share);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector;

    /// Compares a gradient with central differences of `f`, a function of `x` in double the usual care.
    fn check(x: &[f32], d: &[f32], f: impl Fn(&[f32]) -> f64) {
        for i in 0..x.len() {
            let moved = |by: f32| {
                let mut x = x.to_vec();
                x[i] += by;
                f(&x)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((slope - f64::from(d[i])).abs() < 2e-3 * (1.0 + slope.abs()), "{i}: {slope} and {}", d[i]);
        }
    }

    fn sample(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 9.0 - 1.2).collect()
    }

    #[test]
    fn activations_and_layer_norm_follow_finite_differences() {
        let (x, up, weight, dy) = (sample(19, 1), sample(19, 2), sample(19, 3), sample(19, 4));
        let sum = |out: &[f32]| out.iter().zip(&dy).map(|(o, d)| f64::from(*o) * f64::from(*d)).sum::<f64>();
        let plain = |x: &[f32]| {
            let mut out = x.to_vec();
            vector::gelu(&mut out);
            sum(&out)
        };
        let mut by_x = x.clone();
        gelu(&mut by_x, &dy);
        check(&x, &by_x, plain);
        let plain = |x: &[f32]| {
            let mut out = x.to_vec();
            vector::silu(&mut out);
            sum(&out)
        };
        let mut by_x = x.clone();
        silu(&mut by_x, &dy);
        check(&x, &by_x, plain);
        let gated = |gate: &[f32], up: &[f32]| {
            let mut out = gate.to_vec();
            vector::gelu_mul(&mut out, up);
            sum(&out)
        };
        let (mut by_gate, mut by_up) = (x.clone(), up.clone());
        gelu_mul(&mut by_gate, &mut by_up, &dy);
        check(&x, &by_gate, |x| gated(x, &up));
        check(&up, &by_up, |up| gated(&x, up));
        let bias = vec![0.25; 19];
        let normed = |x: &[f32]| {
            let mut out = vec![0.0; x.len()];
            vector::layer_norm(x, &weight, &bias, 1e-5, &mut out);
            sum(&out)
        };
        let mut by_x = vec![0.0; 19];
        layer_norm(&x, &weight, 1e-5, &dy, &mut by_x);
        check(&x, &by_x, normed);
    }
}
