//! A model's numbers from GGUF metadata. Keys that would change the result and are not computed are refused.

use super::check::ROPE_DIVISORS;
use super::cursor::bad;
use super::gguf::GgufFile;
use super::metadata::brief;
use crate::arch::blueprint::Norm;
use crate::arch::config::Fields;
use crate::arch::{Arch, FileKind, Local, ModelConfig, Part, Rotary, Scaling, Windows};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Keys under the architecture's name that are read here, or that change nothing the engine computes.
const KNOWN: [&str; 24] = [
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
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.freq_base_swa",
    "pooling_type",
    "tensor_data_layout",
];

/// Layers of the largest Gemma 3 whose scores are divided by the root of the head width.
const GEMMA_12B: usize = 48;
/// Keys that are checked where they are read.
const OWN: [&str; 2] = ["attention.causal", "attention.sliding_window"];

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
    let arch =
        Arch::from_name(name).filter(|arch| arch.family().gguf.is_some()).ok_or_else(|| Arch::unknown(brief(name)))?;
    let keys = Keys { file, arch };
    keys.refuse()?;

    let embedding = file.tensor(&arch.tensor_name(Part::Embedding.into(), FileKind::Gguf)).ok_or_else(|| {
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
    let head_dim = keys.head_dim(width, heads)?;
    let layers = keys.needed("block_count")?;
    let epsilon = match arch.family().blueprint.norm {
        Norm::Layer => "attention.layer_norm_epsilon",
        Norm::Rms | Norm::RmsLessOne => "attention.layer_norm_rms_epsilon",
    };
    let rotary = keys.rotary(head_dim)?;
    if arch.family().settings.query_scalar && layers > GEMMA_12B {
        return Err(Error::unsupported(
            "the scale of attention, which such a file leaves out",
            format!("{layers} layers of {arch}"),
            "load the safetensors folder of the same model",
        ));
    }
    let config = ModelConfig {
        arch,
        vocab,
        width,
        layers,
        heads,
        kv_heads: keys.count("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        mlp_width: keys.needed("feed_forward_length")?,
        norm_eps: keys.number(epsilon)?.ok_or_else(|| missing(&keys.full(epsilon)))?,
        local: keys.windows(layers, &rotary)?,
        rotary,
        pairs: arch.family().blueprint.gguf_pairs,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        context: keys.needed("context_length")?,
        tied: file.tensor(&arch.tensor_name(Part::Head.into(), FileKind::Gguf)).is_none(),
        eos: ends(file)?,
        bos: id(file, "tokenizer.ggml.bos_token_id")?,
        name: title(file)?,
    };
    config.validate(limits, &Fields { norm_eps: epsilon, ..FIELDS }, |detail| bad(file.path(), detail))?;
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
        Ok(head_dim)
    }

    fn number(&self, key: &str) -> Result<Option<f32>> {
        self.file.meta_f32(&self.full(key))
    }

    /// How heads rotate.
    fn rotary(&self, head_dim: usize) -> Result<Rotary> {
        let base = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        let dims = self.count("rope.dimension_count")?.unwrap_or(head_dim);
        Ok(Rotary { dims, base, scaling: self.scaling(dims)? })
    }

    fn scaling(&self, dims: usize) -> Result<Scaling> {
        let refuse = |value: String| {
            Err(Error::unsupported(
                "RoPE scaling",
                value,
                "use a model with \"linear\" or \"yarn\" scaling, or its unscaled variant",
            ))
        };
        let kind = self.file.meta_str(&self.full("rope.scaling.type"))?.unwrap_or("none");
        if let Some(divisors) = self.file.tensor(ROPE_DIVISORS) {
            if kind != "none" {
                return refuse(format!("{:?} beside the tensor {ROPE_DIVISORS}", brief(kind)));
            }
            if divisors.shape != [dims / 2] {
                let detail = format!("tensor {ROPE_DIVISORS:?} has shape {:?}, not [{}]", divisors.shape, dims / 2);
                return Err(bad(self.file.path(), detail));
            }
            let mut list = vec![0.0; dims / 2];
            divisors.format.dequantize_row(divisors.data, &mut list);
            return Ok(Scaling::Listed(list));
        }
        // Old files give a linear factor, or its inverse, without a type.
        let factor = match self.number("rope.scaling.factor")?.filter(|&factor| factor != 0.0) {
            Some(factor) => factor,
            None => self.number("rope.scale_linear")?.filter(|&factor| factor != 0.0).unwrap_or(1.0),
        };
        match kind {
            "none" if matches!(factor, 1.0) => Ok(Scaling::None),
            "none" => refuse(format!("{} = {factor} without a type", self.full("rope.scaling.factor"))),
            "linear" => Ok(Scaling::Linear { factor }),
            "yarn" => Ok(Scaling::Yarn {
                factor,
                fast: self.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                slow: self.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                original: match self.count("rope.scaling.original_context_length")? {
                    Some(original) => original,
                    None => self.needed("context_length")?,
                },
                attention: Scaling::yarn_attention(factor) * self.number("rope.scaling.attn_factor")?.unwrap_or(1.0),
            }),
            other => refuse(format!("{:?}", brief(other))),
        }
    }

    /// Which layers have a window.
    fn windows(&self, layers: usize, rotary: &Rotary) -> Result<Option<Local>> {
        let window = self.count("attention.sliding_window")?.filter(|&window| window > 0);
        let Windows::Listed { base, every } = self.arch.family().settings.windows else {
            return match window {
                Some(window) => Err(Error::unsupported(
                    "sliding-window attention",
                    format!("{} = {window}", self.full("attention.sliding_window")),
                    "use a model with full attention in every layer",
                )),
                None => Ok(None),
            };
        };
        let Some(window) = window else { return Ok(None) };
        let base = self.number("rope.freq_base_swa")?.unwrap_or(base as f32);
        let local = Rotary { base, scaling: Scaling::None, ..rotary.clone() };
        let layers = (1..=layers).map(|l| !l.is_multiple_of(every)).collect();
        Ok(Some(Local { window, layers, rotary: local }))
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
        if file.meta_bool(&self.full("attention.causal"))? == Some(false) {
            return Err(Error::unsupported("attention that is not causal", "false", "use a decoder model"));
        }
        let prefix = self.full("");
        for key in file.meta_keys() {
            let Some(rest) = key.strip_prefix(&prefix) else {
                continue;
            };
            if KNOWN.contains(&rest) || OWN.contains(&rest) || file.is_neutral(key) {
                continue;
            }
            let what = match rest {
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
