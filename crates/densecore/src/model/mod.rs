//! Embeddings to hidden states to logits: one noun a file.
pub(crate) mod attention;
pub(crate) mod budget;
pub mod cache;
pub mod config;
pub(crate) mod decoder;
pub(crate) mod embed;
pub(crate) mod head;
pub(crate) mod layer;
mod mlp;
pub(crate) mod norm;
pub(crate) mod prefix;
pub(crate) mod room;
mod rope;
pub(crate) mod workspace;

pub use cache::Cache;
pub use config::{Arch, ModelConfig};
