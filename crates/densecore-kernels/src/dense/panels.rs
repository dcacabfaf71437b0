//! Input rows as a product with many rows reads them: interleaved by twelve, so that the twelve numbers that meet one
//! column of weights lie side by side, whatever the stride of the rows.

use super::lanes::Lanes;
use super::on_tier;
use crate::pool::Pool;
use crate::quant::TILE;
use std::sync::Mutex;

/// Rows of a panel; the last one has what is left.
pub const WIDTH: usize = 12;

/// Panels of one or several inputs, all of the same number of rows. The room is kept between calls.
#[derive(Debug, Default)]
pub struct Panels {
    data: Vec<f32>,
}

impl Panels {
    /// Takes the `n` rows of each part, `([n][k], k)`. Panel `p` of a part starts at `p * WIDTH * k`.
    pub fn take(&mut self, pool: &Pool, n: usize, parts: &[(&[f32], usize)]) {
        let size = parts.iter().map(|(_, k)| n * k).sum();
        self.data.resize(size, 0.0);
        let mut rest = &mut self.data[..];
        let mut panels = Vec::with_capacity(parts.len() * n.div_ceil(WIDTH));
        for &(x, k) in parts {
            let (part, after) = rest.split_at_mut(n * k);
            rest = after;
            panels.extend(x[..n * k].chunks(WIDTH * k).zip(part.chunks_mut(WIDTH * k)).map(|job| (job, k)));
        }
        let panels: Vec<_> = panels.into_iter().map(Mutex::new).collect();
        pool.run(panels.len(), &|i| {
            if let Ok(mut job) = panels[i].lock() {
                let ((x, panel), k) = &mut *job;
                interleave(x, *k, panel);
            }
        });
    }

    /// The panels of all parts, one after the other.
    pub fn all(&self) -> &[f32] {
        &self.data
    }
}

on_tier! {
    /// Rows `x`, `[up to 12][k]`, to `panel`, `[k][the same]`.
    fn interleave(x: &[f32], k: usize, panel: &mut [f32]) = rows
}

#[inline(always)]
unsafe fn rows<S: Lanes>(x: &[f32], k: usize, panel: &mut [f32]) {
    let width = x.len() / k;
    assert!(panel.len() == k * width);
    let mut done = 0;
    if width == WIDTH {
        // A column of 16 is stored for each component; its last four numbers are overwritten by the next one, which
        // the last component of all does not have.
        while done + TILE < k {
            // SAFETY: 16 components are left in every row, and the panel goes on for one more.
            unsafe {
                let mut block = [S::zero(); TILE];
                for r in 0..WIDTH {
                    block[r] = S::load(x.as_ptr().add(r * k + done));
                }
                let block = S::transpose(block);
                for i in 0..TILE {
                    S::store(panel.as_mut_ptr().add((done + i) * WIDTH), block[i]);
                }
            }
            done += TILE;
        }
    }
    for (i, to) in panel.chunks_exact_mut(width).enumerate().skip(done) {
        for (r, to) in to.iter_mut().enumerate() {
            *to = x[r * k + i];
        }
    }
}
