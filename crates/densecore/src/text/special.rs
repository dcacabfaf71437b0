//! Finds special tokens in a text.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::automaton::Automaton;
use super::table::Table;
use crate::error::{Error, Result};

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Ordinary text.
    Text(&'a str),
    /// A special token.
    Token(u32),
}

/// Special tokens to look for. Longer ones take what they need first, wherever they stand, as in the reference.
#[derive(Debug, Default)]
pub struct Specials {
    /// Spelling and id, longest first, then by id.
    tokens: Vec<(Box<str>, u32)>,
    automaton: Automaton,
}

impl Specials {
    /// Looks for these ids of the table, whose spellings may take `most` bytes together.
    pub fn new(table: &Table, ids: impl Iterator<Item = u32>, most: usize) -> Result<Self> {
        let mut tokens: Vec<(Box<str>, u32)> =
            ids.filter_map(|id| table.name(id).filter(|name| !name.is_empty()).map(|name| (name.into(), id))).collect();
        if tokens.is_empty() {
            return Ok(Self::default());
        }
        let bytes: usize = tokens.iter().map(|(name, _)| name.len()).sum();
        if bytes > most {
            return Err(Error::Limit {
                what: format!("the spellings of {} special tokens in bytes", tokens.len()),
                value: bytes as u64,
                cap: most as u64,
                remedy: "check the tokenizer's added tokens: models have some hundreds of short ones".into(),
            });
        }
        tokens.sort_by_key(|(name, id)| (Reverse(name.len()), *id));
        let automaton = Automaton::new(tokens.iter().map(|(name, _)| name.as_bytes()));
        Ok(Self { tokens, automaton })
    }

    /// Calls `part` with the parts of `text` in order.
    pub fn split<'a>(&self, text: &'a str, mut part: impl FnMut(Part<'a>)) {
        let mut at = 0;
        for (start, (end, word)) in self.find(text) {
            if at < start {
                part(Part::Text(&text[at..start]));
            }
            part(Part::Token(self.tokens[word as usize].1));
            at = end;
        }
        if at < text.len() {
            part(Part::Text(&text[at..]));
        }
    }

    /// Tokens in the text by where they start: their ends, and their positions in `tokens`. None overlap.
    fn find(&self, text: &str) -> BTreeMap<usize, (usize, u32)> {
        let mut taken: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
        if self.tokens.is_empty() {
            return taken;
        }
        // One candidate for every place where tokens end: the longest that may still fit. The order of positions is that
        // of preference; of the same token, the one further left comes first.
        let found: Vec<_> = self.automaton.scan(text.as_bytes()).map(Reverse).collect();
        let mut waiting = BinaryHeap::from(found);
        while let Some(Reverse((word, end))) = waiting.pop() {
            let length = self.tokens[word as usize].0.len();
            let room = match taken.range(..end).next_back() {
                // Its last byte is taken, and so is that of all others that end here.
                Some((_, (until, _))) if *until >= end => continue,
                Some((_, (until, _))) => end - until,
                None => end,
            };
            if length <= room {
                taken.insert(end - length, (end, word));
            } else if let Some(shorter) = self.automaton.within(word, room) {
                waiting.push(Reverse((shorter, end)));
            }
        }
        taken
    }
}
