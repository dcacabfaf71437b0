//! One safetensors file: its header checked against its bytes, mapped read-only.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use densecore_kernels::Format;

use super::metadata::brief;
use super::mmap::Map;
use super::safetensors_header::{self as json, Entry};
use super::source::TensorView;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Bytes of the length field a file starts with.
const PREFIX: usize = 8;

/// One tensor, its bytes already found to lie inside the file.
#[derive(Debug)]
struct Record {
    name: Box<str>,
    shape: Vec<usize>,
    format: Format,
    bytes: Range<usize>,
}

/// One open, checked safetensors file.
#[derive(Debug)]
pub struct SafetensorsFile {
    map: Map,
    records: Vec<Record>,
    header: usize,
}

impl SafetensorsFile {
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
        let Some((len, rest)) = file.split_first_chunk::<PREFIX>() else {
            return Err(bad(
                path,
                format!("it has {} bytes, less than the length field of 8; fetch it again", file.len()),
            ));
        };
        let len = u64::from_le_bytes(*len);
        if len > limits.safetensors_header {
            return Err(Error::Limit {
                what: format!("the header length of {}", path.display()),
                value: len,
                cap: limits.safetensors_header,
                remedy: "the file is damaged, or is no safetensors file: download it again".into(),
            });
        }
        let Some((text, payload)) = rest.split_at_checked(len as usize) else {
            return Err(bad(
                path,
                format!("its header claims {len} bytes but {} follow; it is cut short: fetch it again", rest.len()),
            ));
        };
        if text.first() != Some(&b'{') {
            return Err(bad(path, "its header does not start with '{'"));
        }
        let entries = json::entries(text, limits).map_err(|e| bad(path, format!("its header cannot be read: {e}")))?;
        let start = PREFIX + len as usize;
        let records = entries
            .into_iter()
            .map(|(name, entry)| record(path, name, entry, start, payload.len(), limits))
            .collect::<Result<Vec<_>>>()?;
        whole(path, &records, start, file.len())?;
        Ok(Self { map, records, header: start })
    }

    /// Length field and header.
    pub fn header(&self) -> &[u8] {
        &self.map.bytes()[..self.header]
    }

    /// The map under the file.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Tensor names in header order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.records.iter().map(|r| &*r.name)
    }

    /// One tensor by name, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        let index = self.records.iter().position(|r| &*r.name == name)?;
        Some(self.view(index))
    }

    pub(super) fn name(&self, index: usize) -> &str {
        &self.records[index].name
    }

    pub(super) fn view(&self, index: usize) -> TensorView<'_> {
        let record = &self.records[index];
        TensorView {
            name: &record.name,
            shape: record.shape.clone(),
            format: record.format,
            data: &self.map.bytes()[record.bytes.clone()],
        }
    }
}

fn record(path: &Path, name: String, entry: Entry, start: usize, payload: usize, limits: &Limits) -> Result<Record> {
    let label = brief(&name);
    let format = match entry.dtype.as_str() {
        "F32" => Format::F32,
        "F16" => Format::F16,
        "BF16" => Format::BF16,
        other => {
            return Err(Error::unsupported(
                format!("the dtype of tensor {label:?}"),
                format!("{:?}", brief(other)),
                "use weights saved as F32, F16 or BF16; for quantised weights give a GGUF file",
            ));
        }
    };
    let shape = entry.shape.0;
    if shape.len() > limits.tensor_dims as usize {
        return Err(bad(
            path,
            format!("tensor {label:?} has {} dimensions or more; up to {} are read", shape.len(), limits.tensor_dims),
        ));
    }
    if shape.contains(&0) {
        return Err(bad(path, format!("tensor {label:?} has shape {shape:?}, with a dimension of 0")));
    }
    let size = shape.iter().try_fold(format.block_bytes() as u64, |size, &dim| size.checked_mul(dim));
    let (begin, end) = entry.data_offsets;
    let length = end.checked_sub(begin);
    if size.is_none() || length != size {
        return Err(bad(
            path,
            format!("tensor {label:?} of shape {shape:?} in {format:?} does not fill its bytes {begin}..{end}"),
        ));
    }
    if end > payload as u64 {
        return Err(bad(
            path,
            format!(
                "tensor {label:?} ends at byte {end} of {payload} payload bytes; the file is cut short: fetch it again"
            ),
        ));
    }
    // Sizes fit: the product was checked against bytes that are in memory.
    Ok(Record {
        shape: shape.into_iter().map(|dim| dim as usize).collect(),
        name: name.into(),
        format,
        bytes: start + begin as usize..start + end as usize,
    })
}

/// The format allows no hole, no overlap and nothing after the last tensor.
fn whole(path: &Path, records: &[Record], start: usize, end: usize) -> Result<()> {
    let mut order: Vec<&Record> = records.iter().collect();
    order.sort_unstable_by_key(|r| (r.bytes.start, r.bytes.end));
    let mut at = start;
    for record in order {
        if record.bytes.start != at {
            let what = if record.bytes.start > at { "leaves a hole before" } else { "overlaps the tensor before" };
            return Err(bad(path, format!("the data {what} tensor {:?}", brief(&record.name))));
        }
        at = record.bytes.end;
    }
    if at != end {
        return Err(bad(path, format!("{} bytes follow the last tensor; the file is damaged", end - at)));
    }
    Ok(())
}

/// A safetensors error at `path`.
pub(super) fn bad(path: &Path, detail: impl Into<String>) -> Error {
    Error::Format { path: path.into(), format: "safetensors", detail: detail.into() }
}
