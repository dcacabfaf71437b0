//! `tokenizer.json` of a Hugging Face folder.
//!
//! The `tokenizers` crate encodes, so that normalizers and cuts are those the file describes. Decoding is ours: with a
//! byte-level decoder, or one of spaces and single bytes, a token stands for fixed bytes, and only such files are taken.

use std::path::Path;

use serde_json::Value;
use tokenizers::ModelWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

use super::table::{Kind, SPACE, Spelling, Table, byte_of_spelling};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::weights::regular;

/// Encodes text that holds no special tokens.
#[derive(Debug)]
pub struct JsonEncoder {
    /// For the beginning of a text.
    first: tokenizers::Tokenizer,
    /// For what stands behind a special token, where that begins otherwise.
    rest: Option<Box<tokenizers::Tokenizer>>,
    /// Whether a decoded text loses the space it begins with.
    strips: bool,
}

/// Ways of cutting text that leave every byte in place.
const CUTS: [&str; 4] = ["ByteLevel", "Split", "Digits", "Punctuation"];
/// Normalizers that change how a text is written and not what it says.
const NORMALIZERS: [&str; 4] = ["NFC", "NFD", "NFKC", "NFKD"];
/// What files that spell spaces as text may have besides.
const SPACED_CUTS: [&str; 2] = ["Split", "Metaspace"];
const SPACED_NORMALIZERS: [&str; 2] = ["Replace", "Prepend"];
const SPACED_DECODERS: [&str; 5] = ["Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"];

/// Encoder, vocabulary, what a text begins with, end ids.
type Loaded = (JsonEncoder, Table, Vec<u32>, Vec<u32>);

/// Reads the file and the `tokenizer_config.json` beside it.
pub fn load(path: &Path, limits: &Limits) -> Result<Loaded> {
    let bytes = regular::read(path, limits.tokenizer_file)?;
    let bad = |detail: String| Error::Format { path: path.into(), format: "tokenizer.json", detail };
    let description: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    let spelling = check(&description)?;
    let strips = spelling == Spelling::Spaces && strips(&description["decoder"]);
    let prepends_first = description["pre_tokenizer"]["prepend_scheme"] == "first";
    drop(description);
    let mut encoder = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| bad(e.to_string()))?;
    drop(bytes);
    encoder.with_padding(None);
    encoder.with_truncation(None).map_err(|e| bad(e.to_string()))?;
    encoder.set_encode_special_tokens(true);
    let table = table(&encoder, spelling, limits)?;
    let rest = if prepends_first { Some(Box::new(never_prepending(&encoder))) } else { None };
    let begin = begin(&encoder).map_err(|e| bad(e.to_string()))?;
    let eos = ends(&path.with_file_name("tokenizer_config.json"), &table, limits)?;
    Ok((JsonEncoder { first: encoder, rest, strips }, table, begin, eos))
}

/// Refuses what would be encoded or decoded otherwise than promised.
fn check(description: &Value) -> Result<Spelling> {
    let refuse = |what: &str, value: &Value| {
        Err(Error::unsupported(
            format!("{what} of tokenizer.json"),
            value.to_string().chars().take(80).collect::<String>(),
            "BPE tokenizers of bytes (Qwen, Llama 3, Phi-2) or with spaces and single bytes as tokens (Mistral, Gemma) are read; use such a model",
        ))
    };
    let kind = &description["model"]["type"];
    // Old files leave the type out; merges tell.
    if kind != "BPE" && !(kind.is_null() && description["model"]["merges"].is_array()) {
        return refuse("the model type", kind);
    }
    let decoder = &description["decoder"];
    let decoders = steps(decoder, "decoders");
    let cuts = steps(&description["pre_tokenizer"], "pretokenizers");
    let normalizers = steps(&description["normalizer"], "normalizers");
    let byte_level = !decoders.is_empty() && decoders.iter().all(|step| *step == "ByteLevel");
    let spaced = !byte_level && description["model"]["byte_fallback"] == true;
    let known = |step: &Value, lists: &[&[&str]]| lists.iter().any(|list| list.iter().any(|name| *step == *name));
    let decodes = byte_level || (spaced && decoders.iter().all(|step| known(step, &[&SPACED_DECODERS])));
    if !decodes {
        return refuse("the decoder", &decoder["type"]);
    }
    let (more_cuts, more_normalizers): (&[&str], &[&str]) =
        if spaced { (&SPACED_CUTS, &SPACED_NORMALIZERS) } else { (&CUTS, &[]) };
    if let Some(other) = cuts.iter().find(|cut| !known(cut, &[more_cuts])) {
        return refuse("the pre-tokenizer", other);
    }
    if byte_level && !cuts.iter().any(|cut| *cut == "ByteLevel") {
        return refuse("the lack of a byte-level pre-tokenizer", &description["pre_tokenizer"]);
    }
    if let Some(other) = normalizers.iter().find(|step| !known(step, &[&NORMALIZERS, more_normalizers])) {
        return refuse("the normalizer", other);
    }
    if spaced && let Some(other) = other_than_spaces(description) {
        return refuse("a replacement", other);
    }
    let dropout = &description["model"]["dropout"];
    if dropout.as_f64().is_some_and(|rate| rate > 0.0) {
        return refuse("random dropout", dropout);
    }
    for token in description["added_tokens"].as_array().into_iter().flatten() {
        let flag = |name: &str| token[name].as_bool().unwrap_or(false);
        if flag("special") && (flag("lstrip") || flag("rstrip") || flag("single_word")) {
            return refuse("a special token that takes white space or word ends along", &token["content"]);
        }
    }
    Ok(if spaced { Spelling::Spaces } else { Spelling::Bytes })
}

/// A step of a file that spells spaces as text which replaces, prepends or strips anything but a space.
fn other_than_spaces(description: &Value) -> Option<&Value> {
    let space = SPACE.to_string();
    let sound = |step: &Value, decodes: bool| match step["type"].as_str() {
        Some("Replace") => {
            let (from, to) = if decodes { (space.as_str(), " ") } else { (" ", space.as_str()) };
            step["pattern"]["String"] == from && step["content"] == to
        }
        Some("Prepend") => step["prepend"] == space.as_str(),
        Some("Strip") => step["content"] == " " && step["start"] == 1 && step["stop"] == 0,
        Some("Metaspace") => step["replacement"] == space.as_str() && step["split"] != true,
        _ => true,
    };
    let places = [
        ("normalizer", "normalizers", false),
        ("pre_tokenizer", "pretokenizers", false),
        ("decoder", "decoders", true),
    ];
    places.into_iter().find_map(|(key, list, decodes)| {
        let step = &description[key];
        let each = step[list].as_array().map_or(std::slice::from_ref(step), Vec::as_slice);
        each.iter().find(|step| !sound(step, decodes))
    })
}

/// Whether a decoder takes the first space of a text away.
fn strips(decoder: &Value) -> bool {
    let each = decoder["decoders"].as_array().map_or(std::slice::from_ref(decoder), Vec::as_slice);
    each.iter()
        .any(|step| step["type"] == "Strip" || (step["type"] == "Metaspace" && step["prepend_scheme"] != "never"))
}

/// The same encoder for text that is not the first of its prompt.
fn never_prepending(encoder: &tokenizers::Tokenizer) -> tokenizers::Tokenizer {
    let mut rest = encoder.clone();
    rest.with_pre_tokenizer(Some(Metaspace::new(SPACE, PrependScheme::Never, false)));
    rest
}

/// The types of a step and, for a sequence of steps, of those in it.
fn steps<'a>(step: &'a Value, list: &str) -> Vec<&'a Value> {
    match (&step["type"], &step[list]) {
        (Value::Null, _) if step.is_null() => Vec::new(),
        (kind, Value::Array(parts)) if kind == "Sequence" => parts.iter().flat_map(|part| steps(part, list)).collect(),
        (kind, _) => vec![kind],
    }
}

fn table(encoder: &tokenizers::Tokenizer, spelling: Spelling, limits: &Limits) -> Result<Table> {
    let vocabulary = encoder.get_vocab(true);
    let added = encoder.get_added_tokens_decoder();
    let count = vocabulary.values().copied().max().map_or(0, |id| id as usize + 1);
    if count > limits.vocab {
        return Err(Error::Limit {
            what: "the largest token id".into(),
            value: count as u64 - 1,
            cap: limits.vocab as u64,
            remedy: "no vocabulary that this engine runs comes near it: download the model again, or load another"
                .into(),
        });
    }
    let mut tokens = vec![("", Kind::Unused); count];
    for (spelled, id) in &vocabulary {
        let kind = match added.get(id) {
            Some(token) if token.special => Kind::Control,
            Some(_) => Kind::UserDefined,
            None if spelling == Spelling::Spaces && byte_of_spelling(spelled).is_some() => Kind::Byte,
            None => Kind::Normal,
        };
        let slot = &mut tokens[*id as usize];
        if !slot.0.is_empty() {
            let mut both = [slot.0, spelled.as_str()];
            both.sort_unstable();
            return Err(Error::Tokenizer(format!(
                "id {id} is given to both {:?} and {:?} in tokenizer.json; the file is damaged, fetch the model again",
                both[0], both[1]
            )));
        }
        *slot = (spelled.as_str(), kind);
    }
    if let ModelWrapper::BPE(model) = encoder.get_model()
        && let Some(id) = model.unk_token.as_ref().and_then(|name| vocabulary.get(name))
        && tokens[*id as usize].1 == Kind::Normal
    {
        tokens[*id as usize].1 = Kind::Unknown;
    }
    Table::new(tokens.into_iter(), spelling)
}

/// What the post-processor puts before a text. What it puts behind one is left out: a prompt is to be gone on with.
/// `add_bos_token` of `tokenizer_config.json` says nothing beside it, for transformers either.
fn begin(encoder: &tokenizers::Tokenizer) -> tokenizers::Result<Vec<u32>> {
    let encoding = encoder.encode_fast("a", true)?;
    let special = encoding.get_special_tokens_mask().iter().take_while(|is_special| **is_special == 1).count();
    Ok(encoding.get_ids()[..special].to_vec())
}

/// The end token of a `tokenizer_config.json`: a name or an object with a `content`.
fn ends(path: &Path, table: &Table, limits: &Limits) -> Result<Vec<u32>> {
    let Some(bytes) = regular::read_if_there(path, limits.json_file)? else { return Ok(Vec::new()) };
    let config: Value = serde_json::from_slice(&bytes).map_err(|e| Error::Format {
        path: path.into(),
        format: "tokenizer_config.json",
        detail: e.to_string(),
    })?;
    let name = config["eos_token"].as_str().or_else(|| config["eos_token"]["content"].as_str());
    Ok(name.and_then(|name| table.find(name.as_bytes())).into_iter().collect())
}

impl JsonEncoder {
    /// Appends the ids of a text without special tokens, which is the first of its prompt or stands behind others.
    pub fn encode(&self, text: &str, is_first: bool, ids: &mut Vec<u32>) -> Result<()> {
        let encoder = match &self.rest {
            Some(rest) if !is_first => rest,
            _ => &self.first,
        };
        let encoding = encoder.encode_fast(text, false).map_err(|e| Error::Tokenizer(e.to_string()))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// Whether a decoded text loses the space it begins with.
    pub fn strips(&self) -> bool {
        self.strips
    }
}
