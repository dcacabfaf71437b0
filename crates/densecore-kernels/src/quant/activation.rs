//! Inputs of a quantised product: 8-bit integers with one float scale per 32 components.

use crate::cpu::tiered;

/// Components that share a scale, and the unit every packed format is cut into.
pub const GROUP: usize = 32;

/// `n` rows of `k` components as 8-bit integers. One quantisation serves every matrix that reads the same input.
#[derive(Debug, Default)]
pub struct Activations {
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// `[n][k]`, in -127..=127.
    pub(crate) q: Vec<i8>,
    /// `[n][k / 32]`: component = scale * q.
    pub(crate) scale: Vec<f32>,
    /// `[n][k / 32]`: scale * (sum of the group's q), the factor of a weight's offset.
    pub(crate) sum32: Vec<f32>,
    /// `[n][k / 16]`: the same per half group, for Q6_K.
    pub(crate) sum16: Vec<f32>,
}

impl Activations {
    /// Room for `n` rows of `k` components; keeps its allocation between calls. `k` must be a multiple of 32.
    pub fn resize(&mut self, n: usize, k: usize) {
        assert!(k.is_multiple_of(GROUP), "k = {k} is not a multiple of {GROUP}");
        (self.n, self.k) = (n, k);
        self.q.resize(n * k, 0);
        self.scale.resize(n * k / GROUP, 0.0);
        self.sum32.resize(n * k / GROUP, 0.0);
        self.sum16.resize(n * k / 16, 0.0);
    }

    /// Quantises all rows, `x` being `[n][k]`.
    pub fn quantize(&mut self, x: &[f32], n: usize, k: usize) {
        self.resize(n, k);
        quantize_groups(&x[..n * k], &mut self.q, &mut self.scale, &mut self.sum32, &mut self.sum16);
    }

    /// Quantises what the rounding of row `row` left of `x` into row `to`.
    pub fn quantize_rest(&mut self, x: &[f32], row: usize, to: usize) {
        let (k, g) = (self.k, self.k / GROUP);
        let rest: Vec<f32> =
            (0..k).map(|i| x[i] - self.scale[row * g + i / GROUP] * f32::from(self.q[row * k + i])).collect();
        quantize_groups(
            &rest,
            &mut self.q[to * k..(to + 1) * k],
            &mut self.scale[to * g..(to + 1) * g],
            &mut self.sum32[to * g..(to + 1) * g],
            &mut self.sum16[to * 2 * g..(to + 1) * 2 * g],
        );
    }

    /// The first `n` rows as disjoint parts of `rows` rows each, so that threads can fill them.
    pub fn parts(&mut self, n: usize, rows: usize) -> Vec<ActivationRows<'_>> {
        let (k, g) = (self.k, self.k / GROUP);
        self.q[..n * k]
            .chunks_mut(rows * k)
            .zip(self.scale[..n * g].chunks_mut(rows * g))
            .zip(self.sum32[..n * g].chunks_mut(rows * g))
            .zip(self.sum16[..n * 2 * g].chunks_mut(rows * 2 * g))
            .map(|(((q, scale), sum32), sum16)| ActivationRows { q, scale, sum32, sum16 })
            .collect()
    }
}

/// Some consecutive rows of [`Activations`], to be filled.
pub struct ActivationRows<'a> {
    q: &'a mut [i8],
    scale: &'a mut [f32],
    sum32: &'a mut [f32],
    sum16: &'a mut [f32],
}

impl ActivationRows<'_> {
    /// Quantises `x`, as many components as these rows hold.
    pub fn quantize(&mut self, x: &[f32]) {
        quantize_groups(x, self.q, self.scale, self.sum32, self.sum16);
    }
}

tiered! {
    /// Groups of 32 floats to integers, scales and sums.
    pub fn quantize_groups(x: &[f32], q: &mut [i8], scale: &mut [f32], sum32: &mut [f32], sum16: &mut [f32]) = quantize_body
}

#[inline(always)]
fn quantize_body(x: &[f32], q: &mut [i8], scale: &mut [f32], sum32: &mut [f32], sum16: &mut [f32]) {
    let (groups, _) = x.as_chunks::<GROUP>();
    let (out, _) = q.as_chunks_mut::<GROUP>();
    let (halves, _) = sum16.as_chunks_mut::<2>();
    for ((((x, q), scale), sum32), halves) in groups.iter().zip(out).zip(scale).zip(sum32).zip(halves) {
        let mut lanes = [0f32; 16];
        for i in 0..16 {
            lanes[i] = x[i].abs().max(x[i + 16].abs());
        }
        let largest = lanes.iter().fold(0f32, |a, &b| a.max(b));
        // A group this small counts as zero: the inverse of its scale would not be finite.
        let d = if largest > 1e-30 { largest / 127.0 } else { 0.0 };
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        let (mut low, mut high) = ([0i32; 16], [0i32; 16]);
        for i in 0..16 {
            low[i] = round(x[i] * inverse);
            high[i] = round(x[i + 16] * inverse);
        }
        for i in 0..16 {
            q[i] = low[i] as i8;
            q[i + 16] = high[i] as i8;
        }
        let (a, b) = (low.iter().sum::<i32>(), high.iter().sum::<i32>());
        *scale = d;
        *halves = [d * a as f32, d * b as f32];
        *sum32 = d * (a + b) as f32;
    }
}

/// Nearest integer, ties to even, by the float trick that every compiler turns into two additions. |v| <= 127.x here.
#[inline(always)]
fn round(v: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23
    (v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}
