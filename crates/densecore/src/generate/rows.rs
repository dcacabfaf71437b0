//! A prompt as positions: token ids, and vectors as they were when the call began.
//!
//! Vectors are copied from the caller's memory once, here. Whatever comes later (the layers' input, the keys of kept
//! prefixes, a context's history) comes from this copy, so all of it agrees however the caller writes meanwhile.

use crate::error::Result;
use crate::hardware;
use crate::hidden::{Hidden, Space};
use crate::model::embed::Embedding;
use std::ops::Range;
use std::sync::Arc;

/// Vectors that the first layer reads.
pub(crate) const INPUT: [Space; 2] = [Space::Input, Space::Layer { layer: 0, normed: false }];

/// Copies below this (bytes) are made without asking the system what is free.
const SMALL: u64 = 64 << 20;

/// Refuses vectors whose copies would not fit into memory.
pub(crate) fn require_copies<'a>(vectors: impl Iterator<Item = &'a Hidden>) -> Result<()> {
    let bytes = vectors.map(|v| (v.rows() * v.width() * size_of::<f32>()) as u64).sum();
    if bytes < SMALL {
        return Ok(());
    }
    hardware::require("a copy of the vectors", bytes, "give fewer vectors at once")
}

/// Positions: ids and vectors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    parts: Vec<Part>,
    len: usize,
}

#[derive(Debug, Clone)]
enum Part {
    Ids(Vec<u32>),
    Vectors(Vectors),
}

/// One position.
pub(crate) enum Row<'a> {
    Id(u32),
    Vector(&'a [f32]),
}

/// Some rows of vectors that nobody writes any more.
#[derive(Debug, Clone)]
struct Vectors {
    /// `(n, width)`, of which `rows` are meant.
    data: Arc<Vec<f32>>,
    width: usize,
    rows: Range<usize>,
}

impl Vectors {
    /// Components of rows `from..`, counted within those meant.
    fn from(&self, from: usize) -> &[f32] {
        &self.data[(self.rows.start + from) * self.width..self.rows.end * self.width]
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::Vectors(v) => v.rows.len(),
        }
    }
}

impl Rows {
    pub fn ids(ids: Vec<u32>) -> Self {
        Self::part(Part::Ids(ids))
    }

    /// Vectors `(n, width)`.
    pub fn vectors(data: Vec<f32>, width: usize) -> Self {
        let rows = 0..data.len().checked_div(width).unwrap_or(0);
        Self::part(Part::Vectors(Vectors { data: Arc::new(data), width, rows }))
    }

    fn part(part: Part) -> Self {
        let mut rows = Self::default();
        rows.push(part);
        rows
    }

    fn push(&mut self, part: Part) {
        if part.len() > 0 {
            self.len += part.len();
            self.parts.push(part);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends rows of another prompt.
    pub fn append(&mut self, other: &Self) {
        other.parts.iter().for_each(|part| self.push(part.clone()));
    }

    /// Drops rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        let mut left = len;
        self.parts.retain_mut(|part| {
            match part {
                Part::Ids(ids) => ids.truncate(left),
                Part::Vectors(v) => v.rows.end = v.rows.end.min(v.rows.start + left),
            }
            left -= part.len();
            part.len() > 0
        });
        self.len = self.len.min(len);
    }

    /// The last row alone.
    pub fn last(&self) -> Self {
        match self.parts.last() {
            Some(Part::Ids(ids)) => Self::ids(ids[ids.len() - 1..].to_vec()),
            Some(Part::Vectors(v)) => Self::vectors(v.from(v.rows.len() - 1).to_vec(), v.width),
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

    /// Shows every row, in order.
    pub fn each(&self, see: &mut dyn FnMut(Row<'_>)) {
        for part in &self.parts {
            match part {
                Part::Ids(ids) => ids.iter().for_each(|&id| see(Row::Id(id))),
                Part::Vectors(v) => v.from(0).chunks_exact(v.width).for_each(|row| see(Row::Vector(row))),
            }
        }
    }

    /// Writes the input vectors of positions `from..` to `out`, `(n, d)`.
    pub fn fill(&self, embedding: &Embedding, width: usize, from: usize, out: &mut [f32]) -> Result<()> {
        let (mut at, mut out) = (from, out);
        for part in &self.parts {
            let len = part.len();
            if at >= len {
                at -= len;
                continue;
            }
            let take = (len - at).min(out.len() / width);
            let (now, rest) = out.split_at_mut(take * width);
            match part {
                Part::Ids(ids) => embedding.rows(&ids[at..at + take], now)?,
                Part::Vectors(v) => now.copy_from_slice(&v.from(at)[..take * width]),
            }
            (out, at) = (rest, 0);
            if out.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
