//! Who shares kept prefixes: calls of one salt among themselves, and calls without one.

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::model::prefix::Key;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// A text that keeps the prefixes of some calls from all others, or none. It is not shown: who knows it can ask for what its
/// owner has read.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Salt(Option<String>);

impl Salt {
    /// The salt of this text.
    pub fn of(text: impl Into<String>) -> Self {
        Self(Some(text.into()))
    }

    /// Refuses a salt without content, and one that is too long.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        match &self.0 {
            Some(text) if text.is_empty() || text.len() > limits.salt_bytes => Err(Error::argument(
                "cache_salt",
                format!("a text of {} bytes", text.len()),
                format!(
                    "it must have 1 to {} bytes; leave it out to share with all calls that have none",
                    limits.salt_bytes
                ),
            )),
            _ => Ok(()),
        }
    }

    /// This salt, or the other if there is none.
    pub(crate) fn or<'a>(&'a self, other: &'a Self) -> &'a Self {
        if self.0.is_some() { self } else { other }
    }

    /// What the key of a first block begins with.
    pub(crate) fn key(&self) -> Key {
        let hashed = |text: &String| Sha256::new_with_prefix(b"cache_salt").chain_update(text).finalize().into();
        self.0.as_ref().map_or_else(Key::default, hashed)
    }
}

impl From<Option<String>> for Salt {
    fn from(text: Option<String>) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Salt(..)" } else { "Salt" })
    }
}
