//! One decoder layer: attention and perceptron on normed copies of the residual stream, each added to it.

use super::attention::Attention;
use super::mlp::Mlp;
use super::norm::Norm;
use super::workspace::{Work, Workspace};
use crate::error::Result;
use densecore_kernels::Pool;

#[derive(Debug)]
pub(crate) struct Layer {
    pub attention_norm: Norm,
    pub attention: Attention,
    /// Norm of what attention gives.
    pub after_attention: Option<Norm>,
    /// Without one, attention and perceptron stand side by side and read the same.
    pub mlp_norm: Option<Norm>,
    pub mlp: Mlp,
    /// Norm of what the perceptron gives.
    pub after_mlp: Option<Norm>,
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
        layer: usize,
        ws: &mut Workspace,
        works: &mut [Work<'_>],
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        watch(layer, Moment::Entered, ws);
        self.begin(pool, ws);
        self.attention.forward(pool, layer, ws, works)?;
        self.join_attention(pool, ws);
        self.mlp.open(pool, ws);
        watch(layer, Moment::Opened, ws);
        self.mlp.close(pool, ws);
        join(pool, ws, self.after_mlp.as_ref());
        Ok(())
    }

    /// `ws.x` to `ws.normed`, which attention reads.
    pub fn begin(&self, pool: &Pool, ws: &mut Workspace) {
        let size = ws.x.len();
        self.attention_norm.rows(pool, &ws.x, &mut ws.normed[..size]);
    }

    /// Adds what attention gave, `ws.out`, and makes `ws.normed` what the perceptron reads.
    pub fn join_attention(&self, pool: &Pool, ws: &mut Workspace) {
        join(pool, ws, self.after_attention.as_ref());
        if let Some(norm) = &self.mlp_norm {
            let size = ws.x.len();
            norm.rows(pool, &ws.x, &mut ws.normed[..size]);
        }
    }
}

/// `ws.x += ws.out`, normed before if there is a norm; `ws.normed` is used for that.
fn join(pool: &Pool, ws: &mut Workspace, norm: Option<&Norm>) {
    if let Some(norm) = norm {
        let size = ws.x.len();
        norm.rows(pool, &ws.out, &mut ws.normed[..size]);
        std::mem::swap(&mut ws.out, &mut ws.normed);
    }
    ws.add_out(pool);
}
