//! Qwen3: norms on every query and key head, no biases.

use super::blueprint::Blueprint;
use super::{Family, Settings};

pub(super) static FAMILY: Family = Family {
    name: "qwen3",
    class: "Qwen3ForCausalLM",
    title: "Qwen3",
    blueprint: Blueprint { head_norms: true, ..Blueprint::USUAL },
    gguf: Some(&[]),
    folder: &[],
    joined: &[],
    settings: Settings { head_dim: Some(128), ..Settings::USUAL },
};
