//! Quotes: the tokens by which JSON strings are told.

use llguidance::toktrie::SimpleVob;

/// Tokens by which JSON strings are told.
pub(super) struct Quotes {
    /// Tokens that begin with a quote.
    pub ends: Vec<u32>,
    /// Tokens in which a string ends or begins.
    pub marks: Vec<bool>,
    /// Tokens behind which an escape or a character is to be finished: until then no quote ends the string.
    pub unfinished: Vec<bool>,
    /// A letter and a line feed: strings may hold the one and not the other.
    letter: u32,
    line: u32,
}

impl Quotes {
    pub fn new(words: &[Vec<u8>]) -> Option<Self> {
        let find = |word: &[u8]| words.iter().position(|w| w == word).map(|id| id as u32);
        let is_mark = |w: &Vec<u8>| (0..w.len()).any(|i| w[i] == b'"' && (i == 0 || w[i - 1] != b'\\'));
        let escapes = |w: &Vec<u8>| w.iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1;
        Some(Self {
            unfinished: words.iter().map(|w| escapes(w) || std::str::from_utf8(w).is_err()).collect(),
            ends: (0..words.len() as u32).filter(|&id| words[id as usize].first() == Some(&b'"')).collect(),
            marks: words.iter().map(is_mark).collect(),
            letter: find(b"a")?,
            line: find(b"\n")?,
        })
    }

    /// Whether the next token goes on with a string, or ends it.
    pub fn inside(&self, mask: &SimpleVob) -> bool {
        let ends = self.ends.first().is_some_and(|&id| mask.is_allowed(id));
        ends && mask.is_allowed(self.letter) && !mask.is_allowed(self.line)
    }
}
