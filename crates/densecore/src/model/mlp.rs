//! Hidden to hidden within a position: the perceptron, and its way back.

use super::products::{Biased, through};
use super::workspace::Workspace;
use crate::arch::blueprint::Activation;
use crate::error::Result;
use densecore_kernels::{Panels, Pool, gradient, vector};
use std::sync::Mutex;

/// Components of activations that one thread takes at a time.
const PART: usize = 8192;

/// One layer's perceptron: `down(act(gate x) * up x)`, or `down(act(up x))` without a gate.
#[derive(Debug)]
pub(crate) struct Mlp {
    pub gate: Option<Biased>,
    pub up: Biased,
    pub down: Biased,
    pub activation: Activation,
}

impl Mlp {
    /// `ws.normed` to `ws.gate` and `ws.up`; without a gate to `ws.gate` alone.
    pub fn open(&self, pool: &Pool, ws: &mut Workspace) {
        let size = ws.rows * self.up.rows();
        let (gate, up) = (&mut ws.gate[..size], &mut ws.up[..size]);
        let x = (&*ws.normed, ws.rows, &*ws.precise);
        match &self.gate {
            Some(matrix) => Biased::all(pool, &mut ws.input, x, [(matrix, gate), (&self.up, up)]),
            None => Biased::all(pool, &mut ws.input, x, [(&self.up, gate)]),
        }
    }

    /// `ws.gate` and `ws.up` to `ws.out`; `ws.gate` becomes the activation.
    pub fn close(&self, pool: &Pool, ws: &mut Workspace) {
        let m = self.up.rows();
        let (gate, up) = (&mut ws.gate[..ws.rows * m], &ws.up[..ws.rows * m]);
        pool.rows(gate, m, (PART / m).max(1), &|first, gate| {
            let up = &up[first * m..];
            match (&self.gate, self.activation) {
                (Some(_), Activation::Silu) => vector::silu_mul(gate, up),
                (Some(_), Activation::Gelu) => vector::gelu_mul(gate, up),
                (None, Activation::Silu) => vector::silu(gate),
                (None, Activation::Gelu) => vector::gelu(gate),
            }
        });
        let out = &mut ws.out[..ws.rows * self.down.rows()];
        Biased::all(pool, &mut ws.input, (&*gate, ws.rows, &ws.precise), [(&self.down, out)]);
    }

    /// From `d`, the gradient by the result of [`Mlp::close`], to that by `ws.normed`, which it becomes. `ws.gate` and `ws.up`
    /// are what [`Mlp::open`] made; `d_act` is room for one activation.
    pub fn back(
        &self,
        pool: &Pool,
        panels: &mut Panels,
        ws: &mut Workspace,
        d: &[f32],
        d_act: &mut [f32],
    ) -> Result<()> {
        let (n, m) = (ws.rows, self.up.rows());
        let d_act = &mut d_act[..n * m];
        through(pool, panels, n, &[(&self.down, d)], d_act)?;
        let (gate, up) = (&mut ws.gate[..n * m], &mut ws.up[..n * m]);
        let parts: Vec<_> = gate.chunks_mut(m).zip(up.chunks_mut(m)).zip(d_act.chunks(m)).map(Mutex::new).collect();
        pool.run(parts.len(), &|i| {
            if let Ok(mut part) = parts[i].lock() {
                let ((gate, up), d) = &mut *part;
                match (&self.gate, self.activation) {
                    (Some(_), Activation::Silu) => gradient::silu_mul(gate, up, d),
                    (Some(_), Activation::Gelu) => gradient::gelu_mul(gate, up, d),
                    (None, Activation::Silu) => gradient::silu(gate, d),
                    (None, Activation::Gelu) => gradient::gelu(gate, d),
                }
            }
        });
        drop(parts);
        let d_normed = &mut ws.normed[..d.len()];
        match &self.gate {
            Some(matrix) => through(pool, panels, n, &[(matrix, gate), (&self.up, up)], d_normed),
            None => through(pool, panels, n, &[(&self.up, gate)], d_normed),
        }
    }
}
