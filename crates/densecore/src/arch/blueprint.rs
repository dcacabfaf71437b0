//! How a family of models computes, as data: which norms, in which order, with which activation and biases.

use super::role::Part;

/// What a family computes. What its files may set otherwise (numbers, rotary scaling, windows) is in
/// [`super::ModelConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blueprint {
    /// Every norm but those of heads, which are always by the root mean square.
    pub norm: Norm,
    /// How attention and MLP meet the residual stream.
    pub residual: Residual,
    /// The perceptron.
    pub mlp: Mlp,
    /// Parts whose products have biases.
    pub biases: &'static [Part],
    /// Every query and key head is normed before rotation.
    pub head_norms: bool,
    /// Embeddings are multiplied by the root of the width.
    pub scaled_embedding: bool,
    /// Which components rotate together in GGUF files; in folders always [`Pairs::Halves`].
    pub gguf_pairs: Pairs,
}

/// Kinds of norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Division by the root mean square.
    Rms,
    /// The same, where folders hold each weight less 1.
    RmsLessOne,
    /// By mean and deviation, with a bias.
    Layer,
}

/// Orders of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// Attention is added to the stream, then the MLP of what that gives.
    Sequential,
    /// Both read the layer's input, through one norm.
    Parallel,
    /// Sequential, and what each gives is normed before it is added.
    Sandwich,
}

/// Kinds of perceptrons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// `down(act(gate x) * up x)`.
    Gated(Activation),
    /// `down(act(up x))`.
    Plain(Activation),
}

/// Activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// The Gaussian unit by its hyperbolic tangent.
    Gelu,
}

impl Activation {
    /// The names that config.json has for it.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Silu => &["silu"],
            Self::Gelu => &["gelu_new", "gelu_pytorch_tanh", "gelu_fast"],
        }
    }
}

impl Mlp {
    /// What it does between its products.
    pub fn activation(self) -> Activation {
        match self {
            Self::Gated(activation) | Self::Plain(activation) => activation,
        }
    }

    /// Whether it has a gate.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Gated(_))
    }
}

/// Which components of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Component `i` with `i + half`.
    Halves,
    /// Neighbours, `2i` with `2i + 1`.
    Neighbours,
}

impl Blueprint {
    /// What most families share; each says where it differs.
    pub const USUAL: Self = Self {
        norm: Norm::Rms,
        residual: Residual::Sequential,
        mlp: Mlp::Gated(Activation::Silu),
        biases: &[],
        head_norms: false,
        scaled_embedding: false,
        gguf_pairs: Pairs::Halves,
    };
}
