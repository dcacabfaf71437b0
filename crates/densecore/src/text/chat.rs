//! What a chat template is given: messages, tools and variables, as JSON whose texts may hold more than text.

/// Part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text.
    Text(String),
    /// Something that is no text (ids or vectors), numbered by the caller.
    Slot(usize),
}

/// A value from the caller. Whatever text is in it stays text: names of special tokens too, in keys as in values.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Whole(i64),
    /// A finite number.
    Real(f64),
    /// Text.
    Text(Vec<Piece>),
    /// Values in order.
    List(Vec<Given>),
    /// Values by name, in the caller's order.
    Map(Vec<(String, Given)>),
}

impl Given {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(vec![Piece::Text(text.into())])
    }

    /// Whether nothing is lost when a template does not read it.
    fn is_empty(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) => true,
            Self::Text(pieces) => pieces.iter().all(|p| matches!(p, Piece::Text(text) if text.is_empty())),
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// The text, where it is nothing else.
    fn as_text(&self) -> Option<String> {
        let Self::Text(pieces) = self else { return None };
        pieces.iter().map(|piece| if let Piece::Text(text) = piece { Some(text.as_str()) } else { None }).collect()
    }

    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn texts<'a>(&'a self, each: &mut dyn FnMut(&'a str)) {
        match self {
            Self::Text(pieces) => pieces.iter().for_each(|piece| {
                if let Piece::Text(text) = piece {
                    each(text);
                }
            }),
            Self::List(items) => items.iter().for_each(|item| item.texts(each)),
            Self::Map(entries) => entries.iter().for_each(|(key, value)| {
                each(key);
                value.texts(each);
            }),
            _ => {}
        }
    }
}

/// Names under which templates read what a model thought before its answer.
pub const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message: its role, its content, and whatever else the template reads, in the caller's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(pub Vec<(String, Given)>);

impl Message {
    /// A message of plain text.
    pub fn text(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self::of(role, vec![Piece::Text(content.into())])
    }

    /// A message of a role and a content.
    pub fn of(role: impl Into<String>, content: Vec<Piece>) -> Self {
        Self(vec![("role".into(), Given::text(role)), ("content".into(), Given::Text(content))])
    }

    /// What it says under a key.
    pub fn get(&self, key: &str) -> Option<&Given> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Who speaks.
    pub fn role(&self) -> String {
        self.get("role").and_then(Given::as_text).unwrap_or_default()
    }

    fn is(&self, role: &str) -> bool {
        let said = self.get("role");
        matches!(said, Some(Given::Text(pieces)) if matches!(&pieces[..], [Piece::Text(text)] if text == role))
    }

    /// Its entries as transformers hands them to a template: none without a value, reasoning under each of its names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Given)> {
        let said = |key: &str| self.get(key).filter(|value| **value != Given::Null);
        let reasoning = REASONING.iter().find_map(|key| said(key));
        let first = reasoning.filter(|_| said("thinking").is_none()).map(|value| ("thinking", value));
        let last = reasoning.filter(|_| said("reasoning_content").is_none()).map(|value| ("reasoning_content", value));
        let given = self.0.iter().map(|(key, value)| (key.as_str(), value)).filter(|entry| *entry.1 != Given::Null);
        first.into_iter().chain(given).chain(last)
    }
}

/// How a rendered chat ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// With what opens an answer.
    #[default]
    Prompt,
    /// With the end of its last message.
    Message,
    /// Within its last message, behind the content, so that an answer goes on from there.
    Content,
}

/// A chat, with everything its template is to know.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chat {
    /// Its messages.
    pub messages: Vec<Message>,
    /// Tools, documents and other variables by name.
    pub variables: Vec<(String, Given)>,
    /// Which of the model's templates; what its tools and the files make of it by default.
    pub template: Option<String>,
    /// How it ends.
    pub ending: Ending,
}

impl Chat {
    /// Messages alone.
    pub fn of(messages: Vec<Message>, ending: Ending) -> Self {
        Self { messages, ending, ..Self::default() }
    }

    /// Whether tools are given, an empty list included.
    pub(super) fn has_tools(&self) -> bool {
        self.variables.iter().any(|(name, value)| name == "tools" && *value != Given::Null)
    }

    /// Every text in it, keys included.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for (key, value) in self.messages.iter().flat_map(|message| &message.0).chain(&self.variables) {
            texts.push(key.as_str());
            value.texts(&mut |text| texts.push(text));
        }
        texts
    }

    /// What messages say beyond role and content, where leaving it out would lose something: place and key.
    pub(super) fn extras(&self) -> impl Iterator<Item = (usize, &str)> {
        // Answers in a row, up to a message.
        let mut answers = 0;
        self.messages.iter().enumerate().flat_map(move |(place, message)| {
            answers = if message.is("tool") { answers + 1 } else { 0 };
            let row = answers;
            let said = message.0.iter().filter(|(key, value)| key != "role" && key != "content" && !value.is_empty());
            let named = said.map(move |(key, _)| (place, key.as_str()));
            named.filter(move |(_, key)| !self.follows_from_order(place, row, key))
        })
    }

    /// What is given by name beside the messages, where leaving it out would lose something.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        let lost = |(name, value): &&(String, Given)| {
            *value != Given::Null && !(matches!(name.as_str(), "tools" | "documents") && value.is_empty())
        };
        self.variables.iter().filter(lost).map(|(name, _)| name.as_str())
    }

    /// Whether a message, the last of `answers` in a row, says under `key` only what its place among them says already.
    fn follows_from_order(&self, place: usize, answers: usize, key: &str) -> bool {
        let calls = (place + 1).checked_sub(answers + 1).and_then(|asking| self.messages[asking].get("tool_calls"));
        let Some(Given::List(calls)) = calls else { return false };
        let Some(call) = answers.checked_sub(1).and_then(|number| calls.get(number)) else { return false };
        let said = match key {
            "tool_call_id" => call.get("id"),
            "name" => call.get("function").unwrap_or(call).get("name"),
            _ => None,
        };
        said.is_some() && said == self.messages[place].get(key)
    }
}
