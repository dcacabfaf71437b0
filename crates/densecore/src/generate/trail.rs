//! The keys of a sequence's full blocks, made once, as its rows become known.

use super::rows::{Row, Rows};
use super::salt::Salt;
use crate::model::prefix::Key;
use densecore_kernels::attention::SPAN;
use sha2::{Digest, Sha256};

/// Keys of what a sequence has been given to read since its beginning: for each full block the SHA-256 of the key before
/// it and of its rows; before the first block stands the salt's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail {
    keys: Vec<Key>,
    /// The key before the block that is not full yet, and its rows.
    open: Sha256,
    rows: usize,
    bytes: Vec<u8>,
}

impl Trail {
    /// The trail of a sequence that begins with `rows`.
    pub fn new(rows: &Rows, salt: &Salt) -> Self {
        let mut trail = Self { open: Sha256::new_with_prefix(salt.key()), ..Self::default() };
        trail.push(rows);
        trail
    }

    /// Goes on with more rows.
    pub fn push(&mut self, rows: &Rows) {
        rows.each(&mut |row| {
            self.bytes.clear();
            // A tag keeps ids and vectors of the same bytes apart.
            match row {
                Row::Id(id) => {
                    self.bytes.push(0);
                    self.bytes.extend(id.to_le_bytes());
                }
                Row::Vector(row) => {
                    self.bytes.push(1);
                    self.bytes.extend(row.iter().flat_map(|c| c.to_le_bytes()));
                }
            }
            self.open.update(&self.bytes);
            self.rows += 1;
            if self.rows.is_multiple_of(SPAN) {
                let key: Key = self.open.finalize_reset().into();
                self.open.update(key);
                self.keys.push(key);
            }
        });
    }

    /// Keys of the full blocks, in order.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}
