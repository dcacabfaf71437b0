//! Embeddings to hidden states to logits: one noun a file.
pub(crate) mod attention;
pub(crate) mod budget;
pub mod cache;
pub(crate) mod decoder;
pub(crate) mod embed;
pub(crate) mod head;
pub(crate) mod layer;
mod mlp;
pub(crate) mod norm;
pub(crate) mod prefix;
pub(crate) mod products;
pub(crate) mod room;
pub(crate) mod rope;
pub(crate) mod workspace;

pub use crate::arch::{Arch, ModelConfig};
pub use cache::Cache;
