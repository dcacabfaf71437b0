//! Row-wise arithmetic between the products: norms, activation, rotation, softmax.
//!
//! Sums run over 16 lanes in a fixed order, so a row's result does not depend on the processor's vector width.

use crate::cpu::tiered;

const LANES: usize = 16;
/// Values whose sum is taken in single precision; such sums are added in double precision.
const SUMMED: usize = 256;

/// The sum of `f(i)` lane by lane, then over the lanes in order.
#[inline(always)]
pub(crate) fn lane_sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for l in 0..LANES {
            lanes[l] += f(i + l);
        }
        i += LANES;
    }
    for i in whole..n {
        lanes[i - whole] += f(i);
    }
    lanes.iter().sum()
}

tiered! {
    /// `out = x / rms(x) * weight`, with `eps` inside the root.
    pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = rms_norm_body
}
#[inline(always)]
fn rms_norm_body(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let n = out.len();
    let (x, weight) = (&x[..n], &weight[..n]);
    let mean = lane_sum(n, |i| x[i] * x[i]) / n as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for i in 0..n {
        out[i] = x[i] * scale * weight[i];
    }
}

tiered! {
    /// Normalises each `weight.len()`-wide head of `x` in place.
    pub fn rms_norm_heads(x: &mut [f32], weight: &[f32], eps: f32) = rms_norm_heads_body
}
#[inline(always)]
fn rms_norm_heads_body(x: &mut [f32], weight: &[f32], eps: f32) {
    for head in x.chunks_exact_mut(weight.len()) {
        let n = head.len();
        let mean = lane_sum(n, |i| head[i] * head[i]) / n as f32;
        let scale = 1.0 / (mean + eps).sqrt();
        for i in 0..n {
            head[i] = head[i] * scale * weight[i];
        }
    }
}

/// e^x for x <= 88, within 2 units in the last place; 0 below -87. Straight-line code, so that it vectorises.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer held in the low bits
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // ln 2 in two parts keeps the remainder exact.
    let r = n.mul_add(-0.693_359_4, clamped);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_2e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127)) << 23);
    if x < -87.3 { 0.0 } else { y * power }
}

tiered! {
    /// `out = (x - mean(x)) / deviation(x) * weight + bias`, with `eps` inside the root.
    pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) = layer_norm_body
}
#[inline(always)]
fn layer_norm_body(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = out.len();
    let (x, weight, bias) = (&x[..n], &weight[..n], &bias[..n]);
    let mean = lane_sum(n, |i| x[i]) / n as f32;
    let variance = lane_sum(n, |i| (x[i] - mean) * (x[i] - mean)) / n as f32;
    let scale = 1.0 / (variance + eps).sqrt();
    for i in 0..n {
        out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
    }
}

tiered! {
    /// `gate = silu(gate) * up`, silu(v) = v / (1 + e^-v).
    pub fn silu_mul(gate: &mut [f32], up: &[f32]) = silu_mul_body
}
#[inline(always)]
fn silu_mul_body(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + exp(-*g)) * u;
    }
}

tiered! {
    /// `x = silu(x)`.
    pub fn silu(x: &mut [f32]) = silu_body
}
#[inline(always)]
fn silu_body(x: &mut [f32]) {
    for x in x.iter_mut() {
        *x = *x / (1.0 + exp(-*x));
    }
}

/// Twice the root of 2 / pi, and the weight of the cube, of GELU's approximation by a hyperbolic tangent.
pub(crate) const GELU: (f32, f32) = (1.595_769, 0.044_715);

/// GELU by a hyperbolic tangent, x / (1 + e^-z) with z = 2 sqrt(2 / pi) (x + 0.044715 x^3): the one models are trained with.
#[inline(always)]
pub(crate) fn gelu_of(x: f32) -> f32 {
    let z = GELU.0 * (x + GELU.1 * x * x * x);
    x / (1.0 + exp(-z))
}

tiered! {
    /// `x = gelu(x)`.
    pub fn gelu(x: &mut [f32]) = gelu_body
}
#[inline(always)]
fn gelu_body(x: &mut [f32]) {
    for x in x.iter_mut() {
        *x = gelu_of(*x);
    }
}

tiered! {
    /// `gate = gelu(gate) * up`.
    pub fn gelu_mul(gate: &mut [f32], up: &[f32]) = gelu_mul_body
}
#[inline(always)]
fn gelu_mul_body(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = gelu_of(*g) * u;
    }
}

tiered! {
    /// `x *= a`.
    pub fn scale(x: &mut [f32], a: f32) = scale_body
}
#[inline(always)]
fn scale_body(x: &mut [f32], a: f32) {
    for x in x.iter_mut() {
        *x *= a;
    }
}

tiered! {
    /// `x += y`.
    pub fn add(x: &mut [f32], y: &[f32]) = add_body
}
#[inline(always)]
fn add_body(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

tiered! {
    /// `x += a * y`.
    pub fn add_scaled(x: &mut [f32], a: f32, y: &[f32]) = add_scaled_body
}
#[inline(always)]
fn add_scaled_body(x: &mut [f32], a: f32, y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = a.mul_add(*y, *x);
    }
}

tiered! {
    /// The Euclidean norm.
    pub fn norm(x: &[f32]) -> f32 = norm_body
}
#[inline(always)]
fn norm_body(x: &[f32]) -> f32 {
    lane_sum(x.len(), |i| x[i] * x[i]).sqrt()
}

tiered! {
    /// Rotates the first components of each `head_dim`-wide head of `x` by the angles whose cosines and sines are given,
    /// `cos.len()` pairs a head: component `i` with `i + pairs`, or neighbours `2i, 2i + 1` if `interleaved`.
    pub fn rotate(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], interleaved: bool) = rotate_body
}
#[inline(always)]
fn rotate_body(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32], interleaved: bool) {
    let pairs = cos.len();
    let sin = &sin[..pairs];
    for head in x.chunks_exact_mut(head_dim) {
        let head = &mut head[..2 * pairs];
        if interleaved {
            for i in 0..pairs {
                let (a, b) = (head[2 * i], head[2 * i + 1]);
                head[2 * i] = a * cos[i] - b * sin[i];
                head[2 * i + 1] = b * cos[i] + a * sin[i];
            }
        } else {
            let (first, second) = head.split_at_mut(pairs);
            for i in 0..pairs {
                let (a, b) = (first[i], second[i]);
                first[i] = a * cos[i] - b * sin[i];
                second[i] = b * cos[i] + a * sin[i];
            }
        }
    }
}

tiered! {
    /// The largest value; negative infinity for an empty slice. NaN is passed over.
    pub fn max(x: &[f32]) -> f32 = max_body
}
#[inline(always)]
fn max_body(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for l in 0..LANES {
            lanes[l] = if chunk[l] > lanes[l] { chunk[l] } else { lanes[l] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b))
}

/// The place of the first largest value; 0 for an empty slice.
pub fn argmax(x: &[f32]) -> usize {
    let largest = max(x);
    x.iter().position(|&v| v == largest).unwrap_or(0)
}

tiered! {
    /// `out = e^(scale * (x - shift))`, and the sum of it in double precision.
    pub fn exp_shifted(x: &[f32], shift: f32, scale: f32, out: &mut [f32]) -> f64 = exp_shifted_body
}
#[inline(always)]
fn exp_shifted_body(x: &[f32], shift: f32, scale: f32, out: &mut [f32]) -> f64 {
    let mut total = 0f64;
    for (x, out) in x.chunks(SUMMED).zip(out.chunks_mut(SUMMED)) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = exp(scale * (x - shift));
        }
        total += f64::from(lane_sum(out.len(), |i| out[i]));
    }
    total
}

tiered! {
    /// The first place up to which `weights`, added as [`exp_shifted`] adds them, exceed `target`; the last place with a
    /// weight if they never do.
    pub fn place_of(weights: &[f32], target: f64) -> usize = place_of_body
}
#[inline(always)]
fn place_of_body(weights: &[f32], target: f64) -> usize {
    let (mut before, mut last) = (0f64, 0);
    for (c, part) in weights.chunks(SUMMED).enumerate() {
        let sum = f64::from(lane_sum(part.len(), |i| part[i]));
        if sum <= 0.0 {
            continue;
        }
        let mut reached = before;
        if before + sum > target {
            for (i, &weight) in part.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                (reached, last) = (reached + f64::from(weight), c * SUMMED + i);
                if reached > target {
                    break;
                }
            }
            return last;
        }
        last = c * SUMMED + part.iter().rposition(|w| *w > 0.0).unwrap_or(0);
        before += sum;
    }
    last
}

tiered! {
    /// Whether no value is NaN or infinite.
    pub fn is_finite(x: &[f32]) -> bool = is_finite_body
}
#[inline(always)]
fn is_finite_body(x: &[f32]) -> bool {
    // x * 0 is NaN for those alone.
    lane_sum(x.len(), |i| x[i] * 0.0) == 0.0
}

/// log(sum(e^x)).
pub fn log_sum_exp(x: &[f32], scratch: &mut Vec<f32>) -> f32 {
    scratch.resize(x.len(), 0.0);
    let largest = max(x);
    (exp_shifted(x, largest, 1.0, scratch).ln() + f64::from(largest)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_is_close_everywhere() {
        let mut worst = 0f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / truth - 1.0).abs());
        }
        assert!(worst < 3e-7, "relative error {worst}");
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn gelu_follows_its_formula() {
        for i in -1200..1200 {
            let x = f64::from(i) * 0.01;
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            let truth = 0.5 * x * (1.0 + inner.tanh());
            assert!((f64::from(gelu_of(x as f32)) - truth).abs() < 2e-6, "at {x}");
        }
    }

    #[test]
    fn layer_norms_have_mean_and_deviation_of_bias_and_weight() {
        let x: Vec<f32> = (0..83).map(|i| ((i * 29) % 31) as f32 + 5.0).collect();
        let (weight, bias, mut out) = (vec![3.0; 83], vec![0.5; 83], vec![0.0; 83]);
        layer_norm(&x, &weight, &bias, 1e-5, &mut out);
        let mean = out.iter().map(|v| f64::from(*v)).sum::<f64>() / 83.0;
        let deviation = (out.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 83.0).sqrt();
        assert!((mean - 0.5).abs() < 1e-5 && (deviation - 3.0).abs() < 1e-4, "{mean} {deviation}");
    }

    #[test]
    fn a_part_of_a_head_turns_and_the_rest_stays() {
        for interleaved in [false, true] {
            let x: Vec<f32> = (0..20).map(|i| i as f32).collect();
            let mut turned = x.clone();
            rotate(&mut turned, 10, &[0.0, 0.0], &[1.0, 1.0], interleaved);
            let pairs = if interleaved { [(0, 1), (2, 3)] } else { [(0, 2), (1, 3)] };
            for head in [0, 10] {
                for (a, b) in pairs {
                    assert_eq!((turned[head + a], turned[head + b]), (-x[head + b], x[head + a]));
                }
                assert_eq!(turned[head + 4..head + 10], x[head + 4..head + 10]);
            }
        }
    }

    #[test]
    fn norms_and_argmax() {
        let x: Vec<f32> = (0..77).map(|i| ((i * 37) % 19) as f32 - 9.0).collect();
        let w = vec![2.0; 77];
        let mut out = vec![0.0; 77];
        rms_norm(&x, &w, 1e-6, &mut out);
        let mean: f64 = x.iter().map(|v| f64::from(v * v)).sum::<f64>() / 77.0;
        for (o, x) in out.iter().zip(&x) {
            assert!((f64::from(*o) - 2.0 * f64::from(*x) / mean.sqrt()).abs() < 1e-5);
        }
        assert_eq!(argmax(&[1.0, 5.0, 5.0, f32::NAN]), 1);
        assert_eq!(argmax(&[]), 0);
    }

    #[test]
    fn places_follow_the_running_sum() {
        let weights: Vec<f32> = (0..1000).map(|i| if i % 3 == 0 { 0.0 } else { (i % 7) as f32 }).collect();
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let mut reached = 0.0;
        for (place, &weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
            assert_eq!(place_of(&weights, reached), place);
            assert_eq!(place_of(&weights, reached + f64::from(weight) * 0.99), place);
            reached += f64::from(weight);
        }
        assert_eq!(place_of(&weights, total), 998);
    }

    #[test]
    fn every_value_that_is_not_finite_is_seen() {
        let x = vec![1.5f32; 77];
        assert!(is_finite(&x) && is_finite(&[]) && is_finite(&[f32::MAX, f32::MIN, -0.0]));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for i in 0..x.len() {
                let mut x = x.clone();
                x[i] = bad;
                assert!(!is_finite(&x), "{bad} at {i}");
            }
        }
    }
}
