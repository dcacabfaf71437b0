//! Vectors that know where they belong: a `(T, d)` tensor, its model and its space.

use crate::error::{Error, Result};
use crate::exchange::Memory;
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

/// `(T, d)` vectors of one space of one model. Cheap to clone and slice; never written after it is made.
#[derive(Clone)]
pub struct Hidden {
    memory: Memory,
    offset: usize,
    rows: usize,
    width: usize,
    storage: Storage,
    space: Space,
    fingerprint: Arc<str>,
}

impl Hidden {
    /// The engine's own floats, `[rows][width]`.
    pub fn new(data: Vec<f32>, width: usize, space: Space, fingerprint: Arc<str>) -> Self {
        let rows = data.len().checked_div(width).unwrap_or(0);
        Self {
            memory: Memory::Single(Arc::new(data)),
            offset: 0,
            rows,
            width,
            storage: Storage::F32,
            space,
            fingerprint,
        }
    }

    /// Vectors in memory that is already there, `rows * width` components from its start.
    pub(crate) fn in_memory(
        memory: Memory,
        rows: usize,
        width: usize,
        storage: Storage,
        space: Space,
        fingerprint: Arc<str>,
    ) -> Self {
        Self { memory, offset: 0, rows, width, storage, space, fingerprint }
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
        self.storage
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
        self.memory.start().wrapping_add(self.offset * self.width * self.storage.bytes())
    }

    /// The components as floats, if they are stored so.
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.memory.f32(self.offset * self.width, self.rows * self.width)
    }

    fn as_bf16(&self) -> &[bf16] {
        self.memory.bf16(self.offset * self.width, self.rows * self.width).unwrap_or_default()
    }

    /// Copies rows `from..` into `out` as floats, as many as fit.
    pub fn copy_rows(&self, from: usize, out: &mut [f32]) {
        let start = from * self.width;
        if let Some(data) = self.as_f32() {
            out.copy_from_slice(&data[start..start + out.len()]);
        } else {
            for (o, v) in out.iter_mut().zip(&self.as_bf16()[start..]) {
                *o = v.to_f32();
            }
        }
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
        if storage == self.storage {
            return self.clone();
        }
        let floats = self.to_vec();
        let mut out = Self::new(Vec::new(), self.width, self.space, self.fingerprint.clone());
        out.rows = self.rows;
        out.storage = storage;
        out.memory = match storage {
            Storage::F32 => Memory::Single(Arc::new(floats)),
            Storage::Bf16 => Memory::Brain(Arc::new(floats.into_iter().map(bf16::from_f32).collect())),
        };
        out
    }

    /// The same vectors declared to belong to another space.
    pub fn with_space(mut self, space: Space) -> Self {
        self.space = space;
        self
    }

    /// Checks width, finiteness, model and space before vectors enter a model. `raw` waives the space.
    pub fn check(&self, width: usize, fingerprint: &str, spaces: &[Space], raw: bool) -> Result<()> {
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
        let bad = |i: usize, value: f32| Error::NonFinite { row: i / width, column: i % width, value };
        if let Some(data) = self.as_f32() {
            // A sum of x * 0 is 0 exactly when every x is finite; the search runs only on failure.
            if data.iter().map(|v| v * 0.0).sum::<f32>() != 0.0
                && let Some(i) = data.iter().position(|v| !v.is_finite())
            {
                return Err(bad(i, data[i]));
            }
        } else {
            let data = self.as_bf16();
            if let Some(i) = data.iter().position(|v| !v.is_finite()) {
                return Err(bad(i, data[i].to_f32()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({} x {}, {:?}, {})", self.rows, self.width, self.storage, self.space)
    }
}
