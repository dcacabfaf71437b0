//! A model's vocabulary as the rules of forms see it.

use crate::text::{Special, Tokenizer};
use llguidance::toktrie::{TokTrie, TokenId, TokenizerEnv};

/// The vocabulary as the rules see it.
pub(super) struct Vocabulary {
    pub trie: TokTrie,
    pub tokenizer: Tokenizer,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        // Only whole characters have a spelling of their own; what is left of one is bytes.
        let whole = match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = std::str::from_utf8(&bytes[..whole]).unwrap_or_default();
        let mut ids = self.tokenizer.encode(text, Special::AsText).unwrap_or_default();
        ids.extend(self.trie.greedy_tokenize(&bytes[whole..]));
        ids
    }
}
