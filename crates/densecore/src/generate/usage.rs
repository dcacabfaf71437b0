//! What a call cost.

/// Counts of one call. Emitted tokens and latent steps are different things and never added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Vectors of the prompt.
    pub prompt_vectors: usize,
    /// Tokens drawn for the answer, the ending one included.
    pub emitted_tokens: usize,
    /// Vectors fed back without a token.
    pub latent_steps: usize,
    /// Positions that went through the model.
    pub positions: usize,
    /// Positions not computed: found in the context it went on from, or in blocks kept from prompts that began alike.
    pub cached_positions: usize,
    /// Wall time (seconds).
    pub seconds: f64,
    /// The part of it spent waiting for room in the key-value cache (seconds).
    pub waited_seconds: f64,
}
