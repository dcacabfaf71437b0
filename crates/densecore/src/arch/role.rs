//! What a tensor is for, and what each kind of file calls it.

use std::fmt;

/// A part of a model that has tensors. Shapes are `(out, in)`, d is the width of a hidden state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Token embeddings (vocab, d).
    Embedding,
    /// Final norm (d).
    OutputNorm,
    /// Output head (vocab, d); absent where it is tied to the embedding.
    Head,
    /// Norm before attention (d).
    AttnNorm,
    /// Query projection (heads * head_dim, d).
    Q,
    /// Key projection (kv_heads * head_dim, d).
    K,
    /// Value projection (kv_heads * head_dim, d).
    V,
    /// Attention output projection (d, heads * head_dim).
    O,
    /// Norm of each query head (head_dim).
    QNorm,
    /// Norm of each key head (head_dim).
    KNorm,
    /// Norm of what attention gives (d).
    AfterAttn,
    /// Norm before the MLP (d).
    MlpNorm,
    /// MLP gate (mlp_width, d).
    Gate,
    /// MLP up projection (mlp_width, d).
    Up,
    /// MLP down projection (d, mlp_width).
    Down,
    /// Norm of what the MLP gives (d).
    AfterMlp,
}

/// One tensor: the weight or the bias of a part of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Role {
    /// What it is for.
    pub part: Part,
    /// The layer, from 0; 0 for what is outside the layers.
    pub layer: usize,
    /// Whether it is the bias.
    pub bias: bool,
}

impl Role {
    /// The weight of a part.
    pub const fn new(part: Part, layer: usize) -> Self {
        Self { part, layer, bias: false }
    }

    /// The bias that belongs to it.
    #[must_use]
    pub const fn bias(self) -> Self {
        Self { bias: true, ..self }
    }
}

impl From<Part> for Role {
    /// The weight of a part outside the layers.
    fn from(part: Part) -> Self {
        Self::new(part, 0)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of layer {}", self.part, self.layer)
    }
}

/// Kinds of files that hold weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// One GGUF file.
    Gguf,
    /// A Hugging Face folder of safetensors.
    Folder,
}

/// Names of weights by part; `{}` stands for the layer. Biases end in `.bias` where weights end in `.weight`.
pub type Names = &'static [(Part, &'static str)];

/// What most GGUF files call them.
const GGUF: Names = &[
    (Part::Embedding, "token_embd.weight"),
    (Part::OutputNorm, "output_norm.weight"),
    (Part::Head, "output.weight"),
    (Part::AttnNorm, "blk.{}.attn_norm.weight"),
    (Part::Q, "blk.{}.attn_q.weight"),
    (Part::K, "blk.{}.attn_k.weight"),
    (Part::V, "blk.{}.attn_v.weight"),
    (Part::O, "blk.{}.attn_output.weight"),
    (Part::QNorm, "blk.{}.attn_q_norm.weight"),
    (Part::KNorm, "blk.{}.attn_k_norm.weight"),
    (Part::AfterAttn, "blk.{}.post_attention_norm.weight"),
    (Part::MlpNorm, "blk.{}.ffn_norm.weight"),
    (Part::Gate, "blk.{}.ffn_gate.weight"),
    (Part::Up, "blk.{}.ffn_up.weight"),
    (Part::Down, "blk.{}.ffn_down.weight"),
    (Part::AfterMlp, "blk.{}.post_ffw_norm.weight"),
];

/// What most folders call them.
const FOLDER: Names = &[
    (Part::Embedding, "model.embed_tokens.weight"),
    (Part::OutputNorm, "model.norm.weight"),
    (Part::Head, "lm_head.weight"),
    (Part::AttnNorm, "model.layers.{}.input_layernorm.weight"),
    (Part::Q, "model.layers.{}.self_attn.q_proj.weight"),
    (Part::K, "model.layers.{}.self_attn.k_proj.weight"),
    (Part::V, "model.layers.{}.self_attn.v_proj.weight"),
    (Part::O, "model.layers.{}.self_attn.o_proj.weight"),
    (Part::QNorm, "model.layers.{}.self_attn.q_norm.weight"),
    (Part::KNorm, "model.layers.{}.self_attn.k_norm.weight"),
    (Part::AfterAttn, "model.layers.{}.post_attention_layernorm.weight"),
    (Part::MlpNorm, "model.layers.{}.post_attention_layernorm.weight"),
    (Part::Gate, "model.layers.{}.mlp.gate_proj.weight"),
    (Part::Up, "model.layers.{}.mlp.up_proj.weight"),
    (Part::Down, "model.layers.{}.mlp.down_proj.weight"),
    (Part::AfterMlp, "model.layers.{}.post_feedforward_layernorm.weight"),
];

/// The tensor's name in files of a kind; `own` are names that differ from what most files have.
pub fn name(role: Role, kind: FileKind, own: Names) -> String {
    let usual = match kind {
        FileKind::Gguf => GGUF,
        FileKind::Folder => FOLDER,
    };
    let pattern = own.iter().chain(usual).find(|(part, _)| *part == role.part).map_or("", |(_, pattern)| pattern);
    numbered(pattern, role)
}

/// A pattern's name for one layer, of its bias if the role is one.
pub(crate) fn numbered(pattern: &str, role: Role) -> String {
    let name = pattern.replacen("{}", &role.layer.to_string(), 1);
    match name.strip_suffix(".weight") {
        Some(stem) if role.bias => format!("{stem}.bias"),
        _ => name,
    }
}
