//! Chat messages to a prompt, by the template the model brings.
//!
//! A template is a program of unknown origin: it runs with limited fuel, source, output and work (`guard`), sees
//! nothing but the messages, and can load nothing.

use std::collections::BTreeMap;

use minijinja::machinery::{Vm, make_string_output};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::chat::{Chat, Ending, Message, Piece};
use super::guard::{Meter, compile, install, prepare};
use super::reads::{self, Reads};
use super::sentinel::Marks;
use super::special::Part;
use super::template_functions;
use super::tokenizer::{Special, Tokenizer};
use super::view::View;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Stack of the thread a template runs on (bytes): room for the deepest expression the caps allow.
const STACK: usize = 64 << 20;
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
    /// The source as it is compiled.
    prepared: String,
    reads: Reads,
    bos: Option<String>,
    eos: Option<String>,
    output: usize,
    fuel: u64,
}

impl ChatTemplate {
    /// Checks and keeps a template. `bos` and `eos` are the names of the begin and end tokens, for templates that write them.
    pub fn from_source(source: &str, bos: Option<String>, eos: Option<String>, limits: &Limits) -> Result<Self> {
        if source.len() > limits.template_source {
            return Err(Error::Limit {
                what: "the chat template in bytes".into(),
                value: source.len() as u64,
                cap: limits.template_source as u64,
                remedy: "raise Limits::template_source if the model is genuine, or give prompts as text".into(),
            });
        }
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let (prepared, reads) = on_own_stack(|| {
            let prepared = prepare(&source)?;
            compile(&prepared)?;
            Ok((prepared, Reads::of(&source)?))
        })?;
        Ok(Self { source, prepared, reads, bos, eos, output: limits.template_output, fuel: limits.template_fuel })
    }

    /// The template as the model file holds it, line ends normalised.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Messages alone as text, exactly as transformers renders them. They must hold text only.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_chat(&Chat::of(messages.to_vec(), ending(add_generation_prompt)))
    }

    /// A chat as text, exactly as transformers renders it. It must hold text only.
    pub fn render_chat(&self, chat: &Chat) -> Result<String> {
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
        view.cut(self.run(chat, &view)?)
    }

    /// The prompt in parts: text of the template, special tokens that the caller only talks about, and slots.
    pub fn parts(&self, tokenizer: &Tokenizer, chat: &Chat) -> Result<Vec<Rendered>> {
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
        let rendered = view.cut(self.run(chat, &view)?)?;
        marks.split(&rendered)
    }

    /// Messages alone as token ids and slots.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<Encoded>> {
        self.encode_chat(tokenizer, &Chat::of(messages.to_vec(), ending(add_generation_prompt)))
    }

    /// A chat as token ids and slots. Text that holds no special tokens gives the ids that the rendered text has.
    pub fn encode_chat(&self, tokenizer: &Tokenizer, chat: &Chat) -> Result<Vec<Encoded>> {
        let mut encoded = Vec::new();
        let mut ids = Vec::new();
        // Text on both sides of a literal is encoded together with it, as one text.
        let mut text = String::new();
        let flush = |text: &mut String, ids: &mut Vec<u32>| -> Result<()> {
            ids.extend(tokenizer.encode(text, Special::AsText)?);
            text.clear();
            Ok(())
        };
        for part in self.parts(tokenizer, chat)? {
            match part {
                Rendered::Literal(literal) => text.push_str(&literal),
                Rendered::Template(template) => {
                    let mut result = Ok(());
                    tokenizer.split_special(&template, |part| match part {
                        Part::Text(part) => text.push_str(part),
                        Part::Token(id) => {
                            if result.is_ok() {
                                result = flush(&mut text, &mut ids);
                            }
                            ids.push(id);
                        }
                    });
                    result?;
                }
                Rendered::Slot(slot) => {
                    flush(&mut text, &mut ids)?;
                    if !ids.is_empty() {
                        encoded.push(Encoded::Ids(std::mem::take(&mut ids)));
                    }
                    encoded.push(Encoded::Slot(slot));
                }
            }
        }
        flush(&mut text, &mut ids)?;
        if !ids.is_empty() {
            encoded.push(Encoded::Ids(ids));
        }
        Ok(encoded)
    }

    /// Everything that is not a content but may reach the output.
    fn words(&self) -> impl Iterator<Item = &str> {
        [Some(self.source.as_str()), self.bos.as_deref(), self.eos.as_deref()].into_iter().flatten()
    }

    fn run(&self, chat: &Chat, view: &View) -> Result<String> {
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
        let rendered = on_own_stack(|| self.evaluate(view))?;
        for (place, role, key) in reads::doubtful(chat) {
            // Mentioned, but without any effect on this chat: it would be dropped.
            let other = view.without(chat, &role, key);
            if on_own_stack(|| self.evaluate(&other)).is_ok_and(|text| text == rendered) {
                return Err(reads::unused(chat, place, key));
            }
        }
        Ok(rendered)
    }

    fn evaluate(&self, view: &View) -> std::result::Result<String, minijinja::Error> {
        let meter = Meter::new(self.output);
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_recursion_limit(RECURSION);
        environment.set_fuel(Some(self.fuel));
        template_functions::install(&mut environment, &meter);
        install(&mut environment, &meter);
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

/// Runs `work` on a thread whose stack holds whatever the caps allow, so that no template can exhaust the caller's.
fn on_own_stack<T: Send>(work: impl FnOnce() -> std::result::Result<T, minijinja::Error> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("chat template".into()).stack_size(STACK).spawn_scoped(scope, work);
        let thread =
            thread.map_err(|error| Error::Template(format!("no thread to run it on: {error}; free some memory")))?;
        match thread.join() {
            Ok(result) => result.map_err(|error| describe(&error)),
            Err(_) => Err(Error::Internal("the template engine panicked".into())),
        }
    })
}

fn describe(error: &minijinja::Error) -> Error {
    let place = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    let mut text = format!("{}{detail}{place}", error.kind());
    if error.kind() == minijinja::ErrorKind::OutOfFuel {
        text = format!("the template does too much work{place}");
    }
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    let remedy = match error.kind() {
        minijinja::ErrorKind::SyntaxError => "the model's files are damaged: fetch them again",
        minijinja::ErrorKind::OutOfFuel => "give the prompt as text instead",
        _ => "check the messages, or give the prompt as text instead",
    };
    Error::Template(format!("{text}; {remedy}"))
}
