//! The vocabulary: how every token is spelled in its file, and the bytes it stands for.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Result};

/// What a token is for; the numbers are those of GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Normal,
    /// Stands for what the vocabulary cannot spell.
    Unknown,
    /// Steers the model; never made from a user's text.
    Control,
    /// Added by the model's authors as a whole; found in any text.
    UserDefined,
    /// A row of the embedding without a meaning.
    Unused,
    /// A single byte, spelled `<0xNN>`.
    Byte,
}

impl Kind {
    /// The kind with this GGUF number; unknown numbers count as unused.
    pub fn from_gguf(number: i32) -> Self {
        match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            6 => Self::Byte,
            _ => Self::Unused,
        }
    }
}

/// How files spell the bytes of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// Each byte as one visible character.
    Bytes,
    /// As text, a space as U+2581; what no token spells is written in tokens of one byte.
    Spaces,
}

/// The character that stands for a space.
pub const SPACE: char = '\u{2581}';

/// Many byte strings in one allocation.
#[derive(Debug, Default)]
struct Strings {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.close();
    }

    /// Ends the string that was written to `data`.
    fn close(&mut self) {
        self.ends.push(self.data.len() as u32);
    }

    fn get(&self, index: u32) -> Option<&[u8]> {
        let index = index as usize;
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.data[start..end])
    }
}

/// An empty slot of the index.
const FREE: u32 = u32::MAX;

/// Spellings, bytes and kinds of all tokens, and the way from a spelling to its id.
#[derive(Debug)]
pub struct Table {
    spelled: Strings,
    bytes: Strings,
    kinds: Vec<Kind>,
    /// Ids by hash of the spelling, linear probing, at most half full.
    slots: Vec<u32>,
    hasher: RandomState,
}

impl Table {
    /// Builds the table; `tokens` gives spelling and kind by id.
    pub fn new<'a>(tokens: impl ExactSizeIterator<Item = (&'a str, Kind)>, spelling: Spelling) -> Result<Self> {
        let count = tokens.len();
        let mut table = Self {
            spelled: Strings::default(),
            bytes: Strings::default(),
            kinds: Vec::with_capacity(count),
            slots: vec![FREE; (count * 2).next_power_of_two()],
            hasher: RandomState::new(),
        };
        table.spelled.ends.reserve_exact(count);
        table.bytes.ends.reserve_exact(count);
        // Real tokens average 7 bytes.
        table.spelled.data.reserve(count * 8);
        table.bytes.data.reserve(count * 8);
        for (id, (spelled, kind)) in tokens.enumerate() {
            table.push(id as u32, spelled, kind, spelling)?;
        }
        Ok(table)
    }

    fn push(&mut self, id: u32, spelled: &str, kind: Kind, spelling: Spelling) -> Result<()> {
        if self.spelled.data.len() + spelled.len() > u32::MAX as usize {
            return Err(Error::Tokenizer("the vocabulary is over 4 GiB of text".into()));
        }
        self.spelled.push(spelled.as_bytes());
        if spelling == Spelling::Spaces && matches!(kind, Kind::Normal | Kind::UserDefined) {
            self.bytes.data.extend_from_slice(spelled.replace(SPACE, " ").as_bytes());
        } else if kind == Kind::Normal {
            unspell_into(spelled, &mut self.bytes.data);
        } else if let (Kind::Byte, Some(byte)) = (kind, byte_of_spelling(spelled)) {
            self.bytes.data.push(byte);
        } else {
            self.bytes.data.extend_from_slice(spelled.as_bytes());
        }
        self.bytes.close();
        self.kinds.push(kind);
        // An empty spelling is a gap in the ids: it has no bytes and cannot be found.
        if spelled.is_empty() {
            return Ok(());
        }
        let mut slot = self.slot(spelled.as_bytes());
        while self.slots[slot] != FREE {
            let other = self.slots[slot];
            if self.spelled.get(other) == Some(spelled.as_bytes()) {
                return Err(Error::Tokenizer(format!(
                    "tokens {other} and {id} are both spelled {spelled:?}; the vocabulary is damaged, fetch the model again"
                )));
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = id;
        Ok(())
    }

    fn slot(&self, spelled: &[u8]) -> usize {
        self.hasher.hash_one(spelled) as usize & (self.slots.len() - 1)
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The id with this spelling.
    pub fn find(&self, spelled: &[u8]) -> Option<u32> {
        let mut slot = self.slot(spelled);
        while self.slots[slot] != FREE {
            if self.spelled.get(self.slots[slot]) == Some(spelled) {
                return Some(self.slots[slot]);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        None
    }

    /// How the token is written in its file.
    pub fn spelled(&self, id: u32) -> Option<&[u8]> {
        self.spelled.get(id)
    }

    /// The spelling as text.
    pub fn name(&self, id: u32) -> Option<&str> {
        std::str::from_utf8(self.spelled.get(id)?).ok()
    }

    /// The bytes the token stands for.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id)
    }

    /// What the token is for.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// Makes a token a control token, as the reference does with names that can mean nothing else.
    pub fn set_control(&mut self, id: u32) {
        if let Some(kind) = self.kinds.get_mut(id as usize) {
            *kind = Kind::Control;
        }
    }
}

/// `<0x1F>` to 0x1F.
pub(super) fn byte_of_spelling(spelled: &str) -> Option<u8> {
    u8::from_str_radix(spelled.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// Byte-level vocabularies spell each byte as one visible character: printable Latin-1 bytes as themselves, the other
/// 68, in order, as the characters from U+0100 on.
const fn is_own_character(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that spells each byte.
pub const SPELLING: [char; 256] = {
    let mut table = ['\0'; 256];
    let mut byte = 0;
    let mut next = 0x100;
    while byte < 256 {
        if is_own_character(byte as u8) {
            table[byte] = byte as u8 as char;
        } else {
            table[byte] = match char::from_u32(next) {
                Some(c) => c,
                None => '\0',
            };
            next += 1;
        }
        byte += 1;
    }
    table
};

/// The byte each of the first 0x144 characters spells; 0x100 for none.
const UNSPELLING: [u16; 0x144] = {
    let mut table = [0x100; 0x144];
    let mut byte = 0;
    while byte < 256 {
        table[SPELLING[byte] as usize] = byte as u16;
        byte += 1;
    }
    table
};

/// Appends the spelling of `bytes`.
pub fn spell_into(bytes: &[u8], out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    for &byte in bytes {
        out.extend_from_slice(SPELLING[byte as usize].encode_utf8(&mut buffer).as_bytes());
    }
}

/// Appends the bytes a spelling stands for; a spelling outside the alphabet stands for itself.
fn unspell_into(spelled: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in spelled.chars() {
        match UNSPELLING.get(c as usize) {
            Some(&byte) if byte < 0x100 => out.push(byte as u8),
            _ => {
                out.truncate(start);
                out.extend_from_slice(spelled.as_bytes());
                return;
            }
        }
    }
}
