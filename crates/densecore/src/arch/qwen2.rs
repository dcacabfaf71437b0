//! Qwen2 and Qwen2.5: biases on queries, keys and values.

use super::blueprint::Blueprint;
use super::role::Part;
use super::{Family, Settings};

pub(super) static FAMILY: Family = Family {
    name: "qwen2",
    class: "Qwen2ForCausalLM",
    title: "Qwen2 and Qwen2.5",
    blueprint: Blueprint { biases: &[Part::Q, Part::K, Part::V], ..Blueprint::USUAL },
    gguf: Some(&[]),
    folder: &[],
    joined: &[],
    settings: Settings { expected: &["attention_bias"], ..Settings::USUAL },
};
