//! Finds special tokens in a text.

use super::table::Table;

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
    /// By first byte: positions in `tokens`.
    first: Vec<Vec<u32>>,
}

impl Specials {
    /// Looks for these ids of the table.
    pub fn new(table: &Table, ids: impl Iterator<Item = u32>) -> Self {
        let mut tokens: Vec<(Box<str>, u32)> =
            ids.filter_map(|id| table.name(id).filter(|name| !name.is_empty()).map(|name| (name.into(), id))).collect();
        if tokens.is_empty() {
            return Self::default();
        }
        tokens.sort_by_key(|(name, id)| (std::cmp::Reverse(name.len()), *id));
        let mut first = vec![Vec::new(); 256];
        for (position, (name, _)) in tokens.iter().enumerate() {
            first[name.as_bytes()[0] as usize].push(position as u32);
        }
        Self { tokens, first }
    }

    /// Calls `part` with the parts of `text` in order.
    pub fn split<'a>(&self, text: &'a str, mut part: impl FnMut(Part<'a>)) {
        let found = self.find(text);
        let mut at = 0;
        for (start, position) in found {
            let (name, id) = &self.tokens[position as usize];
            if at < start {
                part(Part::Text(&text[at..start]));
            }
            part(Part::Token(*id));
            at = start + name.len();
        }
        if at < text.len() {
            part(Part::Text(&text[at..]));
        }
    }

    /// Starts of the tokens in the text, in order, without overlaps.
    fn find(&self, text: &str) -> Vec<(usize, u32)> {
        if self.tokens.is_empty() {
            return Vec::new();
        }
        let bytes = text.as_bytes();
        let mut candidates: Vec<(u32, usize)> = Vec::new();
        for (start, byte) in bytes.iter().enumerate() {
            for &position in &self.first[*byte as usize] {
                if bytes[start..].starts_with(self.tokens[position as usize].0.as_bytes()) {
                    candidates.push((position, start));
                }
            }
        }
        if candidates.is_empty() {
            return Vec::new();
        }
        candidates.sort_unstable();
        let mut taken = vec![false; bytes.len()];
        let mut found: Vec<(usize, u32)> = Vec::new();
        for (position, start) in candidates {
            let end = start + self.tokens[position as usize].0.len();
            // Those taken before are no shorter, so an overlap always covers an end of this one.
            if !taken[start] && !taken[end - 1] {
                taken[start..end].fill(true);
                found.push((start, position));
            }
        }
        found.sort_unstable();
        found
    }
}
