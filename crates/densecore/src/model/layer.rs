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
    ) -> Result<()> {
        let size = ws.x.len();
        self.attention_norm.rows(pool, &ws.x, &mut ws.normed[..size]);
        self.attention.forward(pool, rope, heads, layer, ws, works)?;
        ws.add_out(pool);
        self.mlp_norm.rows(pool, &ws.x, &mut ws.normed[..size]);
        self.mlp.forward(pool, ws);
        ws.add_out(pool);
        Ok(())
    }
}
