//! What answers may have to look like, and the compiler of such forms.
//!
//! The rules are llguidance's: JSON schemas, regular expressions and its dialect of Lark, compiled against the model's
//! own vocabulary.

use super::ending::{CLOSERS, FILLERS, LONGEST_ENDING};
use super::form::{Form, WATCH};
use super::quotes::Quotes;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::text::{Special, Tokenizer};
use llguidance::Matcher;
use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie};
use serde::Deserialize;
use std::sync::Arc;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grammar {
    /// A JSON text of this schema.
    Json(String),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of a Lark grammar.
    Lark {
        /// The rules.
        text: String,
        /// Texts that lead to its end, tried in order where the tokens run short.
        closers: Vec<String>,
        /// Texts that lead on where the model would end its answer and may not yet, tried in order.
        exits: Vec<String>,
        /// Tokens of the model that should stand before an exit at most: towards them its end becomes likelier.
        stretch: Option<usize>,
        /// JSON strings that it may hold: each may have its share of the tokens left, towards which its end becomes likelier.
        #[serde(default)]
        strings: usize,
    },
}

/// A grammar's source at most (bytes); real schemas have a few thousand.
const LONGEST: usize = 1 << 20;

/// Compiles forms for one model.
pub(crate) struct Grammars {
    factory: ParserFactory,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
    quotes: Arc<Option<Quotes>>,
}

pub(super) fn refused(detail: impl std::fmt::Display) -> Error {
    // Its messages may quote the whole grammar.
    let detail: String = detail.to_string().chars().take(600).collect();
    Error::argument("form", "a grammar", format!("it must compile: {detail}"))
}

impl Grammars {
    /// For a vocabulary of `vocab` rows; `ends` are the tokens that end an answer, the first of them the usual one.
    pub fn new(tokenizer: &Tokenizer, vocab: usize, ends: &[u32]) -> Result<Self> {
        let usual = tokenizer.eos().iter().find(|id| ends.contains(id)).or(ends.first()).copied();
        let Some(end) = usual else { return Err(Error::State("a form needs a model with an end token".into())) };
        let words: Vec<Vec<u8>> = (0..vocab as u32)
            .map(|id| {
                let bytes = tokenizer.token_bytes(id).unwrap_or_default();
                let mark: &[u8] = if tokenizer.is_special(id) { &[TokTrie::SPECIAL_TOKEN_MARKER] } else { &[] };
                [mark, bytes].concat()
            })
            .collect();
        let quotes = Arc::new(Quotes::new(&words));
        let trie = TokTrie::from(&TokRxInfo::new(vocab as u32, end), &words);
        let environment: TokEnv = Arc::new(Vocabulary { trie, tokenizer: tokenizer.clone() });
        let mut factory = ParserFactory::new_simple(&environment).map_err(refused)?;
        factory.quiet();
        let mut ends = ends.to_vec();
        ends.retain(|&id| id != end);
        ends.insert(0, end);
        Ok(Self { factory, tokenizer: tokenizer.clone(), ends, quotes })
    }

    /// A form ready to begin.
    pub fn compile(&self, grammar: &Grammar) -> Result<Compiled> {
        let none: &[String] = &[];
        let (top, closers, exits, stretch, strings) = match grammar {
            Grammar::Json(schema) => {
                limit(schema)?;
                let mut schema: serde_json::Value =
                    serde_json::from_str(schema).map_err(|e| refused(format!("not JSON: {e}")))?;
                if let Some(object) = schema.as_object_mut() {
                    // One way to space it: white space without end would not be an answer.
                    let spaces = serde_json::json!({
                        "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
                    });
                    object.entry("x-guidance").or_insert(spaces);
                }
                (TopLevelGrammar::from_json_schema(schema), none, none, None, 0)
            }
            Grammar::Regex(pattern) => {
                limit(pattern)?;
                (TopLevelGrammar::from_regex(pattern), none, none, None, 0)
            }
            Grammar::Choice(texts) => {
                if texts.is_empty() || texts.iter().any(String::is_empty) {
                    return Err(Error::argument("form", "a choice", "give at least one text, none of them empty"));
                }
                texts.iter().try_for_each(|text| limit(text))?;
                let quoted: Vec<String> =
                    texts.iter().map(|t| serde_json::Value::from(t.as_str()).to_string()).collect();
                (TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | "))), none, none, None, 0)
            }
            Grammar::Lark { text, closers, exits, stretch, strings } => {
                limit(text)?;
                (TopLevelGrammar::from_lark(text.clone()), &**closers, &**exits, *stretch, *strings)
            }
        };
        let matcher = Matcher::new(self.factory.create_parser(top));
        if let Some(why) = matcher.get_error() {
            return Err(refused(why));
        }
        let spell = |texts: &[&str]| -> Result<Arc<[Vec<u32>]>> {
            texts.iter().map(|text| self.tokenizer.encode(text, Special::AsText)).collect()
        };
        let closing: Vec<&str> = exits.iter().chain(closers).map(String::as_str).chain(CLOSERS).collect();
        let mut form = Form {
            matcher,
            brackets: closing.len() - CLOSERS.len() + 1..closing.len() - CLOSERS.len() + 3,
            closers: spell(&closing)?,
            exits: exits.len(),
            left_by: None,
            stretch,
            run: 0,
            said: Vec::new(),
            strings,
            string: 0,
            share: 0,
            quotes: Arc::clone(&self.quotes),
            fillers: spell(&FILLERS)?,
            ends: self.ends.clone().into(),
            ending: None,
            watch: 0,
            cut: false,
            shortened: 0,
        };
        let Some(ending) = form.ending_of(form.matcher.clone(), LONGEST_ENDING)? else {
            return Err(refused("no short text of this form was found; give texts that lead to its end"));
        };
        let shortest = ending.len();
        form.watch = 4 * shortest + WATCH;
        form.ending = Some(ending);
        Ok(Compiled { form, shortest })
    }
}

/// A form that was compiled, for any number of answers.
pub(crate) struct Compiled {
    pub form: Form,
    /// Tokens of its shortest answer that is known.
    pub shortest: usize,
}

impl Compiled {
    /// The form at its beginning, sharing nothing with other answers; refused where no answer fits into `budget` tokens.
    pub fn begin(&self, budget: usize) -> Result<Form> {
        if self.shortest > budget {
            let remedy = format!("an answer of this form takes {} tokens or more", self.shortest);
            return Err(Error::argument("max_tokens", budget, remedy));
        }
        let form = &self.form;
        Ok(Form {
            matcher: form.matcher.deep_clone(),
            closers: Arc::clone(&form.closers),
            brackets: form.brackets.clone(),
            said: Vec::new(),
            fillers: Arc::clone(&form.fillers),
            ends: Arc::clone(&form.ends),
            quotes: Arc::clone(&form.quotes),
            ending: form.ending.clone(),
            ..*form
        })
    }
}

fn limit(source: &str) -> Result<()> {
    if source.len() <= LONGEST {
        return Ok(());
    }
    Err(Error::Limit {
        what: "a grammar in bytes".into(),
        value: source.len() as u64,
        cap: LONGEST as u64,
        remedy: "use a smaller schema".into(),
    })
}
