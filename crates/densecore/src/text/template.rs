//! Chat messages to a prompt, by the template the model brings.
//!
//! A template is a program of unknown origin: it runs with limited fuel, source, output and work (`guard`), sees
//! nothing but the messages, and can load nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minijinja::machinery::{Vm, make_string_output};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::chat::{Chat, Ending, Message, Piece};
use super::guard::{Prepared, compile, prepare};
use super::meter::Meter;
use super::reads::{self, Reads};
use super::sentinel::Marks;
use super::special::Part;
use super::template_run::on_own_stack;
use super::tokenizer::{Special, Tokenizer};
use super::view::View;
use super::{template_functions, template_operators};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Frames of macros and recursive loops within each other.
const RECURSION: usize = 100;

/// Part of a rendered chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rendered {
    /// Written by the template, or text of the caller without special tokens; special tokens in it count.
    Template(String),
    /// The name of a special token inside a text of the caller: plain text.
    Literal(String),
    /// A slot of the caller.
    Slot(usize),
}

/// Part of an encoded chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoded {
    /// Token ids.
    Ids(Vec<u32>),
    /// A slot of the caller.
    Slot(usize),
}

/// A model's chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    source: String,
    prepared: Prepared,
    reads: Reads,
    bos: Option<String>,
    eos: Option<String>,
    output: usize,
    fuel: u64,
    time: Duration,
}

impl ChatTemplate {
    /// Checks and keeps a template. `bos` and `eos` are the names of the begin and end tokens, for templates that write them.
    pub fn from_source(source: &str, bos: Option<String>, eos: Option<String>, limits: &Limits) -> Result<Self> {
        if source.len() > limits.template_source {
            return Err(Error::Limit {
                what: "the chat template in bytes".into(),
                value: source.len() as u64,
                cap: limits.template_source as u64,
                remedy: "write the prompt yourself and give it as text or ids; the rest of the model works".into(),
            });
        }
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let meter = Meter::new(limits.template_output, Instant::now(), limits.template_time);
        let (prepared, reads) = on_own_stack(&meter, &Cancel::default(), || {
            let prepared = prepare(&source)?;
            compile(&prepared)?;
            Ok((prepared, Reads::of(&source)?))
        })?;
        let (output, fuel, time) = (limits.template_output, limits.template_fuel, limits.template_time);
        Ok(Self { source, prepared, reads, bos, eos, output, fuel, time })
    }

    /// The template as the model file holds it, line ends normalised.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Messages alone as text, exactly as transformers renders them. They must hold text only.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, cancel: &Cancel) -> Result<String> {
        self.render_chat(&Chat::of(messages.to_vec(), ending(add_generation_prompt)), cancel)
    }

    /// A chat as text, exactly as transformers renders it. It must hold text only.
    pub fn render_chat(&self, chat: &Chat, cancel: &Cancel) -> Result<String> {
        let view = View::new(chat, &mut |pieces, _| {
            let text = |piece: &Piece| {
                match piece {
                Piece::Text(text) => Ok(text.clone()),
                Piece::Slot(_) => Err(Error::Template(
                    "a message holds a segment that is no text; a chat with ids or vectors has token ids but no text: encode it instead".into(),
                )),
            }
            };
            pieces.iter().map(text).collect()
        })?;
        view.cut(self.run(chat, &view, cancel)?)
    }

    /// The prompt in parts: text of the template, special tokens that the caller only talks about, and slots.
    pub fn parts(&self, tokenizer: &Tokenizer, chat: &Chat, cancel: &Cancel) -> Result<Vec<Rendered>> {
        let texts = chat.texts();
        let mut marks = Marks::new(self.words().chain(texts.iter().copied()))?;
        for (place, message) in chat.messages.iter().enumerate() {
            let mut words = message.0.iter().map(|(key, _)| key.clone()).chain([message.role()]);
            if let Some(word) = words.find(|word| holds_special(tokenizer, word)) {
                return Err(Error::Template(format!(
                    "the role or a key of message {place} is {word:?}, which holds a special token; use system, user or assistant"
                )));
            }
        }
        let view = View::new(chat, &mut |pieces, is_content| Ok(marks.text(tokenizer, pieces, is_content)))?;
        let rendered = view.cut(self.run(chat, &view, cancel)?)?;
        marks.split(&rendered)
    }

    /// Messages alone as token ids and slots.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        cancel: &Cancel,
    ) -> Result<Vec<Encoded>> {
        self.encode_chat(tokenizer, &Chat::of(messages.to_vec(), ending(add_generation_prompt)), cancel)
    }

    /// A chat as token ids and slots. Text that holds no special tokens gives the ids that the rendered text has.
    pub fn encode_chat(&self, tokenizer: &Tokenizer, chat: &Chat, cancel: &Cancel) -> Result<Vec<Encoded>> {
        let mut encoded = Vec::new();
        let mut ids = Vec::new();
        // Text on both sides of a literal is encoded together with it, as one text.
        let mut text = String::new();
        // Some vocabularies mark the first text of a prompt.
        let mut is_first = true;
        let flush = |text: &mut String, ids: &mut Vec<u32>, is_first: &mut bool| -> Result<()> {
            if !text.is_empty() {
                ids.extend(tokenizer.encode_part(text, Special::AsText, std::mem::take(is_first))?);
                text.clear();
            }
            Ok(())
        };
        for part in self.parts(tokenizer, chat, cancel)? {
            match part {
                Rendered::Literal(literal) => text.push_str(&literal),
                Rendered::Template(template) => {
                    let mut result = Ok(());
                    tokenizer.split_special(&template, |part| match part {
                        Part::Text(part) => text.push_str(part),
                        Part::Token(id) => {
                            if result.is_ok() {
                                result = flush(&mut text, &mut ids, &mut is_first);
                                is_first = false;
                            }
                            ids.push(id);
                        }
                    });
                    result?;
                }
                Rendered::Slot(slot) => {
                    flush(&mut text, &mut ids, &mut is_first)?;
                    if !ids.is_empty() {
                        encoded.push(Encoded::Ids(std::mem::take(&mut ids)));
                    }
                    encoded.push(Encoded::Slot(slot));
                }
            }
        }
        flush(&mut text, &mut ids, &mut is_first)?;
        if !ids.is_empty() {
            encoded.push(Encoded::Ids(ids));
        }
        Ok(encoded)
    }

    /// Everything that is not a content but may reach the output.
    fn words(&self) -> impl Iterator<Item = &str> {
        [Some(self.source.as_str()), self.bos.as_deref(), self.eos.as_deref()].into_iter().flatten()
    }

    fn run(&self, chat: &Chat, view: &View, cancel: &Cancel) -> Result<String> {
        self.reads.check(chat)?;
        let given: usize = chat.texts().iter().map(|text| text.len()).sum();
        if given > self.output {
            return Err(Error::Limit {
                what: "the text of all messages in bytes".into(),
                value: given as u64,
                cap: self.output as u64,
                remedy: "shorten the chat, or give the prompt as text or ids".into(),
            });
        }
        let started = Instant::now();
        let rendered = self.text(view, started, cancel).map_err(|error| self.reads.explain(chat, error))?;
        if rendered.len() > self.output {
            return Err(Error::Template(format!(
                "it writes {} bytes, over the cap of {}; shorten the chat, or give the prompt as text instead",
                rendered.len(),
                self.output
            )));
        }
        for (place, role, key) in reads::doubtful(chat) {
            // Without any effect on this chat: it would be dropped.
            let other = view.without(chat, &role, key);
            match self.text(&other, started, cancel) {
                Ok(text) if text == rendered => return Err(reads::unused(chat, place, key)),
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                _ if started.elapsed() > self.time => return Err(self.late(key)),
                _ => {}
            }
        }
        Ok(rendered)
    }

    /// The time was over before it was known whether `key` is read: all renderings of a chat share it.
    fn late(&self, key: &str) -> Error {
        Error::Template(format!(
            "it has run for over {:?} before it was clear whether it reads the key {key:?}; leave that out, or give the prompt as text instead",
            self.time
        ))
    }

    fn text(&self, view: &View, started: Instant, cancel: &Cancel) -> Result<String> {
        let meter = Arc::new(Meter::new(self.output, started, self.time));
        on_own_stack(&meter, cancel, || self.evaluate(view, &meter))
    }

    fn evaluate(&self, view: &View, meter: &Arc<Meter>) -> std::result::Result<String, minijinja::Error> {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_recursion_limit(RECURSION);
        environment.set_fuel(Some(self.fuel));
        template_functions::install(&mut environment, meter);
        template_operators::install(&mut environment, meter);
        let named = [("bos_token", &self.bos), ("eos_token", &self.eos)];
        let named = named.into_iter().filter_map(|(name, token)| Some((name, Value::from(token.as_deref()?))));
        let context = view.context(named);
        let instructions = compile(&self.prepared)?;
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        Vm::new(&environment).eval(&instructions, context, &BTreeMap::new(), &mut output, AutoEscape::None)?;
        drop(output);
        Ok(text)
    }
}

fn ending(add_generation_prompt: bool) -> Ending {
    if add_generation_prompt { Ending::Prompt } else { Ending::Message }
}

fn holds_special(tokenizer: &Tokenizer, text: &str) -> bool {
    let mut found = false;
    tokenizer.split_special(text, |part| found |= matches!(part, Part::Token(_)));
    found
}
