//! A model's numbers from GGUF metadata. Keys that would change the result and are not computed are refused.

use super::cursor::bad;
use super::gguf::GgufFile;
use super::metadata::brief;
use super::names::Role;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::model::config::{Arch, Fields, ModelConfig};

/// Keys under the architecture's name that are read here, or that change nothing the engine computes.
const KNOWN: [&str; 20] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.key_length",
    "attention.value_length",
    "rope.freq_base",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scale_linear",
    "pooling_type",
    "tensor_data_layout",
];

/// The keys of the numbers, less the architecture's name before them.
const FIELDS: Fields = Fields {
    vocab: "rows of token_embd.weight",
    width: "embedding_length",
    layers: "block_count",
    heads: "attention.head_count",
    kv_heads: "attention.head_count_kv",
    head_dim: "attention.key_length",
    mlp_width: "feed_forward_length",
    norm_eps: "attention.layer_norm_rms_epsilon",
    rope_theta: "rope.freq_base",
    context: "context_length",
};

/// Ids that end a turn or a text.
const END_KEYS: [&str; 2] = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];

pub(super) fn read(file: &GgufFile, limits: &Limits) -> Result<ModelConfig> {
    let missing = |key: &str| bad(file.path(), format!("metadata key {key:?} is missing"));
    let name = file.meta_str("general.architecture")?.ok_or_else(|| missing("general.architecture"))?;
    let arch = Arch::from_name(name).ok_or_else(|| Arch::unknown(brief(name)))?;
    let keys = Keys { file, arch };
    keys.refuse()?;

    let embedding = file.tensor(&Role::Embedding.gguf_name()).ok_or_else(|| {
        bad(file.path(), "tensor \"token_embd.weight\" is missing; a vocabulary-only file holds no model")
    })?;
    let vocab = embedding.shape[0];
    for (key, claimed) in
        [("the token list", token_count(file)?), ("the metadata's vocab_size", keys.count("vocab_size")?)]
    {
        if claimed.is_some_and(|n| n != vocab) {
            return Err(bad(
                file.path(),
                format!("{key} counts {} tokens but token_embd.weight has {vocab} rows", claimed.unwrap_or_default()),
            ));
        }
    }
    let width = keys.needed("embedding_length")?;
    let heads = keys.needed("attention.head_count")?;
    let config = ModelConfig {
        arch,
        vocab,
        width,
        layers: keys.needed("block_count")?,
        heads,
        kv_heads: keys.count("attention.head_count_kv")?.unwrap_or(heads),
        head_dim: keys.head_dim(width, heads)?,
        mlp_width: keys.needed("feed_forward_length")?,
        norm_eps: file
            .meta_f32(&keys.full("attention.layer_norm_rms_epsilon"))?
            .ok_or_else(|| missing(&keys.full("attention.layer_norm_rms_epsilon")))?,
        rope_theta: file.meta_f32(&keys.full("rope.freq_base"))?.unwrap_or(10_000.0),
        rope_interleaved: arch == Arch::Llama,
        context: keys.needed("context_length")?,
        tied: file.tensor(&Role::Head.gguf_name()).is_none(),
        qkv_bias: arch == Arch::Qwen2,
        qk_norm: arch == Arch::Qwen3,
        eos: ends(file)?,
        bos: id(file, "tokenizer.ggml.bos_token_id")?,
        name: title(file)?,
    };
    config.validate(limits, &FIELDS, |detail| bad(file.path(), detail))?;
    Ok(config)
}

/// The keys of one architecture.
struct Keys<'a> {
    file: &'a GgufFile,
    arch: Arch,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        let key = self.full(key);
        let Some(value) = self.file.meta_u64(&key)? else {
            return Ok(None);
        };
        usize::try_from(value).map(Some).map_err(|_| bad(self.file.path(), format!("metadata key {key:?} is {value}")))
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| bad(self.file.path(), format!("metadata key {:?} is missing", self.full(key))))
    }

    fn head_dim(&self, width: usize, heads: usize) -> Result<usize> {
        let (key, value) = (self.count("attention.key_length")?, self.count("attention.value_length")?);
        let even = width.checked_div(heads).filter(|_| heads > 0 && width.is_multiple_of(heads));
        let head_dim = key.or(value).or(even).ok_or_else(|| {
            bad(
                self.file.path(),
                format!("a width of {width} does not divide into {heads} heads, and no key_length is given"),
            )
        })?;
        // A file that gives one of the two leaves the other at width / heads.
        let other = if key.is_some() { value } else { key };
        if other.or(even).is_some_and(|other| other != head_dim) {
            return Err(Error::unsupported(
                "attention with keys and values of different widths",
                format!("key_length {key:?}, value_length {value:?}, width {width} over {heads} heads"),
                "use a model where both are the same",
            ));
        }
        match self.count("rope.dimension_count")? {
            Some(rotated) if rotated != head_dim => Err(Error::unsupported(
                "partial rotary embedding",
                format!("{rotated} of {head_dim} components"),
                "use a model that rotates whole heads",
            )),
            _ => Ok(head_dim),
        }
    }

    /// Refuses what the engine would have to ignore.
    fn refuse(&self) -> Result<()> {
        let file = self.file;
        if let Some(parts) = file.meta_u64("split.count")?.filter(|&n| n > 1) {
            return Err(Error::unsupported(
                "a GGUF model split over several files",
                format!("{parts} parts"),
                "join them with llama.cpp's gguf-split --merge",
            ));
        }
        let scaling = "use a model without rotary scaling, or its unscaled variant";
        if let Some(kind) = file.meta_str(&self.full("rope.scaling.type"))?
            && kind != "none"
        {
            return Err(Error::unsupported("RoPE scaling", format!("{:?}", brief(kind)), scaling));
        }
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            if let Some(factor) = file.meta_f32(&self.full(key))?
                && !matches!(factor, 0.0 | 1.0)
            {
                return Err(Error::unsupported("RoPE scaling", format!("{} = {factor}", self.full(key)), scaling));
            }
        }
        if file.meta_bool(&self.full("attention.causal"))? == Some(false) {
            return Err(Error::unsupported("attention that is not causal", "false", "use a decoder model"));
        }
        let prefix = self.full("");
        for key in file.meta_keys() {
            let Some(rest) = key.strip_prefix(&prefix) else {
                continue;
            };
            if KNOWN.contains(&rest) || rest == "attention.causal" || file.is_neutral(key) {
                continue;
            }
            let what = match rest {
                "attention.sliding_window" => "sliding-window attention".to_owned(),
                "expert_count" | "expert_used_count" => "a mixture of experts".to_owned(),
                r if r.ends_with("logit_softcapping") => "logit soft-capping".to_owned(),
                r if r.starts_with("rope.scaling.") => "RoPE scaling".to_owned(),
                _ => "a feature of this file".to_owned(),
            };
            return Err(Error::unsupported(
                what,
                format!("{} = {}", brief(key), file.describe(key)),
                format!("use a plain {} model", self.arch),
            ));
        }
        Ok(())
    }
}

fn token_count(file: &GgufFile) -> Result<Option<usize>> {
    if file.meta_has("tokenizer.ggml.tokens") {
        Ok(Some(file.meta_str_array("tokenizer.ggml.tokens")?.len()))
    } else {
        Ok(None)
    }
}

fn id(file: &GgufFile, key: &str) -> Result<Option<u32>> {
    let Some(value) = file.meta_u64(key)? else {
        return Ok(None);
    };
    u32::try_from(value)
        .map(Some)
        .map_err(|_| bad(file.path(), format!("metadata key {key:?} is {value}; token ids fit 32 bits")))
}

fn ends(file: &GgufFile) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for key in END_KEYS {
        if let Some(id) = id(file, key)?
            && !ids.contains(&id)
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The model's name on one line, or the file's.
fn title(file: &GgufFile) -> Result<String> {
    let name = file.meta_str("general.name")?.unwrap_or_default();
    let name: String = brief(name).chars().filter(|c| !c.is_control()).collect();
    if !name.is_empty() {
        return Ok(name);
    }
    Ok(file.path().file_stem().unwrap_or_default().to_string_lossy().into_owned())
}
