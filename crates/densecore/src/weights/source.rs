//! One model's weights, whatever file they came from.

use std::path::Path;

use densecore_kernels::Format;

use super::gguf::GgufFile;
use super::metadata::brief;
use super::near::near;
use super::safetensors::SafetensorsDir;
use super::{check, gguf_config, hf_config, identity};
use crate::arch::role::numbered;
use crate::arch::{FileKind, ModelConfig, Role};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// A tensor as the file holds it. `data` has no alignment beyond a byte in safetensors files of some writers.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Row-major shape, `[out, in]` for a matrix.
    pub shape: Vec<usize>,
    /// How the numbers are stored.
    pub format: Format,
    /// The stored bytes, rows one after another.
    pub data: &'a [u8],
}

impl TensorView<'_> {
    /// Rows `from..from + count` of its first dimension, which must have `all` of them.
    fn rows(&self, from: usize, count: usize, all: usize) -> Option<Self> {
        let (first, inner) = self.shape.split_first()?;
        if *first != all || !self.data.len().is_multiple_of(all) {
            return None;
        }
        let row = self.data.len() / all;
        let shape = std::iter::once(count).chain(inner.iter().copied()).collect();
        Some(Self { shape, data: &self.data[from * row..(from + count) * row], ..self.clone() })
    }
}

/// An open, checked set of tensors. Immutable and shared by threads.
#[derive(Debug)]
pub enum Weights {
    /// One GGUF file.
    Gguf(GgufFile),
    /// A Hugging Face folder.
    Safetensors(SafetensorsDir),
}

impl Weights {
    /// Opens a `.gguf` file, a safetensors folder, or `model.safetensors` beside its `config.json`.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        if path.is_dir() {
            return SafetensorsDir::open(path, limits).map(Self::Safetensors);
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") {
            return SafetensorsDir::open_file(path, limits).map(Self::Safetensors);
        }
        GgufFile::open(path, limits).map(Self::Gguf)
    }

    /// The file or folder, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(file) => file.path(),
            Self::Safetensors(dir) => dir.path(),
        }
    }

    /// One tensor by its name in the file; the error lists names like it.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        self.find(name).ok_or_else(|| {
            let close = near(name, self.names().into_iter());
            let hint = if close.is_empty() {
                "the file holds no tensors".to_owned()
            } else {
                format!("names like it: {}", close.iter().map(|n| brief(n)).collect::<Vec<_>>().join(", "))
            };
            self.bad(format!("tensor {:?} is missing; {hint}", brief(name)))
        })
    }

    /// Whether the file holds a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// All tensor names, in file order.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Gguf(file) => file.names().collect(),
            Self::Safetensors(dir) => dir.names().collect(),
        }
    }

    /// What kind of file it is.
    pub fn kind(&self) -> FileKind {
        match self {
            Self::Gguf(_) => FileKind::Gguf,
            Self::Safetensors(_) => FileKind::Folder,
        }
    }

    /// The tensor that plays a part in a model; an error when it is missing.
    pub fn role(&self, config: &ModelConfig, role: Role) -> Result<TensorView<'_>> {
        match self.role_opt(config, role)? {
            Some(view) => Ok(view),
            None => self.tensor(&config.arch.tensor_name(role, self.kind())),
        }
    }

    /// The tensor that plays a part in a model, if the file has it: alone, or as rows of one that holds several.
    pub fn role_opt(&self, config: &ModelConfig, role: Role) -> Result<Option<TensorView<'_>>> {
        if let Some(view) = self.find(&config.arch.tensor_name(role, self.kind())) {
            return Ok(Some(view));
        }
        for (parts, kind, pattern) in config.arch.family().joined {
            let Some(place) = parts.iter().position(|part| *part == role.part).filter(|_| *kind == self.kind()) else {
                continue;
            };
            let Some(whole) = self.find(&numbered(pattern, role)) else { continue };
            let rows: Vec<usize> = parts.iter().map(|part| config.rows(*part)).collect();
            let (from, all) = (rows[..place].iter().sum::<usize>(), rows.iter().sum::<usize>());
            return match whole.rows(from, rows[place], all) {
                Some(part) => Ok(Some(part)),
                None => Err(self.bad(format!(
                    "tensor {:?} has shape {:?} but the model's numbers call for {all} rows",
                    whole.name, whole.shape
                ))),
            };
        }
        Ok(None)
    }

    /// Size of the weight files together (bytes).
    pub fn file_bytes(&self) -> u64 {
        match self {
            Self::Gguf(file) => file.map().bytes().len() as u64,
            Self::Safetensors(dir) => dir.maps().map(|map| map.bytes().len() as u64).sum(),
        }
    }

    /// Numbers of all tensors together.
    pub fn numbers(&self) -> u64 {
        let size = |name: &&str| self.find(name).map_or(0, |view| view.shape.iter().map(|&d| d as u64).product());
        self.names().iter().map(size).sum()
    }

    /// Gives the whole pages inside a view back to the system: what was repacked need not stay resident twice.
    /// The view stays valid; reading it again fetches the pages from the file.
    pub fn release(&self, view: &TensorView<'_>) {
        let give = |map: &super::mmap::Map| {
            if let Some(start) = map.offset_of(view.data) {
                map.release(start, view.data.len());
            }
        };
        match self {
            Self::Gguf(file) => give(file.map()),
            Self::Safetensors(dir) => dir.maps().for_each(give),
        }
    }

    /// Reads the model's shape and checks every tensor against it.
    pub fn config(&self, limits: &Limits) -> Result<ModelConfig> {
        let config = match self {
            Self::Gguf(file) => gguf_config::read(file, limits)?,
            Self::Safetensors(dir) => hf_config::read(dir, limits)?,
        };
        check::tensors(self, &config)?;
        Ok(config)
    }

    /// A cheap identity of the content, `arch-` and 16 hex digits: headers, lengths, three pages of every tensor, and
    /// the files that make text of tokens. Equal files agree wherever they lie; a matrix that was trained is seen, a
    /// few changed numbers may not be (verify for that). Call it once, at load: sampling ends by giving pages back.
    pub fn fingerprint(&self) -> String {
        identity::fingerprint(self)
    }

    /// A format error at this file.
    pub(crate) fn bad(&self, detail: impl Into<String>) -> Error {
        Error::Format {
            path: self.path().into(),
            format: match self {
                Self::Gguf(_) => "GGUF",
                Self::Safetensors(_) => "safetensors",
            },
            detail: detail.into(),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<TensorView<'_>> {
        match self {
            Self::Gguf(file) => file.tensor(name),
            Self::Safetensors(dir) => dir.tensor(name),
        }
    }
}
