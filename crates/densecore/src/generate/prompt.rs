//! Prompts: text, ids and vectors, as the caller gives them.

use super::rows::{INPUT, Rows, require_copies};
use super::sequence::Sequence;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::hidden::Hidden;
use crate::text::{Chat, Encoded, Ending, Message, Special};
use crate::vertex::Model;

/// A part of a prompt.
#[derive(Debug, Clone)]
pub enum Segment {
    /// Text; special tokens written in it stay text.
    Text(String),
    /// Token ids, special ones included.
    Ids(Vec<u32>),
    /// Vectors of the input space.
    Vectors(Hidden),
}

/// What a call starts from.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Taken as it stands. One that begins with text gets the begin token before it, where the model's files say so.
    Plain(Vec<Segment>),
    /// Put through the model's chat template, which writes a begin token itself; the segments are what its slots stand for.
    Chat(Box<Chat>, Vec<Segment>),
}

impl Prompt {
    /// A chat of text alone.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self::Chat(Box::new(Chat::of(messages, Ending::Prompt)), Vec::new())
    }
}

impl Prompt {
    fn segments(&self) -> &[Segment] {
        match self {
            Self::Plain(segments) | Self::Chat(_, segments) => segments,
        }
    }

    fn segments_mut(&mut self) -> &mut [Segment] {
        match self {
            Self::Plain(segments) | Self::Chat(_, segments) => segments,
        }
    }

    /// Copies the prompts' vectors into memory that nobody else can write, for work that begins later.
    pub fn copy_vectors(prompts: &mut [Self]) -> Result<()> {
        require_copies(vectors(prompts))?;
        for segment in prompts.iter_mut().flat_map(Self::segments_mut) {
            if let Segment::Vectors(vectors) = segment {
                *vectors = vectors.copied();
            }
        }
        Ok(())
    }
}

fn vectors(prompts: &[Prompt]) -> impl Iterator<Item = &Hidden> {
    fn one(segment: &Segment) -> Option<&Hidden> {
        if let Segment::Vectors(vectors) = segment { Some(vectors) } else { None }
    }
    prompts.iter().flat_map(Prompt::segments).filter_map(one)
}

impl Model {
    /// Tokenizes and checks the prompts of one call; errors about a prompt name its place in the list.
    pub(crate) fn all_rows(&self, prompts: &[Prompt], raw: bool, cancel: &Cancel) -> Result<Vec<Rows>> {
        let place = |i: usize, error: Error| match error {
            Error::Prompt(detail) if prompts.len() > 1 => Error::Prompt(format!("number {i} of the list: {detail}")),
            other => other,
        };
        require_copies(vectors(prompts))?;
        prompts.iter().enumerate().map(|(i, p)| self.read(p, raw, cancel).map_err(|e| place(i, e))).collect()
    }

    /// Refuses what cannot fit: `held` positions there, `rows` and `more` to come.
    pub(crate) fn check_room(&self, held: usize, rows: usize, more: usize) -> Result<()> {
        let (needed, limit) = (held.saturating_add(rows).saturating_add(more), self.context());
        if needed > limit {
            Err(Error::ContextLength { needed, given: held.saturating_add(rows), limit })
        } else {
            Ok(())
        }
    }

    /// Allows a sequence for `more` positions behind its pending ones, or refuses what cannot fit.
    pub(crate) fn expect(&self, sequence: &mut Sequence, more: usize) -> Result<()> {
        self.check_room(sequence.cache.len(), sequence.pending(), more)?;
        sequence.expect(more);
        Ok(())
    }

    /// Tokenizes and checks a prompt that nothing comes before.
    pub(crate) fn rows(&self, prompt: &Prompt, raw: bool, cancel: &Cancel) -> Result<Rows> {
        require_copies(vectors(std::slice::from_ref(prompt)))?;
        self.read(prompt, raw, cancel)
    }

    /// Tokenizes and checks a prompt that goes on from others.
    pub(crate) fn more_rows(&self, prompt: &Prompt, raw: bool, cancel: &Cancel) -> Result<Rows> {
        require_copies(vectors(std::slice::from_ref(prompt)))?;
        self.push_prompt(Rows::default(), prompt, raw, cancel)
    }

    fn read(&self, prompt: &Prompt, raw: bool, cancel: &Cancel) -> Result<Rows> {
        let mut rows = Rows::default();
        if let Prompt::Plain(segments) = prompt
            && matches!(segments.first(), Some(Segment::Text(_)))
        {
            rows.append(&Rows::ids(self.tokenizer().begin().to_vec()));
        }
        self.push_prompt(rows, prompt, raw, cancel)
    }

    fn push_prompt(&self, mut rows: Rows, prompt: &Prompt, raw: bool, cancel: &Cancel) -> Result<Rows> {
        let limits = self.limits();
        let count = match prompt {
            Prompt::Plain(segments) => segments.len(),
            Prompt::Chat(chat, slots) => chat.messages.len() + slots.len(),
        };
        if count > limits.segments {
            return Err(Error::Limit {
                what: "the number of prompt segments".into(),
                value: count as u64,
                cap: limits.segments as u64,
                remedy: "join neighbouring segments".into(),
            });
        }
        match prompt {
            Prompt::Plain(segments) => {
                for segment in segments {
                    self.push(&mut rows, segment, raw)?;
                }
            }
            Prompt::Chat(chat, slots) => self.push_chat(&mut rows, chat, slots, raw, cancel)?,
        }
        if rows.len() == 0 {
            return Err(Error::Prompt(
                "it is empty; give at least one token or vector (a model has nothing to continue from)".into(),
            ));
        }
        Ok(rows)
    }

    fn push(&self, rows: &mut Rows, segment: &Segment, raw: bool) -> Result<()> {
        match segment {
            Segment::Text(text) => rows.append(&Rows::ids(self.tokenizer().encode(text, Special::AsText)?)),
            Segment::Ids(ids) => {
                self.check_ids(ids)?;
                rows.append(&Rows::ids(ids.clone()));
            }
            Segment::Vectors(vectors) => {
                let data = vectors.read(self.config().width, self.fingerprint(), &INPUT, raw)?;
                rows.append(&Rows::vectors(data, vectors.width()));
            }
        }
        Ok(())
    }

    fn push_chat(&self, rows: &mut Rows, chat: &Chat, slots: &[Segment], raw: bool, cancel: &Cancel) -> Result<()> {
        for part in self.templates().choose(chat)?.encode_chat(self.tokenizer(), chat, cancel)? {
            match part {
                Encoded::Ids(ids) => rows.append(&Rows::ids(ids)),
                Encoded::Slot(slot) => {
                    let segment = slots.get(slot);
                    let missing =
                        || Error::argument("slot", slot, format!("the chat comes with {} segments", slots.len()));
                    self.push(rows, segment.ok_or_else(missing)?, raw)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses ids outside the vocabulary.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let vocab = self.config().vocab;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(id) => Err(Error::argument("token id", id, format!("use ids of this model, from 0 to {}", vocab - 1))),
            None => Ok(()),
        }
    }
}
