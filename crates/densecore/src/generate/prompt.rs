//! Prompts: text, ids and vectors, as the caller gives them.

use super::rows::{INPUT, Rows, require_copies};
use super::step::Sequence;
use crate::error::{Error, Result};
use crate::hidden::Hidden;
use crate::text::{Encoded, Message, Piece, Special};
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

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// "system", "user", "assistant", or what else the template knows.
    pub role: String,
    /// Its parts.
    pub content: Vec<Segment>,
}

/// What a call starts from.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Taken as it stands.
    Plain(Vec<Segment>),
    /// Put through the model's chat template.
    Chat(Vec<Turn>),
}

impl Prompt {
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        let (plain, turns): (&[Segment], &[Turn]) = match self {
            Self::Plain(segments) => (segments, &[]),
            Self::Chat(turns) => (&[], turns),
        };
        plain.iter().chain(turns.iter().flat_map(|turn| &turn.content))
    }

    fn segments_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        let (plain, turns): (&mut [Segment], &mut [Turn]) = match self {
            Self::Plain(segments) => (segments, &mut []),
            Self::Chat(turns) => (&mut [], turns),
        };
        plain.iter_mut().chain(turns.iter_mut().flat_map(|turn| &mut turn.content))
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
    prompts.iter().flat_map(Prompt::segments).filter_map(|segment| match segment {
        Segment::Vectors(vectors) => Some(vectors),
        _ => None,
    })
}

impl Model {
    /// Tokenizes and checks the prompts of one call; errors about a prompt name its place in the list.
    pub(crate) fn all_rows(&self, prompts: &[Prompt], raw: bool) -> Result<Vec<Rows>> {
        let place = |i: usize, error: Error| match error {
            Error::Prompt(detail) if prompts.len() > 1 => Error::Prompt(format!("number {i} of the list: {detail}")),
            other => other,
        };
        require_copies(vectors(prompts))?;
        prompts.iter().enumerate().map(|(i, p)| self.read(p, raw).map_err(|e| place(i, e))).collect()
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

    /// Tokenizes and checks a prompt.
    pub(crate) fn rows(&self, prompt: &Prompt, raw: bool) -> Result<Rows> {
        require_copies(vectors(std::slice::from_ref(prompt)))?;
        self.read(prompt, raw)
    }

    fn read(&self, prompt: &Prompt, raw: bool) -> Result<Rows> {
        let limits = self.limits();
        let count = prompt.segments().count();
        if count > limits.segments {
            return Err(Error::Limit {
                what: "the number of prompt segments".into(),
                value: count as u64,
                cap: limits.segments as u64,
                remedy: "join neighbouring segments".into(),
            });
        }
        let mut rows = Rows::default();
        match prompt {
            Prompt::Plain(segments) => {
                for segment in segments {
                    self.push(&mut rows, segment, raw)?;
                }
            }
            Prompt::Chat(turns) => self.push_chat(&mut rows, turns, raw)?,
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

    fn push_chat(&self, rows: &mut Rows, turns: &[Turn], raw: bool) -> Result<()> {
        let mut slots = Vec::new();
        let messages: Vec<Message> = turns
            .iter()
            .map(|turn| Message {
                role: turn.role.clone(),
                content: turn
                    .content
                    .iter()
                    .map(|segment| match segment {
                        Segment::Text(text) => Piece::Text(text.clone()),
                        other => {
                            slots.push(other);
                            Piece::Slot(slots.len() - 1)
                        }
                    })
                    .collect(),
            })
            .collect();
        for part in self.template()?.encode(self.tokenizer(), &messages, true)? {
            match part {
                Encoded::Ids(ids) => rows.append(&Rows::ids(ids)),
                Encoded::Slot(i) => self.push(rows, slots[i], raw)?,
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
