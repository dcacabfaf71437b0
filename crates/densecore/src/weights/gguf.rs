//! A GGUF file: metadata and tensors over one read-only map, versions 2 and 3, little-endian.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cursor::{Cursor, bad};
use super::gguf_tensors::{self, Record};
use super::metadata::{self, Array, Metadata, Numbers, StrArray, Value, text_at};
use super::mmap::Map;
use super::source::TensorView;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Alignment of the data when the file does not say (bytes).
const DEFAULT_ALIGNMENT: u64 = 32;
/// Largest alignment accepted (bytes): a page of any machine; more only hides damage.
const MAX_ALIGNMENT: u64 = 64 << 10;
/// Least bytes of one metadata entry (key length, type, a one-byte value).
const LEAST_ENTRY: u64 = 8 + 4 + 1;
/// Least bytes of one tensor record (name length, dimension count, one dimension, type, offset).
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// An open, fully checked GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    map: Map,
    version: u32,
    metadata: Metadata,
    records: Vec<Record>,
    by_name: HashMap<Box<str>, usize>,
    header: usize,
}

impl GgufFile {
    /// Maps and checks a file.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        Self::parse(path, Map::open(path)?, limits)
    }

    /// Checks bytes already in memory; `name` stands for the path in messages.
    pub fn from_bytes(name: &str, bytes: impl Into<Arc<[u8]>>, limits: &Limits) -> Result<Self> {
        Self::parse(Path::new(name), Map::from_bytes(bytes.into()), limits)
    }

    fn parse(path: &Path, map: Map, limits: &Limits) -> Result<Self> {
        let file = map.bytes();
        let mut cursor = Cursor::new(file, path);
        let version = version(&mut cursor, file)?;
        let tensors = cursor.u64("the tensor count")?;
        let entries = cursor.u64("the metadata count")?;
        bounded("tensors", tensors, limits.tensors, LEAST_TENSOR, &cursor)?;
        bounded("metadata entries", entries, limits.metadata_entries, LEAST_ENTRY, &cursor)?;
        let metadata = metadata::read(&mut cursor, entries, limits)?;
        let alignment = alignment(&metadata, path)?;

        let tensors = gguf_tensors::read(&mut cursor, tensors, alignment, path, limits)?;
        let header = cursor.at();
        Ok(Self {
            path: path.into(),
            map,
            version,
            metadata,
            records: tensors.records,
            by_name: tensors.by_name,
            header,
        })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The GGUF version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The map under the file.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Bytes before the data: magic, counts, metadata and tensor records.
    pub fn header(&self) -> &[u8] {
        &self.map.bytes()[..self.header]
    }

    /// Tensor names in file order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.records.iter().map(|r| &*r.name)
    }

    /// One tensor, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let record = &self.records[*self.by_name.get(name)?];
        Some(TensorView {
            name: &record.name,
            shape: record.shape.clone(),
            format: record.format,
            data: &self.map.bytes()[record.bytes.clone()],
        })
    }

    /// Metadata keys in alphabetical order.
    pub fn meta_keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(|k| &**k)
    }

    /// Whether the metadata holds `key`.
    pub fn meta_has(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// A non-negative integer of any width; `None` when the key is absent, an error when it is something else.
    pub fn meta_u64(&self, key: &str) -> Result<Option<u64>> {
        self.scalar(key, "a non-negative integer", |v| match *v {
            Value::Unsigned(v) => Some(v),
            Value::Signed(v) => u64::try_from(v).ok(),
            _ => None,
        })
    }

    /// A number as `f32`; integers are converted.
    pub fn meta_f32(&self, key: &str) -> Result<Option<f32>> {
        self.scalar(key, "a number", |v| match *v {
            Value::Float(v) => Some(v as f32),
            Value::Unsigned(v) => Some(v as f32),
            Value::Signed(v) => Some(v as f32),
            _ => None,
        })
    }

    /// A bool.
    pub fn meta_bool(&self, key: &str) -> Result<Option<bool>> {
        self.scalar(key, "a bool", |v| match *v {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// A string, borrowed from the map.
    pub fn meta_str(&self, key: &str) -> Result<Option<&str>> {
        self.scalar(key, "a string", |v| match v {
            Value::Text(range) => Some(text_at(self.map.bytes(), range.clone())),
            _ => None,
        })
    }

    /// An array of strings, borrowed from the map; an absent key is an error.
    pub fn meta_str_array(&self, key: &str) -> Result<StrArray<'_>> {
        StrArray::new(self.map.bytes(), self.array(key)?).ok_or_else(|| self.mistyped(key, "an array of strings"))
    }

    /// An array of integers that fit `i32`; an absent key is an error.
    pub fn meta_i32_array(&self, key: &str) -> Result<impl ExactSizeIterator<Item = i32> + '_> {
        let numbers = self.numbers(key, "an array of 32-bit integers")?;
        let fits = |v: f64| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&v);
        if !numbers.whole() || !numbers.clone().all(fits) {
            return Err(self.mistyped(key, "an array of 32-bit integers"));
        }
        Ok(numbers.map(|v| v as i32))
    }

    /// An array of numbers as `f32`; an absent key is an error.
    pub fn meta_f32_array(&self, key: &str) -> Result<impl ExactSizeIterator<Item = f32> + '_> {
        Ok(self.numbers(key, "an array of numbers")?.map(|v| v as f32))
    }

    /// The value of a key in words, for messages.
    pub(super) fn describe(&self, key: &str) -> String {
        match self.metadata.get(key) {
            Some(value) => value.describe(self.map.bytes()),
            None => "absent".into(),
        }
    }

    /// A value that means "off": zero, false, or an empty string.
    pub(super) fn is_neutral(&self, key: &str) -> bool {
        match self.metadata.get(key) {
            None | Some(Value::Unsigned(0) | Value::Signed(0) | Value::Bool(false)) => true,
            Some(Value::Float(v)) => *v == 0.0,
            Some(Value::Text(range)) => range.is_empty(),
            Some(_) => false,
        }
    }

    fn numbers(&self, key: &str, wanted: &str) -> Result<Numbers<'_>> {
        Numbers::new(self.map.bytes(), self.array(key)?).ok_or_else(|| self.mistyped(key, wanted))
    }

    fn array(&self, key: &str) -> Result<&Array> {
        match self.metadata.get(key) {
            Some(Value::Array(array)) => Ok(array),
            Some(_) => Err(self.mistyped(key, "an array")),
            None => Err(bad(&self.path, format!("metadata key {key:?} is missing"))),
        }
    }

    fn scalar<'a, T>(&'a self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.mistyped(key, wanted)),
        }
    }

    fn mistyped(&self, key: &str, wanted: &str) -> Error {
        bad(&self.path, format!("metadata key {key:?} is {}; it must be {wanted}", self.describe(key)))
    }
}

fn version(cursor: &mut Cursor<'_>, file: &[u8]) -> Result<u32> {
    cursor.skip(4, "the magic number")?;
    if file[..4] != *b"GGUF" {
        return Err(cursor.bad(format!(
            "it starts with \"{}\", not \"GGUF\"; give a .gguf file or a safetensors folder",
            file[..4].escape_ascii()
        )));
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => Ok(version),
        v if matches!(v.swap_bytes(), 1..=3) => Err(Error::unsupported(
            "a big-endian GGUF file",
            format!("version field {v:#010x}"),
            "convert it to little-endian",
        )),
        v => Err(Error::unsupported(
            "the GGUF version",
            v,
            "versions 2 and 3 are read: convert the file with a current llama.cpp",
        )),
    }
}

/// Refuses a count that cannot be true of the bytes left, or that is over its cap.
fn bounded(what: &str, count: u64, cap: u64, least: u64, cursor: &Cursor<'_>) -> Result<()> {
    if count.checked_mul(least).is_none_or(|need| need > cursor.left() as u64) {
        return Err(cursor.bad(format!(
            "the header claims {count} {what} but only {} bytes follow; the file is cut short or damaged",
            cursor.left()
        )));
    }
    if count > cap {
        return Err(Error::Limit {
            what: format!("the number of {what}"),
            value: count,
            cap,
            remedy: "no genuine file comes near it: download it again from its publisher".into(),
        });
    }
    Ok(())
}

fn alignment(metadata: &Metadata, path: &Path) -> Result<u64> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::Unsigned(v)) if v.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&v) => Ok(v),
        Some(other) => Err(bad(
            path,
            format!(
                "general.alignment is {}; it must be a power of two from 8 to {MAX_ALIGNMENT}",
                other.describe(&[])
            ),
        )),
    }
}
