//! A chat as its template sees it.

use minijinja::Value;

use super::chat::{Chat, Ending, Given, Piece};
use crate::error::{Error, Result};

/// What marks the end of the content to go on with: transformers' own word, so that templates treat both alike.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Messages, variables and the ending, in the template's values.
#[derive(Debug, Clone)]
pub struct View {
    messages: Vec<Vec<(String, Value)>>,
    variables: Vec<(String, Value)>,
    ending: Ending,
    /// The content that the rendered text is to end with.
    last: String,
}

impl View {
    /// Texts go through `text`, which is told whether they are a message's content.
    pub fn new(chat: &Chat, text: &mut dyn FnMut(&[Piece], bool) -> Result<String>) -> Result<Self> {
        let mut messages = Vec::with_capacity(chat.messages.len());
        let mut last = String::new();
        for (place, message) in chat.messages.iter().enumerate() {
            let goes_on = chat.ending == Ending::Content && place + 1 == chat.messages.len();
            let mut entries = Vec::new();
            for (key, given) in message.entries() {
                let value = match given {
                    Given::Text(pieces) if key == "content" => {
                        let mut content = text(pieces, true)?;
                        if goes_on {
                            last.clone_from(&content);
                            content.push_str(TAG);
                        }
                        Value::from(content)
                    }
                    given => value(given, text)?,
                };
                entries.push((key.to_owned(), value));
            }
            if goes_on && !entries.iter().any(|(key, _)| key == "content") {
                return Err(Error::Prompt(
                    "continue_final_message is set but the last message has no content; give it one to go on with"
                        .into(),
                ));
            }
            messages.push(entries);
        }
        if chat.ending == Ending::Content && messages.is_empty() {
            return Err(Error::Prompt("continue_final_message is set but there is no message; give one".into()));
        }
        let variables = chat.variables.iter().map(|(name, given)| Ok((name.clone(), value(given, text)?)));
        Ok(Self { messages, variables: variables.collect::<Result<_>>()?, ending: chat.ending, last })
    }

    /// The same without what messages of one role say under a key.
    pub fn without(&self, chat: &Chat, role: &str, key: &str) -> Self {
        let mut view = self.clone();
        for (message, entries) in chat.messages.iter().zip(&mut view.messages) {
            if message.role() == role {
                entries.retain(|(name, _)| name != key);
            }
        }
        view
    }

    /// The variables a template starts with; `base` are those it has anyway.
    pub fn context<'a>(&'a self, base: impl Iterator<Item = (&'a str, Value)>) -> Value {
        let messages = self.messages.iter().map(|entries| entries.iter().cloned().collect::<Value>());
        let own = [
            ("messages", messages.collect::<Value>()),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(self.ending == Ending::Prompt)),
        ];
        let given = self.variables.iter().map(|(name, value)| (name.as_str(), value.clone()));
        base.chain(own).chain(given).collect()
    }

    /// The rendered text up to where it is to end.
    pub fn cut(&self, mut rendered: String) -> Result<String> {
        if self.ending != Ending::Content {
            return Ok(rendered);
        }
        let Some(end) = rendered.rfind(TAG.trim_end()).filter(|_| rendered.contains(self.last.trim())) else {
            return Err(Error::Prompt(
                "continue_final_message is set but the template does not write the last content as it is given; check that it keeps such contents, or give the prompt as text".into(),
            ));
        };
        let keeps_space = rendered[end..].starts_with(TAG);
        rendered.truncate(end);
        if !keeps_space {
            rendered.truncate(rendered.trim_end().len());
        }
        Ok(rendered)
    }
}

fn value(given: &Given, text: &mut dyn FnMut(&[Piece], bool) -> Result<String>) -> Result<Value> {
    Ok(match given {
        Given::Null => Value::from(()),
        Given::Bool(truth) => Value::from(*truth),
        Given::Whole(number) => Value::from(*number),
        Given::Real(number) => Value::from(*number),
        Given::Text(pieces) => Value::from(text(pieces, false)?),
        Given::List(items) => Value::from(items.iter().map(|item| value(item, text)).collect::<Result<Vec<_>>>()?),
        Given::Map(entries) => {
            let mut pairs = Vec::with_capacity(entries.len());
            for (key, item) in entries {
                pairs.push((text(&[Piece::Text(key.clone())], false)?, value(item, text)?));
            }
            pairs.into_iter().collect()
        }
    })
}
