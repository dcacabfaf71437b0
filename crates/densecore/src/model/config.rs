//! What a model looks like: its architecture and its numbers, all bounded and consistent.

use std::collections::HashSet;
use std::fmt;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::weights::{Role, Weights};

/// The architectures this engine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: norms on every query and key head, no biases.
    Qwen3,
    /// Llama family, SmolLM2 among them.
    Llama,
}

impl Arch {
    /// All of them, for messages.
    pub const SUPPORTED: &'static str =
        "Qwen2 and Qwen2.5 (Qwen2ForCausalLM), Qwen3 (Qwen3ForCausalLM) and Llama (LlamaForCausalLM)";

    /// The name used in GGUF files and in `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Llama => "llama",
        }
    }

    /// The architecture of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Qwen2, Self::Qwen3, Self::Llama].into_iter().find(|arch| arch.name() == name)
    }

    /// Refuses an architecture by name.
    pub(crate) fn unknown(name: &str) -> Error {
        Error::unsupported("the architecture", format!("{name:?}"), format!("use a model of {}", Self::SUPPORTED))
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The numbers of one model.
#[derive(Debug, Clone, PartialEq)]
// Four independent facts of a file, not states of one thing.
#[allow(clippy::struct_excessive_bools)]
pub struct ModelConfig {
    /// Architecture.
    pub arch: Arch,
    /// Rows of the embedding (tokens).
    pub vocab: usize,
    /// Width of a hidden state, `d` (components).
    pub width: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head, even; not always `width / heads`.
    pub head_dim: usize,
    /// Width inside the MLP (components).
    pub mlp_width: usize,
    /// Added to the mean square in every RMS norm.
    pub norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Rotary pairs are (2i, 2i+1) rather than (i, i + head_dim/2): GGUF Llama files permute q and k so.
    pub rope_interleaved: bool,
    /// Longest sequence the model was made for (positions).
    pub context: usize,
    /// The head is the embedding matrix.
    pub tied: bool,
    /// q, k and v projections carry biases.
    pub qkv_bias: bool,
    /// Every query and key head is normed before rotation.
    pub qk_norm: bool,
    /// Ids that end a generation, as the model's own files name them.
    pub eos: Vec<u32>,
    /// Id that begins a text, if the files name one.
    pub bos: Option<u32>,
    /// The model's own name, or its folder's.
    pub name: String,
}

/// What a file format calls each number, for messages.
pub(crate) struct Fields {
    pub vocab: &'static str,
    pub width: &'static str,
    pub layers: &'static str,
    pub heads: &'static str,
    pub kv_heads: &'static str,
    pub head_dim: &'static str,
    pub mlp_width: &'static str,
    pub norm_eps: &'static str,
    pub rope_theta: &'static str,
    pub context: &'static str,
}

impl ModelConfig {
    /// Width of all query heads together (components).
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together (components).
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Checks the numbers alone: bounded by `limits`, and consistent. `bad` makes the error of the file at hand, which
    /// calls its fields `fields`.
    pub(crate) fn validate(&self, limits: &Limits, fields: &Fields, bad: impl Fn(String) -> Error) -> Result<()> {
        let counts = [
            ("vocabulary", fields.vocab, self.vocab, limits.vocab),
            ("hidden width", fields.width, self.width, limits.width),
            ("number of layers", fields.layers, self.layers, limits.layers),
            ("number of heads", fields.heads, self.heads, limits.heads),
            ("number of key-value heads", fields.kv_heads, self.kv_heads, limits.heads),
            ("head width", fields.head_dim, self.head_dim, limits.width),
            ("MLP width", fields.mlp_width, self.mlp_width, limits.width),
            ("context", fields.context, self.context, limits.context),
        ];
        for (what, field, value, cap) in counts {
            if value == 0 {
                return Err(bad(format!("the {what} is 0 ({field}); it must be at least 1")));
            }
            if value > cap {
                return Err(Error::Limit {
                    what: format!("the {what} ({field})"),
                    value: value as u64,
                    cap: cap as u64,
                    remedy: "no model that this engine runs comes near it: check the file, or load another model"
                        .into(),
                });
            }
        }
        // Heads and head width are bounded above, so the product cannot overflow.
        if self.q_width() > limits.width {
            return Err(Error::Limit {
                what: "the attention width (heads times head width)".into(),
                value: self.q_width() as u64,
                cap: limits.width as u64,
                remedy: "no model that this engine runs comes near it: check the file, or load another model".into(),
            });
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(bad(format!(
                "{} query heads cannot share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(bad(format!("the head width {} is odd; rotary pairs need an even one", self.head_dim)));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps <= 0.1) {
            return Err(bad(format!(
                "the norm epsilon is {} ({}); it must be above 0 and at most 0.1",
                self.norm_eps, fields.norm_eps
            )));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e12) {
            return Err(bad(format!(
                "the rotary base is {} ({}); it must be from 1 to 1e12",
                self.rope_theta, fields.rope_theta
            )));
        }
        if let Some(&id) = self.eos.iter().chain(&self.bos).find(|&&id| id as usize >= self.vocab) {
            return Err(bad(format!("a special token has id {id} but the vocabulary holds {} tokens", self.vocab)));
        }
        Ok(())
    }

    /// Every tensor this model needs, with its shape.
    pub fn tensors(&self) -> Vec<(Role, Vec<usize>)> {
        let (d, q, kv, mlp) = (self.width, self.q_width(), self.kv_width(), self.mlp_width);
        let mut list = vec![(Role::Embedding, vec![self.vocab, d]), (Role::OutputNorm, vec![d])];
        if !self.tied {
            list.push((Role::Head, vec![self.vocab, d]));
        }
        for l in 0..self.layers {
            list.extend([
                (Role::AttnNorm(l), vec![d]),
                (Role::Q(l), vec![q, d]),
                (Role::K(l), vec![kv, d]),
                (Role::V(l), vec![kv, d]),
                (Role::O(l), vec![d, q]),
                (Role::MlpNorm(l), vec![d]),
                (Role::Gate(l), vec![mlp, d]),
                (Role::Up(l), vec![mlp, d]),
                (Role::Down(l), vec![d, mlp]),
            ]);
            if self.qkv_bias {
                list.extend([(Role::QBias(l), vec![q]), (Role::KBias(l), vec![kv]), (Role::VBias(l), vec![kv])]);
            }
            if self.qk_norm {
                list.extend([(Role::QNorm(l), vec![self.head_dim]), (Role::KNorm(l), vec![self.head_dim])]);
            }
        }
        list
    }

    /// Checks the tensors: each needed one is there in its shape, and none is there that would go unused,
    /// for a model with parameters left out computes something else.
    pub fn check(&self, weights: &Weights) -> Result<()> {
        let mut known = HashSet::new();
        for (role, shape) in self.tensors() {
            let view = weights.role(role)?;
            if view.shape != shape {
                return Err(weights.bad(format!(
                    "tensor {:?} has shape {:?} but the model's numbers call for {shape:?}",
                    view.name, view.shape
                )));
            }
            known.insert(view.name);
        }
        let head = weights.role_name(Role::Head);
        let spare = |name: &str| {
            // A tied head saved all the same, and the constant table old Llama folders carry.
            (self.tied && name == head) || name.ends_with(".rotary_emb.inv_freq")
        };
        match weights.names().into_iter().find(|name| !known.contains(name) && !spare(name)) {
            None => Ok(()),
            Some("rope_freqs.weight") => Err(Error::unsupported(
                "RoPE scaling",
                "the tensor rope_freqs.weight",
                "use a model without rotary scaling",
            )),
            Some(name) => Err(Error::unsupported(
                format!("tensor {name:?}"),
                format!("no part of a {} model as this engine computes it", self.arch),
                "use a plain model: no adapters, experts, extra biases or scales",
            )),
        }
    }
}
