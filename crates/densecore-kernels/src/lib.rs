//! CPU kernels of densecore: packing, products, attention and a thread pool. They know bytes and numbers, no model
//! and no tensor library.
//!
//! * [`Format`]: the block formats of GGUF and their scalar decoder, the reference.
//! * [`Matrix`]: a weight matrix packed for the processor; [`products`] multiplies several at once.
//! * [`attention`]: causal attention over a tiled cache.
//! * [`vector`]: what happens between products, row by row.
//! * [`gradient`], [`transposed_products`], [`attend_batch_back`]: the way back, for gradients by inputs.
//! * [`Pool`]: threads for short parallel regions; [`Tier`]: which instructions are used.
pub mod attention;
mod buffer;
pub mod cpu;
mod dense;
mod format;
pub mod gradient;
mod heads;
mod heads_back;
mod matrix;
mod pool;
mod quant;
mod scratch;
mod transposed;
pub mod vector;

pub use buffer::{Arena, Buffer, Floats};
pub use cpu::Tier;
pub use dense::{DenseMatrix, Panels};
pub use format::Format;
pub use heads::{Heads, Span, attend_batch};
pub use heads_back::{Attended, KvGradients, attend_batch_back};
pub use matrix::{Input, Matrix, Output, Prepared, products};
pub use pool::Pool;
pub use quant::{Activations, GROUP, QuantMatrix, Source, TILE};
pub use transposed::transposed_products;
