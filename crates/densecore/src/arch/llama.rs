//! The Llama family, SmolLM2 among them.

use super::blueprint::{Blueprint, Pairs};
use super::{Family, Settings, Windows};

pub(super) static FAMILY: Family = Family {
    name: "llama",
    class: "LlamaForCausalLM",
    title: "Llama",
    // GGUF files permute queries and keys so that neighbours rotate together.
    blueprint: Blueprint { gguf_pairs: Pairs::Neighbours, ..Blueprint::USUAL },
    gguf: Some(&[]),
    folder: &[],
    joined: &[],
    settings: Settings { windows: Windows::Refused, ..Settings::USUAL },
};
