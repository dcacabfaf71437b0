//! Gradients by input vectors, through a model that stays frozen.
//!
//! ```text
//! prefix | vectors | targets  ->  layers, each input kept (tape)  ->  loss
//!          gradient           <-  layers, last to first (back)    <-  its gradient
//! ```
//!
//! Two passes of matrix products: the forward one, by the kernels that serve, and `dX = dY W`. Weights have no
//! gradients. Of what the way back needs of the way there, the layers' inputs are kept, and the perceptrons' projections
//! as far as the caller's budget allows; the rest is computed again.
//!
//! What is approximated: nothing with float32 weights and keys. Quantised matrices multiply inputs of 15 bits on the way
//! there (8 where a prefix is read); on the way back their weights are exact floats and the rounding of inputs counts as
//! no rounding (straight through), and kept activations are bf16. Rounding of keys and values in an f16 cache counts as none too.
mod back;
mod loss;
mod tape;
mod vjp;

pub use densecore_kernels::KvGradients;
pub use loss::{Loss, LossItem, Prefix};
pub use vjp::{Pulled, Recording};

/// What gradients may cost and what they give.
#[derive(Debug, Clone, Copy, Default)]
pub struct GradOptions {
    /// Memory for activations kept between the two passes, beyond the layers' inputs (bytes); half a gigabyte by
    /// default, or an eighth of what is available if that is less.
    pub memory: Option<u64>,
    /// Also give the gradients by the keys and values of the prefix.
    pub kv: bool,
    /// Take vectors of any space.
    pub raw: bool,
}
