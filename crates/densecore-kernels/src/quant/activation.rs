//! Inputs of a quantised product: 8-bit integers with one float scale per 32 components.
//!
//! Rows lie in **blocks** of twelve (the last may be lower); within a block, group by group, the rows follow one
//! another. A kernel that takes a block through a tile thus reads one short stretch of memory after the other, with
//! addresses that are constants away from one pointer; rows of `k` bytes each cost it a third of its speed.

#[cfg(target_arch = "x86_64")]
use crate::cpu::Tier;
use crate::cpu::tiered;
use std::ops::Range;

/// Components that share a scale, and the unit every packed format is cut into.
pub const GROUP: usize = 32;
/// Rows of a block at most: twelve sums, twelve totals and the temporaries fill 32 registers.
pub const BLOCK: usize = 12;

/// Groups a thread quantises at a time, over all rows of a block.
const PART: usize = 256;

/// `n` rows of `k` components as 8-bit integers. One quantisation serves every matrix that reads the same input.
#[derive(Debug, Default)]
pub struct Activations {
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Per block of `h` rows `[k / 32][h][32]`, in -127..=127.
    pub(crate) q: Vec<i8>,
    /// Per block `[k / 32][h]`: component = scale * q.
    pub(crate) scale: Vec<f32>,
    /// Per block `[k / 32][h]`: scale * (sum of the group's q), the factor of a weight's offset.
    pub(crate) sum32: Vec<f32>,
    /// Per block `[k / 32][h][2]`: what the zero of Q6_K, 32, takes off an integer product of a half group.
    pub(crate) zero16: Vec<i32>,
}

/// The rows of block `b` of `n` rows.
fn block(n: usize, b: usize) -> Range<usize> {
    b * BLOCK..n.min((b + 1) * BLOCK)
}

impl Activations {
    /// Room for `n` rows of `k` components; keeps its allocation between calls. `k` must be a multiple of 32.
    pub(crate) fn resize(&mut self, n: usize, k: usize) {
        assert!(k.is_multiple_of(GROUP), "k = {k} is not a multiple of {GROUP}");
        (self.n, self.k) = (n, k);
        self.q.resize(n * k, 0);
        self.scale.resize(n * k / GROUP, 0.0);
        self.sum32.resize(n * k / GROUP, 0.0);
        self.zero16.resize(n * k / 16, 0);
    }

    /// Quantises all rows, `x` being `[n][k]`.
    pub fn quantize(&mut self, x: &[f32], n: usize, k: usize) {
        assert!(x.len() >= n * k, "input is shorter than {n} rows of {k}");
        self.resize(n, k);
        self.parts().iter_mut().for_each(|part| part.quantize(x));
    }

    /// Quantises what the rounding of row `row` left of `x` into row `to`.
    pub(crate) fn quantize_rest(&mut self, x: &[f32], row: usize, to: usize) {
        let (from, k) = (self.place(row), self.k);
        let rest: Vec<f32> = (0..k)
            .map(|i| {
                let at = from.group(i / GROUP);
                x[i] - self.scale[at] * f32::from(self.q[at * GROUP + i % GROUP])
            })
            .collect();
        let (groups, rows) = (k / GROUP, self.block(to / BLOCK));
        let all = rows.start * groups..rows.end * groups;
        let mut block = ActivationPart {
            k,
            rows,
            groups: 0..groups,
            q: &mut self.q[all.start * GROUP..all.end * GROUP],
            scale: &mut self.scale[all.clone()],
            sum32: &mut self.sum32[all.clone()],
            zero16: &mut self.zero16[all.start * 2..all.end * 2],
        };
        block.quantize_row(to, &rest);
    }

    /// How many blocks the rows make.
    pub(crate) fn blocks(&self) -> usize {
        self.n.div_ceil(BLOCK)
    }

    /// The rows of block `b`; its groups begin at `rows.start * k / 32` rows of groups.
    pub(crate) fn block(&self, b: usize) -> Range<usize> {
        block(self.n, b)
    }

    /// Where row `row` lies.
    pub(crate) fn place(&self, row: usize) -> Place {
        let rows = block(self.n, row / BLOCK);
        Place { first: rows.start * (self.k / GROUP) + row - rows.start, height: rows.len() }
    }

    /// The blocks, cut into parts of some groups, to be filled by threads.
    pub(crate) fn parts(&mut self) -> Vec<ActivationPart<'_>> {
        let (n, k, blocks) = (self.n, self.k, self.blocks());
        let (mut q, mut scale) = (&mut self.q[..], &mut self.scale[..]);
        let (mut sum32, mut zero16) = (&mut self.sum32[..], &mut self.zero16[..]);
        let mut parts = Vec::new();
        for b in 0..blocks {
            let rows = block(n, b);
            let step = (PART / rows.len()).max(1);
            for start in (0..k / GROUP).step_by(step) {
                let groups = start..(k / GROUP).min(start + step);
                let size = rows.len() * groups.len();
                let rows = rows.clone();
                let mut part =
                    ActivationPart { k, rows, groups, q: &mut [], scale: &mut [], sum32: &mut [], zero16: &mut [] };
                (part.q, q) = q.split_at_mut(size * GROUP);
                (part.scale, scale) = scale.split_at_mut(size);
                (part.sum32, sum32) = sum32.split_at_mut(size);
                (part.zero16, zero16) = zero16.split_at_mut(size * 2);
                parts.push(part);
            }
        }
        parts
    }
}

/// Where a row's groups lie, see [`Activations`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    first: usize,
    height: usize,
}

impl Place {
    /// Index of group `g` in `scale` and `sum32`, and in units of 32 in `q`.
    #[inline(always)]
    pub fn group(self, g: usize) -> usize {
        self.first + g * self.height
    }
}

/// Some groups of a block of [`Activations`], to be filled.
pub(crate) struct ActivationPart<'a> {
    k: usize,
    rows: Range<usize>,
    groups: Range<usize>,
    pub q: &'a mut [i8],
    pub scale: &'a mut [f32],
    pub sum32: &'a mut [f32],
    pub zero16: &'a mut [i32],
}

impl ActivationPart<'_> {
    /// Quantises this part of `x`, `[n][k]`; rows that `x` does not have stay as they are.
    pub fn quantize(&mut self, x: &[f32]) {
        for row in self.rows.clone() {
            if let Some(x) = x.get(row * self.k..(row + 1) * self.k) {
                self.quantize_row(row, x);
            }
        }
    }

    /// Quantises this part of row `row` from `x`, `[k]`.
    fn quantize_row(&mut self, row: usize, x: &[f32]) {
        let x = &x[self.groups.start * GROUP..self.groups.end * GROUP];
        #[cfg(target_arch = "x86_64")]
        if Tier::detect() == Tier::Avx512 {
            // SAFETY: the tier was chosen because the processor has these features.
            unsafe { super::avx512::quantize(self, row, x) };
            return;
        }
        quantize_groups(self, row, x);
    }

    /// Where row `row` lies in this part, its first group being group 0.
    #[inline(always)]
    pub fn place(&self, row: usize) -> Place {
        Place { first: row - self.rows.start, height: self.rows.len() }
    }
}

tiered! {
    /// Groups of 32 floats to integers, scales and sums, as row `row` of a part.
    pub fn quantize_groups(part: &mut ActivationPart<'_>, row: usize, x: &[f32]) = quantize_body
}

#[inline(always)]
fn quantize_body(part: &mut ActivationPart<'_>, row: usize, x: &[f32]) {
    let place = part.place(row);
    let (groups, _) = x.as_chunks::<GROUP>();
    let (out, _) = part.q.as_chunks_mut::<GROUP>();
    let (halves, _) = part.zero16.as_chunks_mut::<2>();
    let (scale, sum32) = (&mut *part.scale, &mut *part.sum32);
    for (g, x) in groups.iter().enumerate() {
        let d = scale_of(largest(x));
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        let (mut low, mut high) = ([0i32; 16], [0i32; 16]);
        for i in 0..16 {
            low[i] = round(x[i] * inverse);
            high[i] = round(x[i + 16] * inverse);
        }
        let at = place.group(g);
        for i in 0..16 {
            out[at][i] = low[i] as i8;
            out[at][i + 16] = high[i] as i8;
        }
        // Of the bytes, which is another number if the input was none.
        let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum::<i32>();
        let (a, b) = (sum(&out[at][..16]), sum(&out[at][16..]));
        scale[at] = d;
        halves[at] = [-32 * a, -32 * b];
        sum32[at] = d * (a + b) as f32;
    }
}

/// The scale of a group whose largest magnitude is given.
#[inline(always)]
pub(super) fn scale_of(largest: f32) -> f32 {
    // A group this small counts as zero: the inverse of its scale would not be finite.
    if largest > 1e-30 { largest / 127.0 } else { 0.0 }
}

/// The largest magnitude, by halves: a chain of 32 comparisons would take longer than all the rest.
#[inline(always)]
fn largest(x: &[f32; GROUP]) -> f32 {
    let mut m = x.map(f32::abs);
    for half in [16, 8, 4, 2, 1] {
        for i in 0..half {
            m[i] = if m[i] > m[i + half] { m[i] } else { m[i + half] };
        }
    }
    m[0]
}

/// 1.5 * 2^23: a float this large has no fraction.
pub(super) const MAGIC: f32 = 12_582_912.0;

/// Nearest integer, ties to even, by the float trick that every compiler turns into two additions. |v| <= 127.x here.
#[inline(always)]
fn round(v: f32) -> i32 {
    (v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}
