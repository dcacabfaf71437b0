//! Mistral: Llama's layers, in older models with one sliding window in all of them. Its GGUF files are named "llama", and
//! hold no word of the window; they are read as such.

use super::blueprint::Blueprint;
use super::{Family, Settings, Windows};

pub(super) static FAMILY: Family = Family {
    name: "mistral",
    class: "MistralForCausalLM",
    title: "Mistral",
    blueprint: Blueprint::USUAL,
    gguf: None,
    folder: &[],
    joined: &[],
    settings: Settings { windows: Windows::All, ..Settings::USUAL },
};
