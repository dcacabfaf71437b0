//! Which names a template mentions, so that what it cannot use is refused and not dropped.

use std::collections::HashSet;

use minijinja::Error as TemplateError;
use minijinja::machinery::{Token, WhitespaceConfig, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::chat::{Chat, REASONING};
use crate::error::{Error, Result};

/// What a template has without being given it.
const OWN: [&str; 2] = ["messages", "add_generation_prompt"];

/// Identifiers and string constants in a template's code; words of the text it writes are none of them.
#[derive(Debug, Clone)]
pub struct Reads(HashSet<Box<str>>);

impl Reads {
    /// Those of a source.
    pub fn of(source: &str) -> std::result::Result<Self, TemplateError> {
        let mut names = HashSet::new();
        for token in tokenize(source, false, SyntaxConfig, WhitespaceConfig::default()) {
            match token?.0 {
                Token::Ident(name) | Token::Str(name) => names.insert(name.into()),
                Token::String(name) => names.insert(name),
                _ => continue,
            };
        }
        Ok(Self(names))
    }

    fn mentions(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Refuses variables and thoughts that the template does not mention. It may read other keys without naming them, by
    /// writing whole messages.
    pub fn check(&self, chat: &Chat) -> Result<()> {
        for name in chat.named() {
            if OWN.contains(&name) {
                return Err(Error::Prompt(format!("{name} is no template variable; give it as the argument it is")));
            }
            if !self.mentions(name) {
                let what = if name == "tools" { "tools" } else { "the template variable" };
                let named = if name == "tools" { String::new() } else { format!(" {name:?}") };
                return Err(Error::Prompt(format!(
                    "{what}{named} cannot be used: this model's chat template does not read {name:?}; remove it, or choose a template that does"
                )));
            }
        }
        let thinks = REASONING.iter().any(|name| self.mentions(name));
        match chat.extras().find(|(_, key)| !thinks && REASONING.contains(key)) {
            Some((place, key)) => Err(unused(chat, place, key)),
            None => Ok(()),
        }
    }

    /// What went wrong, said of the first key that the template does not mention if there is one: then it was made for
    /// other messages.
    pub fn explain(&self, chat: &Chat, error: Error) -> Error {
        let strange = chat.extras().find(|(_, key)| !REASONING.contains(key) && !self.mentions(key));
        match (strange, &error) {
            (Some((place, key)), Error::Template(_)) => unused(chat, place, key),
            _ => error,
        }
    }
}

/// Roles and keys that a template may not read where they stand. What was thought before earlier answers
/// is left out by many templates on purpose.
pub fn doubtful(chat: &Chat) -> Vec<(usize, String, &str)> {
    let mut found: Vec<(usize, String, &str)> = Vec::new();
    for (place, key) in chat.extras().filter(|(_, key)| !REASONING.contains(key)) {
        let role = chat.messages[place].role();
        if !found.iter().any(|(_, known, name)| *known == role && *name == key) {
            found.push((place, role, key));
        }
    }
    found
}

/// A key of a message that its template never reads.
pub fn unused(chat: &Chat, place: usize, key: &str) -> Error {
    Error::Prompt(format!(
        "message {place} ({}) has the key {key:?}, which this model's chat template does not read there; remove it, or choose a template that does",
        chat.messages[place].role()
    ))
}
