//! Text to ids and ids to text.

use std::path::Path;
use std::sync::Arc;

use super::bpe::{Merges, Scratch};
use super::json::JsonEncoder;
use super::pretokenizer::PreTokenizer;
use super::special::{Part, Specials};
use super::stream::TokenStream;
use super::table::{Kind, Spelling, Table};
use super::vocabulary::{ENDS, MARKERS, Vocabulary};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// What becomes of control tokens written in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// They are text like any other: right for whatever a user wrote.
    AsText,
    /// They are recognised: right for a rendered chat template.
    Parse,
}

/// Turns text into ids and back. Cheap to clone; clones share the vocabulary, and threads may share one.
#[derive(Debug, Clone)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    table: Table,
    encoder: Encoder,
    /// Found in every text: user-defined tokens.
    always: Specials,
    /// Found where special tokens are parsed: control, unknown and user-defined tokens.
    parsed: Specials,
    listed: Vec<u32>,
    /// Those the files name, then those known by their names.
    eos: Vec<u32>,
    named_eos: usize,
    /// What a text begins with: the begin token, where the model's files say so.
    begin: Vec<u32>,
    /// Longest text of one call, in bytes.
    longest: usize,
}

#[derive(Debug)]
enum Encoder {
    Merges { merges: Box<Merges>, pre: PreTokenizer },
    Json(Box<JsonEncoder>),
}

impl Tokenizer {
    /// Builds the tokenizer of a byte-level vocabulary.
    pub fn from_vocabulary(vocabulary: &Vocabulary<'_>, limits: &Limits) -> Result<Self> {
        let pre = PreTokenizer::named(vocabulary.pre)?;
        let count = vocabulary.tokens.len();
        check_count(count, limits)?;
        if !vocabulary.kinds.is_empty() && vocabulary.kinds.len() != count {
            return Err(Error::Tokenizer(format!(
                "{count} tokens but {} token types; the file is damaged, fetch it again",
                vocabulary.kinds.len()
            )));
        }
        let kind = |id: usize| vocabulary.kinds.get(id).map_or(Kind::Normal, |number| Kind::from_gguf(*number));
        let tokens = vocabulary.tokens.iter().enumerate().map(|(id, spelled)| (*spelled, kind(id)));
        let mut table = Table::new(tokens, Spelling::Bytes)?;
        let merges = Box::new(Merges::new(&table, vocabulary.merges.iter().copied())?);
        for name in ENDS.iter().chain(MARKERS) {
            // Only added tokens: `</s>` is HTML, and plain text, to some vocabularies.
            if let Some(id) = table.find(name.as_bytes())
                && table.kind(id) == Some(Kind::UserDefined)
            {
                table.set_control(id);
            }
        }
        // Families whose whole words win over merges begin every text with that token unless the file says otherwise.
        let adds = vocabulary.add_bos.unwrap_or(pre.whole_words);
        let begin = vocabulary.bos.filter(|_| adds).into_iter().collect();
        let encoder = Encoder::Merges { merges, pre };
        Self::assemble(table, encoder, begin, &vocabulary.eos, limits)
    }

    /// Reads a `tokenizer.json`, whose post-processor says what texts begin with; a `tokenizer_config.json` beside it names
    /// the end token.
    pub fn from_json(path: &Path, limits: &Limits) -> Result<Self> {
        let (encoder, table, begin, eos) = super::json::load(path, limits)?;
        Self::assemble(table, Encoder::Json(Box::new(encoder)), begin, &eos, limits)
    }

    fn assemble(table: Table, encoder: Encoder, begin: Vec<u32>, eos: &[u32], limits: &Limits) -> Result<Self> {
        check_count(table.len(), limits)?;
        let count = table.len() as u32;
        for id in begin.iter().chain(eos) {
            if *id >= count {
                return Err(Error::Tokenizer(format!(
                    "the file names special token {id} but holds {count} tokens; fetch it again"
                )));
            }
        }
        let of_kind = |kinds: &'static [Kind]| {
            let table = &table;
            (0..count).filter(move |id| table.kind(*id).is_some_and(|kind| kinds.contains(&kind)))
        };
        let mut ends = Vec::new();
        let named = ENDS.iter().filter_map(|name| table.find(name.as_bytes()));
        let named = named.filter(|id| table.kind(*id) == Some(Kind::Control));
        let mut named_eos = 0;
        for (place, id) in eos.iter().copied().chain(named).enumerate() {
            if !ends.contains(&id) {
                ends.push(id);
                named_eos += usize::from(place < eos.len());
            }
        }
        let listed: Vec<u32> = of_kind(&[Kind::Control, Kind::Unknown, Kind::UserDefined]).collect();
        let always = match encoder {
            Encoder::Merges { .. } => Specials::new(&table, of_kind(&[Kind::UserDefined]), limits.special_names)?,
            // The encoder finds the added tokens that are not special by itself.
            Encoder::Json(_) => Specials::default(),
        };
        let parsed = match encoder {
            Encoder::Merges { .. } => Specials::new(&table, listed.iter().copied(), limits.special_names)?,
            Encoder::Json(_) => Specials::new(&table, of_kind(&[Kind::Control, Kind::Unknown]), limits.special_names)?,
        };
        Ok(Self(Arc::new(Inner {
            always,
            parsed,
            listed,
            eos: ends,
            named_eos,
            begin,
            longest: limits.text,
            table,
            encoder,
        })))
    }

    /// The ids of a text, without a begin token.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        self.encode_part(text, special, true)
    }

    /// The same for a text that may stand behind others of its prompt: some vocabularies mark the first one.
    pub(super) fn encode_part(&self, text: &str, special: Special, is_first: bool) -> Result<Vec<u32>> {
        let inner = &*self.0;
        if text.len() > inner.longest {
            return Err(Error::Limit {
                what: "the text in bytes".into(),
                value: text.len() as u64,
                cap: inner.longest as u64,
                remedy: "encode it in parts".into(),
            });
        }
        let specials = match special {
            Special::AsText => &inner.always,
            Special::Parse => &inner.parsed,
        };
        // English takes 4 to 5 bytes a token.
        let mut ids = Vec::with_capacity(text.len() / 4 + 4);
        let mut scratch = Scratch::default();
        let (mut failed, mut is_first) = (None, is_first);
        specials.split(text, |part| match (part, &inner.encoder) {
            (Part::Token(id), _) => {
                ids.push(id);
                is_first = false;
            }
            (Part::Text(text), Encoder::Merges { merges, pre }) => {
                pre.split(text, |word| {
                    merges.encode(&inner.table, word, pre.whole_words, &mut scratch, &mut ids);
                });
            }
            (Part::Text(text), Encoder::Json(encoder)) => {
                if let Err(error) = encoder.encode(text, is_first, &mut ids) {
                    failed.get_or_insert(error);
                }
            }
        });
        failed.map_or(Ok(ids), Err)
    }

    /// The text of ids. Bytes that form no character become U+FFFD. Without `keep_special` control tokens are left out.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> Result<String> {
        let mut bytes = Vec::with_capacity(ids.len() * 5);
        for (position, &id) in ids.iter().enumerate() {
            let Some(token) = self.token_bytes(id) else {
                return Err(Error::Tokenizer(format!(
                    "id {id} at position {position} is outside the vocabulary of {} tokens; use ids of this model",
                    self.vocab_size()
                )));
            };
            if keep_special || !self.is_special(id) {
                bytes.extend_from_slice(token);
            }
        }
        let text = if self.strips() { bytes.strip_prefix(b" ").unwrap_or(&bytes) } else { &bytes };
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Whether a decoded text loses the space it begins with: some vocabularies put one before every text.
    pub(super) fn strips(&self) -> bool {
        matches!(&self.0.encoder, Encoder::Json(encoder) if encoder.strips())
    }

    /// The bytes an id stands for; special tokens stand for their names.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.0.table.bytes(id)
    }

    /// Whether the id is no text: a control, unknown or unused token.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.0.table.kind(id), Some(Kind::Control | Kind::Unknown | Kind::Unused))
    }

    /// The id of a token as its vocabulary spells it, such as `<|im_end|>` or `Ġthe`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.0.table.find(token.as_bytes())
    }

    /// The tokens that [`Special::Parse`] recognises.
    pub fn special_tokens(&self) -> impl Iterator<Item = (u32, &str)> {
        self.0.listed.iter().filter_map(|id| self.0.table.name(*id).map(|name| (*id, name)))
    }

    /// Finds special tokens in a text as [`Special::Parse`] does.
    pub(super) fn split_special<'a>(&self, text: &'a str, part: impl FnMut(Part<'a>)) {
        self.0.parsed.split(text, part);
    }

    /// A token as its vocabulary spells it; empty outside the vocabulary.
    pub(super) fn name(&self, id: u32) -> &str {
        self.0.table.name(id).unwrap_or_default()
    }

    /// Number of ids.
    pub fn vocab_size(&self) -> usize {
        self.0.table.len()
    }

    /// Ids that end an answer: the file's end token first, then end-of-turn tokens it knows by name.
    pub fn eos(&self) -> &[u32] {
        &self.0.eos
    }

    /// Those of them that the model's files name.
    pub(super) fn named_eos(&self) -> &[u32] {
        &self.0.eos[..self.0.named_eos]
    }

    /// What a text of its own begins with: the begin token where the model's files say so, else nothing.
    pub fn begin(&self) -> &[u32] {
        &self.0.begin
    }

    /// Decodes a stream of ids, leaving special tokens out.
    pub fn stream(&self) -> TokenStream {
        TokenStream::new(self.clone(), false)
    }

    /// Decodes a stream of ids, special tokens by their names.
    pub fn stream_with_special(&self) -> TokenStream {
        TokenStream::new(self.clone(), true)
    }
}

fn check_count(count: usize, limits: &Limits) -> Result<()> {
    if count == 0 {
        return Err(Error::Tokenizer("the vocabulary is empty; fetch the model again".into()));
    }
    if count > limits.vocab {
        return Err(Error::Limit {
            what: "the vocabulary in tokens".into(),
            value: count as u64,
            cap: limits.vocab as u64,
            remedy: "no vocabulary that this engine runs comes near it: download the model again, or load another"
                .into(),
        });
    }
    Ok(())
}
