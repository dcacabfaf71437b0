//! File to checked tensors: GGUF and safetensors, read through a memory map, trusted in nothing.
//!
//! Every count, length, offset and shape a header claims is checked against the bytes that are there
//! before anything is allocated for it. Tensors stay in the file's own format; nothing is decoded here.
mod check;
mod cursor;
pub mod gguf;
mod gguf_config;
mod gguf_tensors;
mod hf_config;
mod hf_rotary;
mod identity;
mod metadata;
pub mod mmap;
mod near;
pub(crate) mod regular;
pub mod safetensors;
mod safetensors_file;
mod safetensors_header;
pub mod source;

pub use crate::arch::Role;
pub use gguf::GgufFile;
pub use metadata::{Numbers, StrArray};
pub use safetensors::SafetensorsDir;
pub use safetensors_file::SafetensorsFile;
pub use source::{TensorView, Weights};
