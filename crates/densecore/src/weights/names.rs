//! What a tensor is for, and what each file family calls it.

use std::fmt;

/// The part a tensor plays; the number is the layer, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embeddings (vocab, d).
    Embedding,
    /// Final norm (d).
    OutputNorm,
    /// Output head (vocab, d); absent where it is tied to the embedding.
    Head,
    /// Norm before attention (d).
    AttnNorm(usize),
    /// Query projection (heads * head_dim, d).
    Q(usize),
    /// Query bias (heads * head_dim).
    QBias(usize),
    /// Key projection (kv_heads * head_dim, d).
    K(usize),
    /// Key bias (kv_heads * head_dim).
    KBias(usize),
    /// Value projection (kv_heads * head_dim, d).
    V(usize),
    /// Value bias (kv_heads * head_dim).
    VBias(usize),
    /// Attention output projection (d, heads * head_dim).
    O(usize),
    /// Norm of each query head (head_dim).
    QNorm(usize),
    /// Norm of each key head (head_dim).
    KNorm(usize),
    /// Norm before the MLP (d).
    MlpNorm(usize),
    /// MLP gate (mlp_width, d).
    Gate(usize),
    /// MLP up projection (mlp_width, d).
    Up(usize),
    /// MLP down projection (d, mlp_width).
    Down(usize),
}

impl Role {
    /// The tensor's name in a GGUF file.
    pub fn gguf_name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "token_embd.weight".into(),
            Self::OutputNorm => return "output_norm.weight".into(),
            Self::Head => return "output.weight".into(),
            Self::AttnNorm(l) => (l, "attn_norm.weight"),
            Self::Q(l) => (l, "attn_q.weight"),
            Self::QBias(l) => (l, "attn_q.bias"),
            Self::K(l) => (l, "attn_k.weight"),
            Self::KBias(l) => (l, "attn_k.bias"),
            Self::V(l) => (l, "attn_v.weight"),
            Self::VBias(l) => (l, "attn_v.bias"),
            Self::O(l) => (l, "attn_output.weight"),
            Self::QNorm(l) => (l, "attn_q_norm.weight"),
            Self::KNorm(l) => (l, "attn_k_norm.weight"),
            Self::MlpNorm(l) => (l, "ffn_norm.weight"),
            Self::Gate(l) => (l, "ffn_gate.weight"),
            Self::Up(l) => (l, "ffn_up.weight"),
            Self::Down(l) => (l, "ffn_down.weight"),
        };
        format!("blk.{layer}.{part}")
    }

    /// The tensor's name in a Hugging Face folder.
    pub fn hf_name(self) -> String {
        let (layer, part) = match self {
            Self::Embedding => return "model.embed_tokens.weight".into(),
            Self::OutputNorm => return "model.norm.weight".into(),
            Self::Head => return "lm_head.weight".into(),
            Self::AttnNorm(l) => (l, "input_layernorm.weight"),
            Self::Q(l) => (l, "self_attn.q_proj.weight"),
            Self::QBias(l) => (l, "self_attn.q_proj.bias"),
            Self::K(l) => (l, "self_attn.k_proj.weight"),
            Self::KBias(l) => (l, "self_attn.k_proj.bias"),
            Self::V(l) => (l, "self_attn.v_proj.weight"),
            Self::VBias(l) => (l, "self_attn.v_proj.bias"),
            Self::O(l) => (l, "self_attn.o_proj.weight"),
            Self::QNorm(l) => (l, "self_attn.q_norm.weight"),
            Self::KNorm(l) => (l, "self_attn.k_norm.weight"),
            Self::MlpNorm(l) => (l, "post_attention_layernorm.weight"),
            Self::Gate(l) => (l, "mlp.gate_proj.weight"),
            Self::Up(l) => (l, "mlp.up_proj.weight"),
            Self::Down(l) => (l, "mlp.down_proj.weight"),
        };
        format!("model.layers.{layer}.{part}")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Up to three names most like `wanted`: those sharing the longest beginning and end with it.
pub(super) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let likeness = |name: &str| {
        let head = wanted.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        let tail = wanted.bytes().rev().zip(name.bytes().rev()).take_while(|(a, b)| a == b).count();
        head + tail
    };
    let mut scored: Vec<_> = names.map(|name| (likeness(name), name)).collect();
    scored.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}
