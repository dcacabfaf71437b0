//! A model's numbers from config.json. Settings that would change the result and are not computed are refused.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::hf_rotary;
use super::metadata::brief;
use super::safetensors::SafetensorsDir;
use crate::arch::blueprint::Pairs;
use crate::arch::{Arch, FileKind, Local, ModelConfig, Part, Windows, config};
use crate::error::{Error, Result};
use crate::limits::Limits;

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
    let settings = &arch.family().settings;
    fields.refuse(arch)?;
    let width = fields.needed("hidden_size")?;
    let heads = fields.needed("num_attention_heads")?;
    let head_dim = match fields.count("head_dim")?.or(settings.head_dim) {
        Some(head_dim) => head_dim,
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
    let tied = fields.flag("tie_word_embeddings")?.unwrap_or(settings.tied);
    let head = arch.tensor_name(Part::Head.into(), FileKind::Folder);
    if !tied && dir.tensor(&head).is_none() {
        return Err(fields.bad(format!("tie_word_embeddings is false but tensor {head:?} is missing")));
    }
    let (epsilon, usual) = settings.epsilon;
    let scale = match fields.number("query_pre_attn_scalar")? {
        Some(scalar) if settings.query_scalar => scalar,
        _ => head_dim as f64,
    };
    let local = fields.windows(arch, layers, head_dim)?;
    let config = ModelConfig {
        arch,
        vocab: fields.needed("vocab_size")?,
        width,
        layers,
        heads,
        kv_heads: fields.count("num_key_value_heads")?.unwrap_or(heads),
        head_dim,
        mlp_width: fields.needed("intermediate_size")?,
        norm_eps: fields.number(epsilon)?.unwrap_or(usual) as f32,
        rotary: hf_rotary::read(&fields, settings, head_dim, "full_attention")?,
        pairs: Pairs::Halves,
        attention_scale: 1.0 / (scale as f32).sqrt(),
        local,
        context: fields.needed("max_position_embeddings")?,
        tied,
        eos,
        bos: fields.ids("bos_token_id")?.first().copied(),
        name: dir.path().file_name().map_or_else(|| arch.name().to_owned(), |n| n.to_string_lossy().into_owned()),
    };
    config.validate(limits, &config::Fields { norm_eps: epsilon, ..FIELDS }, |detail| fields.bad(detail))?;
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
    Arch::from_class(name).ok_or_else(|| Arch::unknown(brief(name)))
}

/// Typed access to a JSON object; `null` reads as absent.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: PathBuf,
}

impl Fields<'_> {
    pub(super) fn bad(&self, detail: String) -> Error {
        Error::Format { path: self.path.clone(), format: "model config", detail }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
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

    pub(super) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number, not negative", |v| v.as_u64().and_then(|v| usize::try_from(v).ok()))
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| self.bad(format!("{key} is missing")))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
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

    /// Refuses what the engine would have to ignore.
    fn refuse(&self, arch: Arch) -> Result<()> {
        let settings = &arch.family().settings;
        let own = arch.family().blueprint.mlp.activation().names();
        let act = self.typed(settings.activation, "a name", |v| v.as_str().map(str::to_owned))?;
        if let Some(act) = act.filter(|act| !own.contains(&act.as_str())) {
            return Err(Error::unsupported(
                "the activation",
                format!("{} = {:?}", settings.activation, brief(&act)),
                format!("use a model with {}", own[0]),
            ));
        }
        // Each of these changes the numbers wherever it is set; absent, null, false and 0 mean it is not.
        let switches = [
            ("attention_bias", "bias in the attention projections"),
            ("mlp_bias", "bias in the MLP"),
            ("num_experts", "a mixture of experts"),
            ("num_local_experts", "a mixture of experts"),
            ("attn_logit_softcapping", "logit soft-capping"),
            ("final_logit_softcapping", "logit soft-capping"),
            ("quantization_config", "a quantised safetensors checkpoint"),
            ("use_qk_norm", "query and key norms switched by config"),
            ("qk_layernorm", "query and key norms switched by config"),
            ("use_bidirectional_attention", "attention that is not causal"),
            ("embedding_multiplier", "scaled embeddings"),
            ("logits_scaling", "scaled logits"),
            ("residual_multiplier", "scaled residuals"),
            ("attention_multiplier", "scaled attention"),
        ];
        for (key, what) in switches {
            let Some(value) = self.get(key) else { continue };
            let off = *value == Value::Bool(false) || value.as_f64() == Some(0.0);
            if !off && !settings.expected.contains(&key) {
                return Err(Error::unsupported(
                    what,
                    format!("{key} = {}", show(value)),
                    format!("use a plain {arch} model"),
                ));
            }
        }
        Ok(())
    }

    /// Which layers have a window.
    fn windows(&self, arch: Arch, layers: usize, head_dim: usize) -> Result<Option<Local>> {
        let refuse = |value: String| {
            Err(Error::unsupported("sliding-window attention", value, "use a model with full attention in every layer"))
        };
        let settings = &arch.family().settings;
        let listed = self.layer_types(layers)?;
        let window = self.count("sliding_window")?;
        let first = self.count("max_window_layers")?.unwrap_or(MAX_WINDOW_LAYERS);
        let windowed = match settings.windows {
            Windows::All => vec![true; layers],
            Windows::Listed { every, .. } => {
                let every = self.count("sliding_window_pattern")?.unwrap_or(every).max(1);
                listed.unwrap_or_else(|| (1..=layers).map(|l| !l.is_multiple_of(every)).collect())
            }
            Windows::Refused | Windows::Switched => {
                if listed.as_ref().is_some_and(|listed| listed.contains(&true)) {
                    return refuse("layer_types holds \"sliding_attention\"".into());
                }
                let switched = settings.windows == Windows::Switched;
                let on = self.flag("use_sliding_window")?.unwrap_or(!switched);
                // Qwen windows start at max_window_layers. A list of full layers that says otherwise contradicts them, and
                // readers of this format differ in which of the two they believe.
                let windowed = if switched { first < layers } else { listed.is_none() };
                return match window {
                    Some(window) if on && windowed => refuse(format!("sliding_window = {window} from layer {first}")),
                    _ => Ok(None),
                };
            }
        };
        let Some(window) = window.filter(|_| windowed.contains(&true)) else { return Ok(None) };
        let rotary = hf_rotary::read(self, settings, head_dim, "sliding_attention")?;
        Ok(Some(Local { window, layers: windowed, rotary }))
    }

    /// By layer, whether it is listed as one with a window.
    fn layer_types(&self, layers: usize) -> Result<Option<Vec<bool>>> {
        let types = match self.get("layer_types") {
            None => return Ok(None),
            Some(Value::Array(types)) => types,
            Some(other) => return Err(self.bad(format!("layer_types is {}; it must be a list", show(other)))),
        };
        if types.len() != layers {
            return Err(self.bad(format!("layer_types lists {} layers of {layers}", types.len())));
        }
        let kind = |value: &Value| match value.as_str() {
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            _ => Err(Error::unsupported(
                "a kind of layer",
                format!("layer_types holds {}", show(value)),
                "use a model of full and sliding attention",
            )),
        };
        types.iter().map(kind).collect::<Result<_>>().map(Some)
    }
}

/// A JSON value in words, cut for messages.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("an object of {} fields", map.len()),
        Value::Array(list) if list.len() > 8 => format!("a list of {} elements", list.len()),
        other => brief(&other.to_string()).to_owned(),
    }
}
