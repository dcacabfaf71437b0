//! A file's tensors beside what its model needs.

use super::source::Weights;
use crate::arch::{ModelConfig, Part};
use crate::error::{Error, Result};
use std::collections::HashSet;

/// Checks that each tensor a model needs is there in its shape, and that none is there that would go unused, for a model with
/// parameters left out computes something else.
pub(super) fn tensors(weights: &Weights, config: &ModelConfig) -> Result<()> {
    let mut known = HashSet::new();
    for (role, shape) in config.tensors() {
        let view = weights.role(config, role)?;
        if view.shape != shape {
            return Err(weights.bad(format!(
                "tensor {:?} has shape {:?} but the model's numbers call for {shape:?}",
                view.name, view.shape
            )));
        }
        known.insert(view.name);
    }
    let head = config.arch.tensor_name(Part::Head.into(), weights.kind());
    let spare = |name: &str| {
        // A tied head saved all the same, and the constant table old Llama folders carry; divisors of frequencies are read
        // with the numbers.
        (config.tied && name == head) || name.ends_with(".rotary_emb.inv_freq") || name == ROPE_DIVISORS
    };
    match weights.names().into_iter().find(|name| !known.contains(name) && !spare(name)) {
        None => Ok(()),
        Some(name) => Err(Error::unsupported(
            format!("tensor {name:?}"),
            format!("no part of a {} model as this engine computes it", config.arch),
            "use a plain model: no adapters, experts, extra biases or scales",
        )),
    }
}

/// The tensor of GGUF files that lists what each rotary frequency is divided by.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";
