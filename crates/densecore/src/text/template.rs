//! Chat messages to a prompt, by the template the model brings.
//!
//! A template is a program of unknown origin: it runs with limited fuel, source, output and work (`guard`), sees
//! nothing but the messages, and can load nothing.

use std::collections::BTreeMap;

use minijinja::machinery::{Vm, make_string_output};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use super::guard::{Meter, compile, install, prepare};
use super::sentinel::Marks;
use super::special::Part;
use super::template_functions;
use super::tokenizer::{Special, Tokenizer};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Stack of the thread a template runs on (bytes): room for the deepest expression the caps allow.
const STACK: usize = 64 << 20;
/// Frames of macros and recursive loops within each other.
const RECURSION: usize = 100;

/// Part of a message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// Something that is no text (ids or vectors), numbered by the caller.
    Slot(usize),
}

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: Vec<Piece>,
}

impl Message {
    /// A message of plain text.
    pub fn text(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: vec![Piece::Text(content.into())] }
    }
}

/// Part of a rendered chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rendered {
    /// Written by the template, or content without special tokens; special tokens in it count.
    Template(String),
    /// The name of a special token inside a content: plain text.
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
                remedy: "write the prompt yourself and give it as text or ids; the rest of the model works".into(),
            });
        }
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let prepared = on_own_stack(|| {
            let prepared = prepare(&source)?;
            compile(&prepared)?;
            Ok(prepared)
        })?;
        Ok(Self { source, prepared, bos, eos, output: limits.template_output, fuel: limits.template_fuel })
    }

    /// The template as the model file holds it, line ends normalised.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt as text, exactly as transformers renders it. Messages must hold text only.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut plain = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            let mut content = String::new();
            for piece in &message.content {
                match piece {
                    Piece::Text(text) => content.push_str(text),
                    Piece::Slot(_) => {
                        return Err(Error::Template(format!(
                            "message {index} holds a segment that is no text; a chat with ids or vectors has token ids but no text: encode it instead"
                        )));
                    }
                }
            }
            plain.push((message.role.as_str(), content));
        }
        self.run(&plain, add_generation_prompt)
    }

    /// The prompt in parts: text of the template, special tokens that a content only talks about, and slots.
    pub fn parts(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<Rendered>> {
        let mut marks = Marks::new(self.words().chain(messages.iter().flat_map(|message| {
            let texts = message.content.iter().filter_map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Slot(_) => None,
            });
            texts.chain([message.role.as_str()])
        })))?;
        let mut plain = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            if holds_special(tokenizer, &message.role) {
                return Err(Error::Template(format!(
                    "the role of message {index} is {:?}, which holds a special token; use system, user or assistant",
                    message.role
                )));
            }
            plain.push((message.role.as_str(), marks.content(tokenizer, &message.content)));
        }
        let rendered = self.run(&plain, add_generation_prompt)?;
        marks.split(&rendered)
    }

    /// The prompt as token ids and slots. Text that holds no special tokens gives the ids that the rendered text has.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<Encoded>> {
        let mut encoded = Vec::new();
        let mut ids = Vec::new();
        // Text on both sides of a literal is encoded together with it, as one text.
        let mut text = String::new();
        let flush = |text: &mut String, ids: &mut Vec<u32>| -> Result<()> {
            ids.extend(tokenizer.encode(text, Special::AsText)?);
            text.clear();
            Ok(())
        };
        for part in self.parts(tokenizer, messages, add_generation_prompt)? {
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

    fn run(&self, messages: &[(&str, String)], add_generation_prompt: bool) -> Result<String> {
        let given: usize = messages.iter().map(|(role, content)| role.len() + content.len()).sum();
        if given > self.output {
            return Err(Error::Limit {
                what: "the text of all messages in bytes".into(),
                value: given as u64,
                cap: self.output as u64,
                remedy: "shorten the chat, or give the prompt as text or ids".into(),
            });
        }
        on_own_stack(|| self.evaluate(messages, add_generation_prompt))
    }

    fn evaluate(
        &self,
        messages: &[(&str, String)],
        add_generation_prompt: bool,
    ) -> std::result::Result<String, minijinja::Error> {
        let meter = Meter::new(self.output);
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_recursion_limit(RECURSION);
        environment.set_fuel(Some(self.fuel));
        template_functions::install(&mut environment, &meter);
        install(&mut environment, &meter);
        let messages: Vec<Value> = messages
            .iter()
            .map(|(role, content)| {
                [("role", Value::from(*role)), ("content", Value::from(content.as_str()))].into_iter().collect()
            })
            .collect();
        let named = [("bos_token", &self.bos), ("eos_token", &self.eos)];
        let context: Value = [
            ("messages", Value::from(messages)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ]
        .into_iter()
        .chain(named.into_iter().filter_map(|(name, token)| Some((name, Value::from(token.as_deref()?)))))
        .collect();
        let instructions = compile(&self.prepared)?;
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        Vm::new(&environment).eval(&instructions, context, &BTreeMap::new(), &mut output, AutoEscape::None)?;
        drop(output);
        Ok(text)
    }
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
