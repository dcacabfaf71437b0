//! Every cap of the engine in one place, each with its unit and its reason.

use std::time::Duration;

/// Caps on what files, prompts and callers may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Metadata entries in a model file (entries). Real files hold tens.
    pub metadata_entries: u64,
    /// Tensors in a model file (tensors). A 70B model holds under 1,000.
    pub tensors: u64,
    /// Dimensions of one tensor (count). Language models need two.
    pub tensor_dims: u32,
    /// A metadata key or tensor name (bytes). The format's own cap on keys.
    pub metadata_key: u64,
    /// One metadata string (bytes). Chat templates reach some 20 KB; tokens far less.
    pub metadata_string: u64,
    /// Elements of one metadata array (elements). Vocabularies reach 256k, merges 500k.
    pub metadata_array: u64,
    /// A safetensors header (bytes). The format's own cap.
    pub safetensors_header: u64,
    /// The shard index (bytes). That of a 671B model is 9 MB.
    pub json_file: u64,
    /// config.json and generation_config.json (bytes each). Real ones hold a few KB; parsing takes some 20 times the size.
    pub config_file: u64,
    /// tokenizer.json (bytes). Qwen's is 7 MB, the largest known 35 MB.
    pub tokenizer_file: u64,
    /// Spellings of all special tokens (bytes). A model with 100,000 of them needs some 2 MB; what finds them in a text
    /// takes some 40 times as much memory.
    pub special_names: usize,
    /// Decoder layers (layers).
    pub layers: usize,
    /// Hidden width, MLP width or attention width (components).
    pub width: usize,
    /// Vocabulary (tokens).
    pub vocab: usize,
    /// Attention heads (heads).
    pub heads: usize,
    /// Context length (positions). Bounds every cache and table.
    pub context: usize,
    /// Chat template source (bytes).
    pub template_source: usize,
    /// Chat template output (bytes).
    pub template_output: usize,
    /// Chat template work (minijinja fuel units, about one per instruction).
    pub template_fuel: u64,
    /// How long one chat template may run. Real ones take milliseconds.
    pub template_time: Duration,
    /// One text given to the tokenizer (bytes).
    pub text: usize,
    /// Prompts in one call (prompts).
    pub batch: usize,
    /// Segments of one prompt (segments).
    pub segments: usize,
    /// Stop strings of one call (strings) and the length of each (bytes).
    pub stops: usize,
    /// Length of one stop string (bytes).
    pub stop_bytes: usize,
    /// Tokens that one call may bias, or name as ends (tokens).
    pub token_list: usize,
    /// A salt of kept prefixes (bytes). Random ones have some tens.
    pub salt_bytes: usize,
    /// Forms kept compiled for further calls (forms). Each takes some megabytes.
    pub forms: usize,
    /// Alternatives reported per position (tokens).
    pub top: usize,
    /// Callers that may wait for room in the key-value cache at once (callers). More threads than anybody should have.
    pub queue: usize,
    /// How long each of them may wait. Past it the caller had better ask elsewhere.
    pub queue_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            metadata_entries: 65_536,
            tensors: 65_536,
            tensor_dims: 4,
            metadata_key: 65_535,
            metadata_string: 16 << 20,
            metadata_array: 8 << 20,
            safetensors_header: 100_000_000,
            json_file: 64 << 20,
            config_file: 4 << 20,
            tokenizer_file: 256 << 20,
            special_names: 4 << 20,
            layers: 512,
            width: 1 << 18,
            vocab: 1 << 21,
            heads: 1 << 10,
            context: 1 << 20,
            template_source: 64 << 10,
            template_output: 4 << 20,
            template_fuel: 4_000_000,
            template_time: Duration::from_secs(2),
            text: 64 << 20,
            batch: 4_096,
            segments: 4_096,
            stops: 64,
            stop_bytes: 1_024,
            token_list: 16_384,
            salt_bytes: 256,
            forms: 32,
            top: 1_024,
            queue: 256,
            queue_wait: Duration::from_secs(60),
        }
    }
}
