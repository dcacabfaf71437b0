//! Tokens to text one at a time, never splitting a character.

use super::tokenizer::Tokenizer;

/// Turns a stream of ids into text. What was returned joins to exactly what decoding all ids at once gives.
#[derive(Debug)]
pub struct TokenStream {
    tokenizer: Tokenizer,
    keep_special: bool,
    /// The beginning of a character whose end has not come yet: 3 bytes at most.
    pending: Vec<u8>,
    /// The next byte is the first, and not kept if it is a space.
    strips: bool,
}

impl TokenStream {
    pub(super) fn new(tokenizer: Tokenizer, keep_special: bool) -> Self {
        let strips = tokenizer.strips();
        Self { tokenizer, keep_special, pending: Vec::new(), strips }
    }

    /// Takes one id and returns the text that is complete with it; an id outside the vocabulary stands for nothing.
    pub fn push(&mut self, id: u32) -> String {
        if !self.keep_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        let mut bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        if self.strips && !bytes.is_empty() {
            self.strips = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let used = drain_complete(&self.pending, &mut text);
        self.pending.drain(..used);
        text
    }

    /// Ends the stream and returns what is left: the beginning of a character that never ended, as U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Appends all text that no further byte can change and returns the number of bytes used. Broken sequences become
/// U+FFFD; only the beginning of a character at the very end stays unused.
fn drain_complete(bytes: &[u8], text: &mut String) -> usize {
    let mut used = 0;
    while used < bytes.len() {
        match std::str::from_utf8(&bytes[used..]) {
            Ok(rest) => {
                text.push_str(rest);
                return bytes.len();
            }
            Err(error) => {
                let valid = used + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[used..valid]));
                used = valid;
                let Some(broken) = error.error_len() else {
                    return used;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                used += broken;
            }
        }
    }
    used
}
