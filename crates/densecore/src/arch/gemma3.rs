//! Gemma 3, text alone: norms before and after, weights of norms less 1, scaled embeddings, head norms, and windows in five
//! of six layers, which rotate faster.

use super::blueprint::{Activation, Blueprint, Mlp, Norm, Residual};
use super::role::Part;
use super::{Family, Settings, Windows};

pub(super) static FAMILY: Family = Family {
    name: "gemma3",
    class: "Gemma3ForCausalLM",
    title: "Gemma 3",
    blueprint: Blueprint {
        norm: Norm::RmsLessOne,
        residual: Residual::Sandwich,
        mlp: Mlp::Gated(Activation::Gelu),
        head_norms: true,
        scaled_embedding: true,
        ..Blueprint::USUAL
    },
    gguf: Some(&[]),
    folder: &[(Part::MlpNorm, "model.layers.{}.pre_feedforward_layernorm.weight")],
    joined: &[],
    settings: Settings {
        activation: "hidden_activation",
        head_dim: Some(256),
        query_scalar: true,
        tied: true,
        windows: Windows::Listed { base: 10_000.0, every: 6 },
        ..Settings::USUAL
    },
};
