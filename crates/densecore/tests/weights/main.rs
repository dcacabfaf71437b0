//! Attacks on the weight readers: every hostile file gives a named error, every valid one its numbers.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

mod config;
mod files;
mod gguf;
mod gguf_model;
mod safetensors;
mod valid;

use std::path::Path;

use densecore::arch::ModelConfig;
use densecore::weights::{GgufFile, SafetensorsFile, Weights};
use densecore::{Error, Limits, Result};

/// Asserts that `result` is an error of the wanted kind whose message holds each of `parts`.
#[track_caller]
fn refused<T>(result: Result<T>, kind: &str, parts: &[&str]) {
    let Err(error) = result else {
        panic!("accepted; expected a {kind} error about {parts:?}");
    };
    let got = match &error {
        Error::Format { .. } => "format",
        Error::Unsupported { .. } => "unsupported",
        Error::Limit { .. } => "limit",
        Error::NotFound { .. } => "missing",
        _ => "other",
    };
    let text = error.to_string();
    assert_eq!(got, kind, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(text.len() < 2_000, "a message of {} bytes", text.len());
}

fn read_gguf(bytes: Vec<u8>) -> Result<GgufFile> {
    GgufFile::from_bytes("model.gguf", bytes, &Limits::default())
}

fn load_gguf(bytes: Vec<u8>) -> Result<ModelConfig> {
    Weights::Gguf(read_gguf(bytes)?).config(&Limits::default())
}

fn read_safetensors(bytes: Vec<u8>) -> Result<SafetensorsFile> {
    SafetensorsFile::from_bytes("model.safetensors", bytes, &Limits::default())
}

fn load(path: &Path) -> Result<ModelConfig> {
    Weights::open(path, &Limits::default())?.config(&Limits::default())
}
