//! Where a model's files keep its tokenizer and chat templates.

use super::templates::{DEFAULT, Sources, Templates};
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::model::ModelConfig;
use crate::weights::{GgufFile, Weights, regular};
use serde_json::Value;
use std::path::Path;

/// Templates of one model; the most known has three.
const TEMPLATES: usize = 32;

/// The tokenizer that came with the weights.
pub fn tokenizer(weights: &Weights, limits: &Limits) -> Result<Tokenizer> {
    match weights {
        Weights::Gguf(file) => Tokenizer::from_gguf(file, limits),
        Weights::Safetensors(folder) => Tokenizer::from_json(&folder.path().join("tokenizer.json"), limits),
    }
}

/// The chat templates that came with the weights.
pub fn chat_templates(weights: &Weights, tokenizer: &Tokenizer, limits: &Limits) -> Result<Templates> {
    let sources = match weights {
        Weights::Gguf(file) => of_gguf(file, tokenizer)?,
        Weights::Safetensors(folder) => of_folder(folder.path(), limits)?,
    };
    if sources.named.len() > TEMPLATES {
        return Err(too_many(sources.named.len()));
    }
    Templates::new(sources, limits)
}

fn too_many(count: usize) -> Error {
    Error::Limit {
        what: "the number of chat templates".into(),
        value: count as u64,
        cap: TEMPLATES as u64,
        remedy: "remove those that are not needed from the model's files".into(),
    }
}

/// `tokenizer.chat_template` is the default; `tokenizer.chat_templates` names those beside it.
fn of_gguf(file: &GgufFile, tokenizer: &Tokenizer) -> Result<Sources> {
    let word = |key: &str| -> Result<Option<String>> {
        let id = file.meta_u64(key)?.and_then(|id| u32::try_from(id).ok());
        Ok(id.and_then(|id| tokenizer.special_tokens().find(|t| t.0 == id)).map(|t| t.1.to_owned()))
    };
    let (key, list) = ("tokenizer.chat_template", "tokenizer.chat_templates");
    let mut named = Vec::new();
    if let Some(source) = file.meta_str(key)? {
        named.push((DEFAULT.to_owned(), source.to_owned()));
    }
    let names: Vec<&str> =
        if file.meta_has(list) { file.meta_str_array(list)?.take(TEMPLATES + 1).collect() } else { Vec::new() };
    for name in names {
        if let Some(source) = file.meta_str(&format!("{key}.{name}"))? {
            named.push((name.to_owned(), source.to_owned()));
        }
    }
    Ok(Sources { named, bos: word("tokenizer.ggml.bos_token_id")?, eos: word("tokenizer.ggml.eos_token_id")? })
}

/// Files of templates take the place of those in `tokenizer_config.json`.
fn of_folder(folder: &Path, limits: &Limits) -> Result<Sources> {
    let config = json(&folder.join("tokenizer_config.json"), limits)?.unwrap_or_default();
    let token = |name: &str| {
        let value = &config[name];
        value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
    };
    let mut named = additional(&folder.join("additional_chat_templates"), limits)?;
    let default = read(&folder.join("chat_template.jinja"), limits.template_source as u64)?;
    // Of two defaults that among the named ones counts, as in transformers.
    if let Some(source) = default.filter(|_| named.iter().all(|(name, _)| name != DEFAULT)) {
        named.insert(0, (DEFAULT.to_owned(), source));
    }
    if named.is_empty() {
        named = in_config(&config["chat_template"]);
    }
    Ok(Sources { named, bos: token("bos_token"), eos: token("eos_token") })
}

/// One template, or a list of `{name, template}`.
fn in_config(value: &Value) -> Vec<(String, String)> {
    let one = |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()));
    match value {
        Value::String(source) => vec![(DEFAULT.to_owned(), source.clone())],
        Value::Array(list) => list.iter().filter_map(one).collect(),
        _ => Vec::new(),
    }
}

/// The files `NAME.jinja` of a folder, by name.
fn additional(folder: &Path, limits: &Limits) -> Result<Vec<(String, String)>> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("reading", folder, e)),
    };
    let mut named = Vec::new();
    for entry in listed {
        let path = entry.map_err(|e| Error::io("reading", folder, e))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jinja"))
        else {
            continue;
        };
        if named.len() == TEMPLATES {
            return Err(too_many(TEMPLATES + 1));
        }
        if let Some(source) = read(&path, limits.template_source as u64)? {
            named.push((name.to_owned(), source));
        }
    }
    named.sort();
    Ok(named)
}

/// The tokens that end an answer, all within the model's vocabulary. An end token that only the tokenizer has cannot be
/// written, and is left out; one with which the files begin or end every text is a contradiction.
pub fn ends(weights: &Weights, tokenizer: &Tokenizer, config: &ModelConfig) -> Result<Vec<u32>> {
    let known = |id: &&u32| (**id as usize) < config.vocab;
    let path = match weights {
        Weights::Gguf(file) => file.path().to_owned(),
        Weights::Safetensors(folder) => folder.path().join("tokenizer_config.json"),
    };
    let refused = |what: &str, id: u32| Error::Format {
        path: path.clone(),
        format: "tokenizer",
        detail: format!("the {what} token has id {id} but the model's vocabulary holds {} tokens", config.vocab),
    };
    if let Some(id) = tokenizer.begin().iter().find(|id| !known(id)) {
        return Err(refused("begin", *id));
    }
    if let Some(id) = tokenizer.named_eos().iter().find(|id| !known(id)) {
        return Err(refused("end", *id));
    }
    let mut ends: Vec<u32> = config.eos.iter().chain(tokenizer.eos().iter().filter(known)).copied().collect();
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}

/// A bounded text file; `None` if there is none.
fn read(path: &Path, cap: u64) -> Result<Option<String>> {
    let Some(bytes) = regular::read_if_there(path, cap)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|e| Error::Format {
        path: path.into(),
        format: "text",
        detail: format!("it is no UTF-8: {e}"),
    })
}

fn json(path: &Path, limits: &Limits) -> Result<Option<Value>> {
    let Some(text) = read(path, limits.json_file)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::Format {
        path: path.into(),
        format: "JSON",
        detail: e.to_string(),
    })
}
