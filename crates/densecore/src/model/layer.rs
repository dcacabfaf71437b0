//! One decoder layer: attention and perceptron, each on a normed copy, each added to the residual stream.

use super::attention::Attention;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::rope::Rope;
use super::workspace::{Work, Workspace};
use crate::error::Result;
use densecore_kernels::{Heads, Pool};

#[derive(Debug)]
pub(crate) struct Layer {
    pub attention_norm: RmsNorm,
    pub attention: Attention,
    pub mlp_norm: RmsNorm,
    pub mlp: Mlp,
}

/// A place inside a layer where somebody may look at the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `ws.x` is the layer's input.
    Entered,
    /// `ws.gate` and `ws.up` are the perceptron's two projections.
    Opened,
}

/// Sees layer and moment of a pass, and its workspace.
pub(crate) type Watch<'a> = dyn FnMut(usize, Moment, &Workspace) + 'a;

impl Layer {
    /// `ws.x` `(N, d)` in place.
    pub fn forward(
        &self,
        pool: &Pool,
        rope: &Rope,
        heads: Heads,
        layer: usize,
        ws: &mut Workspace,
        works: &mut [Work<'_>],
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let size = ws.x.len();
        watch(layer, Moment::Entered, ws);
        self.attention_norm.rows(pool, &ws.x, &mut ws.normed[..size]);
        self.attention.forward(pool, rope, heads, layer, ws, works)?;
        ws.add_out(pool);
        self.mlp_norm.rows(pool, &ws.x, &mut ws.normed[..size]);
        self.mlp.open(pool, ws);
        watch(layer, Moment::Opened, ws);
        self.mlp.close(pool, ws);
        ws.add_out(pool);
        Ok(())
    }
}
