//! Where a model's files keep its tokenizer and chat template.

use super::template::ChatTemplate;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::weights::Weights;
use serde_json::Value;
use std::path::Path;

/// The tokenizer that came with the weights.
pub fn tokenizer(weights: &Weights, limits: &Limits) -> Result<Tokenizer> {
    match weights {
        Weights::Gguf(file) => Tokenizer::from_gguf(file, limits),
        Weights::Safetensors(folder) => Tokenizer::from_json(&folder.path().join("tokenizer.json"), limits),
    }
}

/// The chat template that came with the weights, if any.
pub fn chat_template(weights: &Weights, tokenizer: &Tokenizer, limits: &Limits) -> Result<Option<ChatTemplate>> {
    let word =
        |id: Option<u32>| id.and_then(|id| tokenizer.special_tokens().find(|t| t.0 == id)).map(|t| t.1.to_owned());
    let (source, bos, eos) = match weights {
        Weights::Gguf(file) => {
            let id =
                |key: &str| -> Result<Option<u32>> { Ok(file.meta_u64(key)?.and_then(|id| u32::try_from(id).ok())) };
            let source = file.meta_str("tokenizer.chat_template")?.map(str::to_owned);
            (source, word(id("tokenizer.ggml.bos_token_id")?), word(id("tokenizer.ggml.eos_token_id")?))
        }
        Weights::Safetensors(folder) => {
            let config = json(&folder.path().join("tokenizer_config.json"), limits)?.unwrap_or_default();
            let token = |name: &str| {
                let value = &config[name];
                value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
            };
            let own = folder.path().join("chat_template.jinja");
            let source = match read(&own, limits.template_source as u64)? {
                Some(source) => Some(source),
                None => config["chat_template"].as_str().map(str::to_owned),
            };
            (source, token("bos_token"), token("eos_token"))
        }
    };
    source.map(|source| ChatTemplate::from_source(&source, bos, eos, limits)).transpose()
}

/// A bounded text file; `None` if there is none.
fn read(path: &Path, cap: u64) -> Result<Option<String>> {
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("reading", path, e)),
    };
    if size > cap {
        return Err(Error::Limit {
            what: format!("{}", path.display()),
            value: size,
            cap,
            remedy: "no genuine file comes near it: download it again from its publisher".into(),
        });
    }
    std::fs::read_to_string(path).map(Some).map_err(|e| Error::io("reading", path, e))
}

fn json(path: &Path, limits: &Limits) -> Result<Option<Value>> {
    let Some(text) = read(path, limits.json_file)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::Format {
        path: path.into(),
        format: "JSON",
        detail: e.to_string(),
    })
}
