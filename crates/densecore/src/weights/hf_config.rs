//! A model's numbers from config.json. Settings that would change the result and are not computed are refused.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::metadata::brief;
use super::names::Role;
use super::safetensors::SafetensorsDir;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::model::config::{self, Arch, ModelConfig};

/// Head width of Qwen3 when its config does not say, as the reference implementation has it.
const QWEN3_HEAD_DIM: usize = 128;
/// First layer with a sliding window when the config does not say.
const MAX_WINDOW_LAYERS: usize = 28;

/// The keys of the numbers.
const FIELDS: config::Fields = config::Fields {
    vocab: "vocab_size",
    width: "hidden_size",
    layers: "num_hidden_layers",
    heads: "num_attention_heads",
    kv_heads: "num_key_value_heads",
    head_dim: "head_dim",
    mlp_width: "intermediate_size",
    norm_eps: "rms_norm_eps",
    rope_theta: "rope_theta",
    context: "max_position_embeddings",
};

pub(super) fn read(dir: &SafetensorsDir, limits: &Limits) -> Result<ModelConfig> {
    let fields = Fields { map: dir.config(), path: dir.path().join("config.json") };
    let arch = arch(&fields)?;
    let layers = fields.needed("num_hidden_layers")?;
    fields.refuse(arch, layers)?;

    let width = fields.needed("hidden_size")?;
    let heads = fields.needed("num_attention_heads")?;
    let head_dim = match fields.count("head_dim")? {
        Some(head_dim) => head_dim,
        None if arch == Arch::Qwen3 => QWEN3_HEAD_DIM,
        None if heads > 0 && width.is_multiple_of(heads) => width / heads,
        None => {
            return Err(
                fields.bad(format!("hidden_size {width} does not divide into {heads} heads, and no head_dim is given"))
            );
        }
    };
    let generation = Fields { map: dir.generation_config(), path: dir.path().join("generation_config.json") };
    let mut eos = fields.ids("eos_token_id")?;
    for id in generation.ids("eos_token_id")? {
        if !eos.contains(&id) {
            eos.push(id);
        }
    }
    let tied = fields.flag("tie_word_embeddings")?.unwrap_or(false);
    let head = Role::Head.hf_name();
    if !tied && dir.tensor(&head).is_none() {
        return Err(fields.bad(format!("tie_word_embeddings is false but tensor {head:?} is missing")));
    }
    let config = ModelConfig {
        arch,
        vocab: fields.needed("vocab_size")?,
        width,
        layers,
        heads,
        kv_heads: fields.count("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        mlp_width: fields.needed("intermediate_size")?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope_theta: fields.rope_theta()? as f32,
        rope_interleaved: false,
        context: fields.needed("max_position_embeddings")?,
        tied,
        qkv_bias: arch == Arch::Qwen2,
        qk_norm: arch == Arch::Qwen3,
        eos,
        bos: fields.ids("bos_token_id")?.first().copied(),
        name: dir.path().file_name().map_or_else(|| arch.name().to_owned(), |n| n.to_string_lossy().into_owned()),
    };
    config.validate(limits, &FIELDS, |detail| fields.bad(detail))?;
    Ok(config)
}

fn arch(fields: &Fields<'_>) -> Result<Arch> {
    let name = match fields.get("architectures") {
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(name)] => name,
            _ => return Err(Arch::unknown(brief(&Value::from(list.clone()).to_string()))),
        },
        Some(other) => {
            return Err(fields.bad(format!("architectures is {}; it must be a list", show(other))));
        }
        None => return Err(fields.bad("architectures is missing".to_owned())),
    };
    match name.as_str() {
        "Qwen2ForCausalLM" => Ok(Arch::Qwen2),
        "Qwen3ForCausalLM" => Ok(Arch::Qwen3),
        "LlamaForCausalLM" => Ok(Arch::Llama),
        other => Err(Arch::unknown(brief(other))),
    }
}

/// Typed access to a JSON object; `null` reads as absent.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: PathBuf,
}

impl Fields<'_> {
    fn bad(&self, detail: String) -> Error {
        Error::Format { path: self.path.clone(), format: "model config", detail }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn typed<T>(&self, key: &str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => {
                read(value).map(Some).ok_or_else(|| self.bad(format!("{key} is {}; it must be {wanted}", show(value))))
            }
        }
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number, not negative", |v| v.as_u64().and_then(|v| usize::try_from(v).ok()))
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| self.bad(format!("{key} is missing")))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// One token id or a list of them.
    fn ids(&self, key: &str) -> Result<Vec<u32>> {
        let one = |v: &Value| v.as_u64().and_then(|v| u32::try_from(v).ok());
        let ids = self.typed(key, "a token id or a list of them", |v| match v {
            Value::Array(list) => list.iter().map(one).collect(),
            other => one(other).map(|id| vec![id]),
        })?;
        Ok(ids.unwrap_or_default())
    }

    /// The two places a rotary setting may stand: older files and newer ones.
    fn rope(&self) -> Result<impl Iterator<Item = (&'static str, &Map<String, Value>)>> {
        let mut found = Vec::new();
        for key in ["rope_scaling", "rope_parameters"] {
            match self.get(key) {
                None => {}
                Some(Value::Object(map)) => found.push((key, map)),
                Some(other) => {
                    return Err(self.bad(format!("{key} is {}; it must be an object", show(other))));
                }
            }
        }
        Ok(found.into_iter())
    }

    fn rope_theta(&self) -> Result<f64> {
        let mut theta = self.number("rope_theta")?;
        for (key, map) in self.rope()? {
            let Some(value) = map.get("rope_theta").filter(|v| !v.is_null()) else {
                continue;
            };
            let Some(value) = value.as_f64() else {
                return Err(self.bad(format!("{key}.rope_theta is {}; it must be a number", show(value))));
            };
            if theta.is_some_and(|theta| (theta - value).abs() > 1e-6 * value.abs()) {
                return Err(self.bad(format!(
                    "{key}.rope_theta is {value} but the file also says {}; the two must agree",
                    theta.unwrap_or_default()
                )));
            }
            theta = Some(value);
        }
        Ok(theta.unwrap_or(10_000.0))
    }

    /// Refuses what the engine would have to ignore.
    fn refuse(&self, arch: Arch, layers: usize) -> Result<()> {
        self.refuse_rope()?;
        self.refuse_windows(arch, layers)?;
        let act = self.typed("hidden_act", "a name", |v| v.as_str().map(str::to_owned))?;
        if let Some(act) = act.filter(|act| act != "silu") {
            return Err(Error::unsupported(
                "the activation",
                format!("hidden_act = {:?}", brief(&act)),
                "use a model with silu",
            ));
        }
        if let Some(part) = self.number("partial_rotary_factor")?.filter(|part| !matches!(part, 1.0)) {
            return Err(Error::unsupported(
                "partial rotary embedding",
                format!("partial_rotary_factor = {part}"),
                "use a model that rotates whole heads",
            ));
        }
        // Each of these changes the numbers wherever it is set; absent, null, false and 0 mean it is not.
        let plain = |key: &str| !(arch == Arch::Qwen2 && key == "attention_bias");
        let switches = [
            ("attention_bias", "bias in the attention projections"),
            ("mlp_bias", "bias in the MLP"),
            ("num_experts", "a mixture of experts"),
            ("num_local_experts", "a mixture of experts"),
            ("attn_logit_softcapping", "logit soft-capping"),
            ("final_logit_softcapping", "logit soft-capping"),
            ("quantization_config", "a quantised safetensors checkpoint"),
            ("use_qk_norm", "query and key norms switched by config"),
            ("embedding_multiplier", "scaled embeddings"),
            ("logits_scaling", "scaled logits"),
            ("residual_multiplier", "scaled residuals"),
            ("attention_multiplier", "scaled attention"),
        ];
        for (key, what) in switches {
            let Some(value) = self.get(key) else { continue };
            let off = *value == Value::Bool(false) || value.as_f64() == Some(0.0);
            if !off && plain(key) {
                return Err(Error::unsupported(
                    what,
                    format!("{key} = {}", show(value)),
                    format!("use a plain {arch} model"),
                ));
            }
        }
        Ok(())
    }

    fn refuse_rope(&self) -> Result<()> {
        let refuse = |value: String| {
            Err(Error::unsupported(
                "RoPE scaling",
                value,
                "use a model without rotary scaling (\"default\"), or its unscaled variant",
            ))
        };
        for (key, map) in self.rope()? {
            for kind in ["rope_type", "type"] {
                match map.get(kind) {
                    None | Some(Value::Null) => {}
                    Some(Value::String(s)) if s == "default" => {}
                    Some(other) => return refuse(format!("{key}.{kind} = {}", show(other))),
                }
            }
            for (name, value) in map {
                match name.as_str() {
                    "rope_theta" | "rope_type" | "type" | "original_max_position_embeddings" => {}
                    "factor" | "attention_factor" | "partial_rotary_factor" if matches!(value.as_f64(), Some(1.0)) => {}
                    _ if value.is_null() => {}
                    _ => return refuse(format!("{key}.{} = {}", brief(name), show(value))),
                }
            }
        }
        Ok(())
    }

    fn refuse_windows(&self, arch: Arch, layers: usize) -> Result<()> {
        let refuse = |value: String| {
            Err(Error::unsupported("sliding-window attention", value, "use a model with full attention in every layer"))
        };
        let listed = match self.get("layer_types") {
            None => false,
            Some(Value::Array(types)) => {
                if types.len() != layers {
                    return Err(self.bad(format!("layer_types lists {} layers of {layers}", types.len())));
                }
                if let Some(other) = types.iter().find(|t| t.as_str() != Some("full_attention")) {
                    return refuse(format!("layer_types holds {}", show(other)));
                }
                true
            }
            Some(other) => {
                return Err(self.bad(format!("layer_types is {}; it must be a list", show(other))));
            }
        };
        let window = self.count("sliding_window")?;
        let on = self.flag("use_sliding_window")?.unwrap_or(arch == Arch::Llama);
        let first = self.count("max_window_layers")?.unwrap_or(MAX_WINDOW_LAYERS);
        // Qwen windows start at max_window_layers. A list of full layers that says otherwise contradicts them, and readers
        // of this format differ in which of the two they believe.
        let windowed = if arch == Arch::Llama { !listed } else { first < layers };
        match window {
            Some(window) if on && windowed => refuse(format!("sliding_window = {window} from layer {first}")),
            _ => Ok(()),
        }
    }
}

/// A JSON value in words, cut for messages.
fn show(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("an object of {} fields", map.len()),
        Value::Array(list) if list.len() > 8 => format!("a list of {} elements", list.len()),
        other => brief(&other.to_string()).to_owned(),
    }
}
