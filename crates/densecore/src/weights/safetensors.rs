//! A Hugging Face folder: config.json and one or several safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map as JsonMap, Value};

use super::metadata::brief;
use super::mmap::Map;
use super::safetensors_file::{SafetensorsFile, bad};
use super::safetensors_header as json;
use super::source::TensorView;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// An open, checked folder.
#[derive(Debug)]
pub struct SafetensorsDir {
    path: PathBuf,
    files: Vec<SafetensorsFile>,
    by_name: HashMap<Box<str>, (usize, usize)>,
    order: Vec<(usize, usize)>,
    config_source: Vec<u8>,
    config: JsonMap<String, Value>,
    generation: JsonMap<String, Value>,
}

impl SafetensorsDir {
    /// Opens `config.json` with `model.safetensors`, or with the shards its index names.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let single = path.join("model.safetensors");
        let index = path.join("model.safetensors.index.json");
        if single.is_file() {
            Self::open_file(&single, limits)
        } else if index.is_file() {
            Self::open_file(&index, limits)
        } else {
            Err(Error::NotFound {
                path: path.into(),
                detail: "the folder holds neither model.safetensors nor model.safetensors.index.json; give a .gguf file by its own path, and convert pickled weights (.bin, .pt) to safetensors: they are never read".into(),
            })
        }
    }

    /// Opens one safetensors file or one shard index; `config.json` lies beside it.
    pub fn open_file(file: &Path, limits: &Limits) -> Result<Self> {
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let config_path = folder.join("config.json");
        let config_source = read_small(&config_path, limits.config_file)?;
        let config = object(&config_path, &config_source)?;
        let generation_path = folder.join("generation_config.json");
        let generation = if generation_path.exists() {
            object(&generation_path, &read_small(&generation_path, limits.config_file)?)?
        } else {
            JsonMap::new()
        };
        let files = if file.extension() == Some(OsStr::new("json")) {
            shards(folder, file, limits)?
        } else {
            vec![SafetensorsFile::open(file, limits)?]
        };
        let mut by_name = HashMap::new();
        let mut order = Vec::new();
        for (i, part) in files.iter().enumerate() {
            for (j, name) in part.names().enumerate() {
                // Within one file the header reader refuses repeats; across shards the index check does.
                by_name.insert(name.into(), (i, j));
                order.push((i, j));
            }
        }
        Ok(Self { path: folder.into(), files, by_name, order, config_source, config, generation })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// config.json, parsed.
    pub fn config(&self) -> &JsonMap<String, Value> {
        &self.config
    }

    /// generation_config.json, parsed; empty when there is none.
    pub fn generation_config(&self) -> &JsonMap<String, Value> {
        &self.generation
    }

    /// config.json as it stands on disk.
    pub(super) fn config_source(&self) -> &[u8] {
        &self.config_source
    }

    /// The files, in shard order.
    pub fn files(&self) -> &[SafetensorsFile] {
        &self.files
    }

    /// The maps under the files.
    pub fn maps(&self) -> impl Iterator<Item = &Map> {
        self.files.iter().map(SafetensorsFile::map)
    }

    /// Tensor names in file order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.order.iter().map(|&(i, j)| self.files[i].name(j))
    }

    /// One tensor, if the folder has it.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let &(file, index) = self.by_name.get(name)?;
        Some(self.files[file].view(index))
    }
}

/// Opens every shard an index names and checks that index and shards agree on where each tensor is.
fn shards(folder: &Path, index: &Path, limits: &Limits) -> Result<Vec<SafetensorsFile>> {
    let source = read_small(index, limits.json_file)?;
    let places = json::weight_map(&source, limits).map_err(|e| bad(index, format!("it cannot be read: {e}")))?;
    let mut by_shard: BTreeMap<&str, usize> = BTreeMap::new();
    for shard in places.values() {
        *by_shard.entry(shard).or_default() += 1;
    }
    if by_shard.is_empty() {
        return Err(bad(index, "its weight_map is empty"));
    }
    for shard in by_shard.keys() {
        let mut parts = Path::new(shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || shard.contains(['/', '\\', ':', '\0']) || !shard.ends_with(".safetensors") {
            return Err(bad(
                index,
                format!("it names the shard {:?}; a shard is a .safetensors file in the same folder", brief(shard)),
            ));
        }
    }
    let mut files = Vec::with_capacity(by_shard.len());
    for (shard, count) in by_shard {
        let file = SafetensorsFile::open(&folder.join(shard), limits)?;
        if let Some(stray) = file.names().find(|&name| places.get(name).map(String::as_str) != Some(shard)) {
            return Err(bad(
                index,
                format!(
                    "shard {:?} holds tensor {:?}, which the index does not place there",
                    brief(shard),
                    brief(stray)
                ),
            ));
        }
        if file.names().len() != count {
            return Err(bad(
                index,
                format!(
                    "it places {count} tensors in {:?}, which holds {}; fetch the shard again",
                    brief(shard),
                    file.names().len()
                ),
            ));
        }
        files.push(file);
    }
    Ok(files)
}

/// Reads a small file whole; its cap is checked before and while reading.
fn read_small(path: &Path, cap: u64) -> Result<Vec<u8>> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound {
            path: path.into(),
            detail: "the file is missing from the model's folder; pull the model again".into(),
        },
        _ => Error::io("reading", path, source),
    };
    let facts = std::fs::metadata(path).map_err(io)?;
    if !facts.is_file() {
        return Err(bad(path, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    if facts.len() <= cap {
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(cap + 1).read_to_end(&mut bytes).map_err(io)?;
    }
    let size = facts.len().max(bytes.len() as u64);
    if size > cap {
        return Err(Error::Limit {
            what: format!("the size of {}", path.display()),
            value: size,
            cap,
            remedy: "it should be a small JSON file: download it again from its publisher".into(),
        });
    }
    Ok(bytes)
}

fn object(path: &Path, source: &[u8]) -> Result<JsonMap<String, Value>> {
    let fail = |detail: String| Error::Format { path: path.into(), format: "JSON", detail };
    match serde_json::from_slice(source) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(fail("it must hold one JSON object".into())),
        Err(e) => Err(fail(e.to_string())),
    }
}
