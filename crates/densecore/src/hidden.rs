//! Vectors that know where they belong: a `(T, d)` tensor, its model and its space.

use crate::error::{Error, Result};
use crate::exchange::Memory;
use densecore_kernels::vector;
use half::bf16;
use std::fmt;
use std::sync::Arc;

/// How the components are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats, what the engine computes in.
    F32,
    /// bfloat16, half the memory.
    Bf16,
}

impl Storage {
    /// Bytes of one component.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// Which vectors these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Token embeddings: what the first layer reads.
    Input,
    /// Residual stream after so many layers (0: before the first), with or without the final norm.
    Layer {
        /// Layers passed.
        layer: usize,
        /// Whether the final norm was applied.
        normed: bool,
    },
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("input"),
            Self::Layer { layer, normed: true } => write!(f, "layer {layer}, normed"),
            Self::Layer { layer, normed: false } => write!(f, "layer {layer}"),
        }
    }
}

/// `(T, d)` vectors of one space of one model. Cheap to clone and slice: clones and slices share the memory. The engine
/// never writes it, but whoever it was borrowed from or exported to may.
#[derive(Clone)]
pub struct Hidden {
    memory: Memory,
    offset: usize,
    rows: usize,
    width: usize,
    space: Space,
    fingerprint: Arc<str>,
}

impl Hidden {
    /// The engine's own floats, `[rows][width]`.
    pub fn new(data: Vec<f32>, width: usize, space: Space, fingerprint: Arc<str>) -> Self {
        let rows = data.len().checked_div(width).unwrap_or(0);
        Self::in_memory(Memory::single(data), rows, width, space, fingerprint)
    }

    /// Vectors in memory that is already there, `rows * width` components from its start.
    pub(crate) fn in_memory(memory: Memory, rows: usize, width: usize, space: Space, fingerprint: Arc<str>) -> Self {
        Self { memory, offset: 0, rows, width, space, fingerprint }
    }

    /// Number of vectors, T.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Components of a vector, d.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How components are stored.
    pub fn storage(&self) -> Storage {
        self.memory.storage()
    }

    /// Whether the owner of borrowed memory does not want it written.
    pub fn is_read_only(&self) -> bool {
        self.memory.is_read_only()
    }

    /// Where these vectors belong.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The model they belong to.
    pub fn fingerprint(&self) -> &Arc<str> {
        &self.fingerprint
    }

    /// The first component's address.
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.start().wrapping_add(self.offset * self.width * self.storage().bytes())
    }

    /// Copies rows `from..` into `out` as floats, as many as fit.
    pub fn copy_rows(&self, from: usize, out: &mut [f32]) {
        let there = self.rows.saturating_sub(from) * self.width;
        let fit = out.len().min(there);
        self.memory.read((self.offset + from) * self.width, &mut out[..fit]);
    }

    /// All components as floats.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.width];
        self.copy_rows(0, &mut out);
        out
    }

    /// Rows `from..to`, sharing the memory.
    pub fn slice_rows(&self, from: usize, to: usize) -> Self {
        let (from, to) = (from.min(self.rows), to.min(self.rows));
        let mut part = self.clone();
        part.offset += from;
        part.rows = to.saturating_sub(from);
        part
    }

    /// The same vectors in another storage.
    pub fn to_storage(&self, storage: Storage) -> Self {
        if storage == self.storage() { self.clone() } else { self.copy_as(storage) }
    }

    /// The same vectors in memory of their own, which nobody else has the address of.
    pub fn copied(&self) -> Self {
        self.copy_as(self.storage())
    }

    fn copy_as(&self, storage: Storage) -> Self {
        let floats = self.to_vec();
        let memory = match storage {
            Storage::F32 => Memory::single(floats),
            Storage::Bf16 => Memory::brain(floats.into_iter().map(bf16::from_f32).collect()),
        };
        Self::in_memory(memory, self.rows, self.width, self.space, Arc::clone(&self.fingerprint))
    }

    /// The same vectors declared to belong to another space.
    pub fn with_space(mut self, space: Space) -> Self {
        self.space = space;
        self
    }

    /// The same vectors declared to belong to a space of some model.
    #[must_use]
    pub fn belonging(self, space: Space, fingerprint: Arc<str>) -> Self {
        Self { space, fingerprint, ..self }
    }

    /// The components as floats, for a model that they enter: the one time a call reads them. Refuses those of another
    /// width, model or space, and what is not finite. `raw` waives the space.
    pub fn read(&self, width: usize, fingerprint: &str, spaces: &[Space], raw: bool) -> Result<Vec<f32>> {
        if self.width != width {
            return Err(Error::Width { expected: width, got: self.width });
        }
        if &*self.fingerprint != fingerprint {
            return Err(Error::Fingerprint { expected: fingerprint.to_owned(), got: self.fingerprint.to_string() });
        }
        if !raw && !spaces.contains(&self.space) {
            let expected: Vec<String> = spaces.iter().map(ToString::to_string).collect();
            return Err(Error::Space {
                expected: expected.join(" or "),
                got: self.space.to_string(),
                remedy: "map it through an edge, use think() to make input vectors, or pass raw=True if you mean it"
                    .into(),
            });
        }
        let data = self.to_vec();
        // The search runs only on failure.
        if !vector::is_finite(&data)
            && let Some(i) = data.iter().position(|v| !v.is_finite())
        {
            return Err(Error::NonFinite { row: i / width, column: i % width, value: data[i] });
        }
        Ok(data)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({} x {}, {:?}, {})", self.rows, self.width, self.storage(), self.space)
    }
}
