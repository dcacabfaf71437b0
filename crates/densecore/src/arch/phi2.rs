//! Phi-2: LayerNorm, attention and a plain MLP side by side, biases everywhere, and a part of each head that rotates.

use super::blueprint::{Activation, Blueprint, Mlp, Norm, Residual};
use super::role::{FileKind, Part};
use super::{Family, Settings};

pub(super) static FAMILY: Family = Family {
    name: "phi2",
    class: "PhiForCausalLM",
    title: "Phi-2",
    blueprint: Blueprint {
        norm: Norm::Layer,
        residual: Residual::Parallel,
        mlp: Mlp::Plain(Activation::Gelu),
        biases: &[Part::Q, Part::K, Part::V, Part::O, Part::Up, Part::Down, Part::Head],
        ..Blueprint::USUAL
    },
    gguf: Some(&[]),
    folder: &[
        (Part::OutputNorm, "model.final_layernorm.weight"),
        (Part::O, "model.layers.{}.self_attn.dense.weight"),
        (Part::Up, "model.layers.{}.mlp.fc1.weight"),
        (Part::Down, "model.layers.{}.mlp.fc2.weight"),
    ],
    joined: &[(&[Part::Q, Part::K, Part::V], FileKind::Gguf, "blk.{}.attn_qkv.weight")],
    settings: Settings { epsilon: ("layer_norm_eps", 1e-5), rotary_share: 0.5, ..Settings::USUAL },
};
