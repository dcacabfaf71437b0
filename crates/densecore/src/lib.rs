//! Frozen language models that talk in hidden states.
//!
//! The path of every call, one module an arrow:
//!
//! ```text
//! text -> tokens -> embeddings -> hidden -> edge -> hidden -> logits -> tokens -> text
//! ```
//!
//! This crate does no network I/O and knows no Python.
pub mod arch;
pub mod cancel;
pub mod context;
pub mod error;
mod exchange;
mod export;
pub mod generate;
pub mod gradient;
pub mod hardware;
pub mod hidden;
pub mod limits;
pub mod model;
mod pool;
pub mod selftest;
pub mod text;
pub mod vertex;
pub mod weights;

// Some unit tests share files with the tests outside, which know the crate by its name.
#[cfg(test)]
extern crate self as densecore;
#[cfg(test)]
#[allow(dead_code, clippy::unwrap_used)]
#[path = "../tests/batcher/tiny.rs"]
mod tiny;

pub use context::Context;
pub use error::{Error, Result};
pub use exchange::{Foreign, Lent};
pub use hidden::{Hidden, Space, Storage};
pub use limits::Limits;
pub use vertex::{LoadOptions, Model};
