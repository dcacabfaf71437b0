//! Prompts: text, ids and vectors in one row of positions.

use super::step::Sequence;
use crate::error::{Error, Result};
use crate::hidden::{Hidden, Space};
use crate::model::embed::Embedding;
use crate::model::prefix::{Key, key};
use crate::text::{Chat, Encoded, Ending, Message, Special};
use crate::vertex::Model;
use densecore_kernels::attention::SPAN;

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

/// A prompt as positions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    parts: Vec<Part>,
    len: usize,
}

#[derive(Debug, Clone)]
enum Part {
    Ids(Vec<u32>),
    Vectors(Hidden),
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::Vectors(v) => v.rows(),
        }
    }
}

impl Rows {
    pub fn ids(ids: Vec<u32>) -> Self {
        Self { len: ids.len(), parts: vec![Part::Ids(ids)] }
    }

    pub fn vectors(vectors: Hidden) -> Self {
        Self { len: vectors.rows(), parts: vec![Part::Vectors(vectors)] }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends rows of another prompt.
    pub fn append(&mut self, other: &Self) {
        other.parts.iter().for_each(|part| self.push(part.clone()));
    }

    /// Keys of the full blocks among the first `len` rows.
    pub fn keys(&self, len: usize) -> Vec<Key> {
        let (mut keys, mut before) = (Vec::new(), Key::default());
        let (mut bytes, mut held, mut row) = (Vec::new(), 0, Vec::new());
        let rows = self.parts.iter().flat_map(|part| (0..part.len()).map(move |i| (part, i)));
        for (part, i) in rows.take(len / SPAN * SPAN) {
            // A tag keeps ids and vectors of the same bytes apart.
            match part {
                Part::Ids(ids) => {
                    bytes.push(0);
                    bytes.extend_from_slice(&ids[i].to_le_bytes());
                }
                Part::Vectors(v) => {
                    row.resize(v.width(), 0.0);
                    v.copy_rows(i, &mut row);
                    bytes.push(1);
                    bytes.extend(row.iter().flat_map(|c| c.to_le_bytes()));
                }
            }
            held += 1;
            if held == SPAN {
                before = key(&before, &bytes);
                keys.push(before);
                bytes.clear();
                held = 0;
            }
        }
        keys
    }

    /// Drops rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        let mut left = len;
        self.parts.retain_mut(|part| {
            let keep = left;
            match part {
                Part::Ids(ids) => {
                    ids.truncate(keep);
                    left -= ids.len();
                    !ids.is_empty()
                }
                Part::Vectors(v) => {
                    *v = v.slice_rows(0, keep);
                    left -= v.rows();
                    v.rows() > 0
                }
            }
        });
        self.len -= self.len.saturating_sub(len);
    }

    /// The last row alone.
    pub fn last(&self) -> Self {
        match self.parts.last() {
            Some(Part::Ids(ids)) => Self::ids(ids[ids.len() - 1..].to_vec()),
            Some(Part::Vectors(v)) => Self::vectors(v.slice_rows(v.rows() - 1, v.rows())),
            None => Self::default(),
        }
    }

    /// The token ids among the rows.
    pub fn token_ids(&self) -> impl Iterator<Item = u32> {
        self.parts.iter().flat_map(|part| if let Part::Ids(ids) = part { &ids[..] } else { &[] }).copied()
    }

    /// (token ids, vectors).
    pub fn counts(&self) -> (usize, usize) {
        let ids = self.parts.iter().map(|p| if let Part::Ids(ids) = p { ids.len() } else { 0 }).sum();
        (ids, self.len - ids)
    }

    fn push(&mut self, part: Part) {
        if part.len() == 0 {
            return;
        }
        self.len += match &part {
            Part::Ids(ids) => ids.len(),
            Part::Vectors(v) => v.rows(),
        };
        self.parts.push(part);
    }

    /// Writes the input vectors of positions `from..` to `out`, `(n, d)`.
    pub fn fill(&self, embedding: &Embedding, width: usize, from: usize, out: &mut [f32]) -> Result<()> {
        let (mut at, mut out) = (from, out);
        for part in &self.parts {
            let len = match part {
                Part::Ids(ids) => ids.len(),
                Part::Vectors(v) => v.rows(),
            };
            if at >= len {
                at -= len;
                continue;
            }
            let take = (len - at).min(out.len() / width);
            let (now, rest) = out.split_at_mut(take * width);
            match part {
                Part::Ids(ids) => embedding.rows(&ids[at..at + take], now)?,
                Part::Vectors(v) => v.copy_rows(at, now),
            }
            (out, at) = (rest, 0);
            if out.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

impl Model {
    /// Tokenizes and checks the prompts of one call; errors about a prompt name its place in the list.
    pub(crate) fn all_rows(&self, prompts: &[Prompt], raw: bool) -> Result<Vec<Rows>> {
        let place = |i: usize, error: Error| match error {
            Error::Prompt(detail) if prompts.len() > 1 => Error::Prompt(format!("number {i} of the list: {detail}")),
            other => other,
        };
        prompts.iter().enumerate().map(|(i, p)| self.rows(p, raw).map_err(|e| place(i, e))).collect()
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
    pub(crate) fn rows(&self, prompt: &Prompt, raw: bool) -> Result<Rows> {
        let mut rows = Rows::default();
        if let Prompt::Plain(segments) = prompt
            && matches!(segments.first(), Some(Segment::Text(_)))
        {
            rows.push(Part::Ids(self.tokenizer().begin().to_vec()));
        }
        self.push_prompt(rows, prompt, raw)
    }

    /// Tokenizes and checks a prompt that goes on from others.
    pub(crate) fn more_rows(&self, prompt: &Prompt, raw: bool) -> Result<Rows> {
        self.push_prompt(Rows::default(), prompt, raw)
    }

    fn push_prompt(&self, mut rows: Rows, prompt: &Prompt, raw: bool) -> Result<Rows> {
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
            Prompt::Chat(chat, slots) => self.push_chat(&mut rows, chat, slots, raw)?,
        }
        if rows.len == 0 {
            return Err(Error::Prompt(
                "it is empty; give at least one token or vector (a model has nothing to continue from)".into(),
            ));
        }
        Ok(rows)
    }

    fn push(&self, rows: &mut Rows, segment: &Segment, raw: bool) -> Result<()> {
        match segment {
            Segment::Text(text) => rows.push(Part::Ids(self.tokenizer().encode(text, Special::AsText)?)),
            Segment::Ids(ids) => {
                self.check_ids(ids)?;
                rows.push(Part::Ids(ids.clone()));
            }
            Segment::Vectors(vectors) => {
                let spaces = [Space::Input, Space::Layer { layer: 0, normed: false }];
                vectors.check(self.config().width, self.fingerprint(), &spaces, raw)?;
                rows.push(Part::Vectors(vectors.clone()));
            }
        }
        Ok(())
    }

    fn push_chat(&self, rows: &mut Rows, chat: &Chat, slots: &[Segment], raw: bool) -> Result<()> {
        for part in self.templates().choose(chat)?.encode_chat(self.tokenizer(), chat)? {
            match part {
                Encoded::Ids(ids) => rows.push(Part::Ids(ids)),
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
