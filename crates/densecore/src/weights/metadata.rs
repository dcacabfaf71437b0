//! The key-value part of a GGUF header: scalars held, strings and arrays left in the file and found by position.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cursor::Cursor;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// GGUF value type numbers that are referred to by name.
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// One metadata value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array(Array),
}

/// An array of scalars or strings; `bytes` covers the elements.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub kind: u32,
    pub count: usize,
    pub bytes: Range<usize>,
}

pub(super) type Metadata = BTreeMap<Box<str>, Value>;

impl Value {
    /// The value in words, for messages.
    pub fn describe(&self, file: &[u8]) -> String {
        match self {
            Self::Unsigned(v) => v.to_string(),
            Self::Signed(v) => v.to_string(),
            Self::Float(v) => v.to_string(),
            Self::Bool(v) => v.to_string(),
            Self::Text(range) => format!("{:?}", brief(text_at(file, range.clone()))),
            Self::Array(a) => format!("an array of {} elements", a.count),
        }
    }
}

/// Reads `count` entries, checking every length against the bytes left.
pub(super) fn read(cursor: &mut Cursor<'_>, count: u64, limits: &Limits) -> Result<Metadata> {
    let mut entries = Metadata::new();
    for i in 0..count {
        let (key, _) = cursor.text(limits.metadata_key, &format!("the key of metadata entry {i}"))?;
        if key.is_empty() {
            return Err(cursor.bad(format!("metadata entry {i} has an empty key")));
        }
        let label = brief(key);
        let kind = cursor.u32(label)?;
        let value = if kind == ARRAY {
            Value::Array(array(cursor, label, limits)?)
        } else {
            scalar(cursor, kind, label, limits)?
        };
        if entries.insert(key.into(), value).is_some() {
            return Err(cursor.bad(format!("metadata key {label:?} appears twice")));
        }
    }
    Ok(entries)
}

fn scalar(cursor: &mut Cursor<'_>, kind: u32, key: &str, limits: &Limits) -> Result<Value> {
    Ok(match kind {
        0 => Value::Unsigned(cursor.u8(key)?.into()),
        1 => Value::Signed((cursor.u8(key)? as i8).into()),
        2 => Value::Unsigned(cursor.u16(key)?.into()),
        3 => Value::Signed((cursor.u16(key)? as i16).into()),
        4 => Value::Unsigned(cursor.u32(key)?.into()),
        5 => Value::Signed((cursor.u32(key)? as i32).into()),
        6 => Value::Float(f32::from_bits(cursor.u32(key)?).into()),
        7 => match cursor.u8(key)? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => {
                return Err(cursor.bad(format!("{key:?} is a bool of value {other}; only 0 and 1 exist")));
            }
        },
        TEXT => Value::Text(cursor.text(limits.metadata_string, key)?.1),
        10 => Value::Unsigned(cursor.u64(key)?),
        11 => Value::Signed(cursor.u64(key)? as i64),
        12 => Value::Float(f64::from_bits(cursor.u64(key)?)),
        _ => {
            return Err(cursor.bad(format!("{key:?} has the unknown value type {kind}; types 0 to 12 exist")));
        }
    })
}

/// Bytes of one scalar of a type; `None` for strings, arrays and unknown types.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn array(cursor: &mut Cursor<'_>, key: &str, limits: &Limits) -> Result<Array> {
    let kind = cursor.u32(key)?;
    let count = cursor.u64(key)?;
    // A string takes at least the 8 bytes of its length.
    let least = match kind {
        TEXT => 8,
        _ => width(kind).ok_or_else(|| {
            cursor.bad(format!("{key:?} is an array of type {kind}; only scalars and strings are read"))
        })?,
    };
    if count.checked_mul(least).is_none_or(|need| need > cursor.left() as u64) {
        return Err(cursor.bad(format!(
            "{key:?} claims {count} elements but only {} bytes are left; the file is cut short or damaged",
            cursor.left()
        )));
    }
    if count > limits.metadata_array {
        return Err(Error::Limit {
            what: format!("the element count of {key:?}"),
            value: count,
            cap: limits.metadata_array,
            remedy: "no genuine file comes near it: download it again from its publisher".into(),
        });
    }
    let start = cursor.at();
    if kind == TEXT {
        for _ in 0..count {
            cursor.text(limits.metadata_string, key)?;
        }
    } else {
        cursor.skip(count * least, key)?;
    }
    Ok(Array { kind, count: count as usize, bytes: start..cursor.at() })
}

/// The string at a range that was checked when the file was opened. A file changed since then gives "".
pub(super) fn text_at(file: &[u8], range: Range<usize>) -> &str {
    file.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// At most 80 characters of a name, for messages.
pub(super) fn brief(text: &str) -> &str {
    match text.char_indices().nth(80) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The strings of one array, read from the map one by one.
#[derive(Debug, Clone)]
pub struct StrArray<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> StrArray<'a> {
    pub(super) fn new(file: &'a [u8], array: &Array) -> Option<Self> {
        Some(Self { bytes: file.get(array.bytes.clone())?, left: array.count }).filter(|_| array.kind == TEXT)
    }
}

impl<'a> Iterator for StrArray<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        // Lengths were checked at open; checked again because the file may have changed since.
        let (len, rest) = self.bytes.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let (text, rest) = rest.split_at_checked(len)?;
        self.bytes = rest;
        Some(std::str::from_utf8(text).unwrap_or_default())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for StrArray<'_> {}

/// The numbers of one array as 64-bit floats; every GGUF integer up to 32 bits is exact.
#[derive(Debug, Clone)]
pub struct Numbers<'a> {
    chunks: std::slice::ChunksExact<'a, u8>,
    kind: u32,
}

impl<'a> Numbers<'a> {
    /// `None` for arrays of strings, bools or 64-bit integers.
    pub(super) fn new(file: &'a [u8], array: &Array) -> Option<Self> {
        if matches!(array.kind, 7 | 10 | 11) {
            return None;
        }
        let width = width(array.kind)? as usize;
        Some(Self { chunks: file.get(array.bytes.clone())?.chunks_exact(width), kind: array.kind })
    }

    /// Whether the elements are integers.
    pub(super) fn whole(&self) -> bool {
        self.kind < 6
    }
}

impl Iterator for Numbers<'_> {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let chunk = self.chunks.next()?;
        let mut wide = [0; 8];
        wide[..chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_le_bytes(wide);
        Some(match self.kind {
            0 | 2 | 4 => bits as f64,
            1 => f64::from(bits as i8),
            3 => f64::from(bits as i16),
            5 => f64::from(bits as i32),
            6 => f64::from(f32::from_bits(bits as u32)),
            _ => f64::from_bits(bits),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.chunks.size_hint()
    }
}

impl ExactSizeIterator for Numbers<'_> {}
