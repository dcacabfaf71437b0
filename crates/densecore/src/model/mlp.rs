//! Hidden to hidden within a position: the gated perceptron.

use super::workspace::Workspace;
use densecore_kernels::{Matrix, Output, Pool, products, vector};

/// One layer's perceptron: `down(silu(gate x) * up x)`.
#[derive(Debug)]
pub(crate) struct Mlp {
    pub gate: Matrix,
    pub up: Matrix,
    pub down: Matrix,
}

impl Mlp {
    /// `ws.normed` to `ws.gate` and `ws.up`.
    pub fn open(&self, pool: &Pool, ws: &mut Workspace) {
        let (n, m) = (ws.rows, self.gate.rows());
        let (gate, up) = (&mut ws.gate[..n * m], &mut ws.up[..n * m]);
        let input = ws.input.prepare(pool, &ws.normed, n, &ws.precise, &[&self.gate, &self.up]);
        products(pool, input, &mut [(&self.gate, Output::new(gate, m)), (&self.up, Output::new(up, m))]);
    }

    /// `ws.gate` and `ws.up` to `ws.out`; `ws.gate` becomes the activation.
    pub fn close(&self, pool: &Pool, ws: &mut Workspace) {
        let (n, m) = (ws.rows, self.gate.rows());
        let (gate, up) = (&mut ws.gate[..n * m], &ws.up[..n * m]);
        pool.rows(gate, m, (8192 / m).max(1), &|first, gate| {
            vector::silu_mul(gate, &up[first * m..]);
        });
        let out = &mut ws.out[..n * self.down.rows()];
        let input = ws.input.prepare(pool, gate, n, &ws.precise, &[&self.down]);
        products(pool, input, &mut [(&self.down, Output::new(out, self.down.rows()))]);
    }
}
