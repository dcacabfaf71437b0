//! A byte-level vocabulary as files give it, and the names of tokens that mean the same everywhere.

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::weights::GgufFile;

/// A byte-level vocabulary as a model file gives it.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary<'a> {
    /// Spelling of every token, by id.
    pub tokens: Vec<&'a str>,
    /// Kind of every token in GGUF's numbers (1 text, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte); empty: all text.
    pub kinds: Vec<i32>,
    /// Pairs to merge, `left right`, best first.
    pub merges: Vec<&'a str>,
    /// Name of the pre-tokenizer.
    pub pre: &'a str,
    /// The file's begin token.
    pub bos: Option<u32>,
    /// Whether texts begin with it; by default as the family does.
    pub add_bos: Option<bool>,
    /// Ids that end an answer.
    pub eos: Vec<u32>,
}

/// Names that end an answer in the chat formats of the supported families; control tokens wherever they are added tokens.
pub(super) const ENDS: &[&str] = &[
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "<eos>",
    "[EOS]",
    "[EOT]",
    "<end_of_utterance>",
];

/// Names of file and fill-in tokens that the reference also takes for control tokens.
pub(super) const MARKERS: &[&str] = &[
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<fim_prefix>",
    "<fim_suffix>",
    "<fim_middle>",
    "<fim_pad>",
    "<reponame>",
    "<|fim_repo|>",
    "<｜fim▁begin｜>",
    "<｜fim▁hole｜>",
    "<｜fim▁end｜>",
];

impl Tokenizer {
    /// Reads the tokenizer from the metadata of a GGUF file.
    pub fn from_gguf(file: &GgufFile, limits: &Limits) -> Result<Self> {
        let model = file.meta_str("tokenizer.ggml.model")?.unwrap_or("missing");
        if model != "gpt2" {
            return Err(Error::unsupported(
                "the tokenizer model",
                format!("{model:?}"),
                "byte-level vocabularies (\"gpt2\") are read; load the safetensors folder of the model if its tokenizer.json is byte-level",
            ));
        }
        // A file without the key was written before pre-tokenizers had names: there is no telling how it cuts.
        let pre = file.meta_str("tokenizer.ggml.pre")?.unwrap_or("missing");
        let id = |key: &str| -> Result<Option<u32>> { Ok(file.meta_u64(key)?.and_then(|id| u32::try_from(id).ok())) };
        let mut eos = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            eos.extend(id(key)?);
        }
        let kinds_key = "tokenizer.ggml.token_type";
        let kinds = if file.meta_has(kinds_key) { file.meta_i32_array(kinds_key)?.collect() } else { Vec::new() };
        let vocabulary = Vocabulary {
            tokens: file.meta_str_array("tokenizer.ggml.tokens")?.collect(),
            kinds,
            merges: file.meta_str_array("tokenizer.ggml.merges")?.collect(),
            pre,
            bos: id("tokenizer.ggml.bos_token_id")?,
            add_bos: file.meta_bool("tokenizer.ggml.add_bos_token")?,
            eos,
        };
        Self::from_vocabulary(&vocabulary, limits)
    }
}
