//! The tensor records of a GGUF header: each claim is checked, then found in the file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use densecore_kernels::Format;

use super::cursor::{Cursor, bad};
use super::metadata::brief;
use crate::error::{Error, Result};
use crate::limits::Limits;

/// One tensor record, its bytes already found to lie inside the file.
#[derive(Debug)]
pub(super) struct Record {
    pub name: Box<str>,
    pub shape: Vec<usize>,
    pub format: Format,
    pub bytes: Range<usize>,
}

/// All records, in file order and by name.
pub(super) struct Tensors {
    pub records: Vec<Record>,
    pub by_name: HashMap<Box<str>, usize>,
}

/// Reads `count` records; the data starts at the next aligned byte after the last one.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
    path: &Path,
    limits: &Limits,
) -> Result<Tensors> {
    let mut claims = Vec::with_capacity(count as usize);
    for i in 0..count {
        claims.push(claim(cursor, i, limits)?);
    }
    let file = (cursor.at() + cursor.left()) as u64;
    let data = (cursor.at() as u64).next_multiple_of(alignment);
    let mut by_name = HashMap::with_capacity(claims.len());
    let mut records = Vec::with_capacity(claims.len());
    for claim in claims {
        let record = claim.locate(data, alignment, file, path)?;
        if by_name.insert(record.name.clone(), records.len()).is_some() {
            return Err(bad(path, format!("tensor {:?} appears twice", brief(&record.name))));
        }
        records.push(record);
    }
    refuse_overlap(&records, path)?;
    Ok(Tensors { records, by_name })
}

/// What a tensor record says, before its place in the file is checked.
struct Claim<'a> {
    name: &'a str,
    shape: Vec<usize>,
    format: Format,
    size: u64,
    offset: u64,
}

fn claim<'a>(cursor: &mut Cursor<'a>, i: u64, limits: &Limits) -> Result<Claim<'a>> {
    let (name, _) = cursor.text(limits.metadata_key, &format!("the name of tensor {i}"))?;
    let brief = brief(name);
    if name.is_empty() {
        return Err(cursor.bad(format!("tensor {i} has an empty name")));
    }
    let rank = cursor.u32(brief)?;
    if rank == 0 || rank > limits.tensor_dims {
        return Err(cursor.bad(format!("tensor {brief:?} has {rank} dimensions; 1 to {} are read", limits.tensor_dims)));
    }
    let mut shape = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        let dim = cursor.u64(brief)?;
        match usize::try_from(dim) {
            Ok(dim) if dim > 0 => shape.push(dim),
            _ => return Err(cursor.bad(format!("tensor {brief:?} has a dimension of {dim}"))),
        }
    }
    // The file lists the innermost dimension first.
    shape.reverse();
    let kind = cursor.u32(brief)?;
    let offset = cursor.u64(brief)?;
    let format = Format::from_ggml(kind).ok_or_else(|| {
        Error::unsupported(
            format!("the type of tensor {brief:?}"),
            format!("GGML type {kind}"),
            "use a file made of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K",
        )
    })?;
    let size = shape
        .split_last()
        .and_then(|(&row, outer)| outer.iter().try_fold(format.row_bytes(row)?, |bytes, &dim| bytes.checked_mul(dim)));
    let Some(size) = size else {
        return Err(cursor.bad(format!(
            "tensor {brief:?} of shape {shape:?} is impossible in {format:?}: rows must be whole blocks of {} and the size must fit 64 bits",
            format.block_len()
        )));
    };
    Ok(Claim { name, shape, format, size: size as u64, offset })
}

impl Claim<'_> {
    /// Checks the place of the tensor's bytes: aligned, and inside the file.
    fn locate(self, data: u64, alignment: u64, file: u64, path: &Path) -> Result<Record> {
        let name = brief(self.name);
        if !self.offset.is_multiple_of(alignment) {
            return Err(bad(
                path,
                format!("tensor {name:?} is at offset {}, not a multiple of the alignment {alignment}", self.offset),
            ));
        }
        let start = data.checked_add(self.offset);
        let end = start.and_then(|start| start.checked_add(self.size)).filter(|&end| end <= file);
        let (Some(start), Some(end)) = (start, end) else {
            return Err(bad(
                path,
                format!(
                    "tensor {name:?} needs {} bytes at offset {} of the data, which starts at byte {data}, but the file has {file} bytes; it is cut short or damaged: fetch it again",
                    self.size, self.offset
                ),
            ));
        };
        Ok(Record {
            name: self.name.into(),
            shape: self.shape,
            format: self.format,
            bytes: start as usize..end as usize,
        })
    }
}

fn refuse_overlap(records: &[Record], path: &Path) -> Result<()> {
    let mut order: Vec<&Record> = records.iter().collect();
    order.sort_unstable_by_key(|r| r.bytes.start);
    for pair in order.windows(2) {
        if pair[1].bytes.start < pair[0].bytes.end {
            return Err(bad(
                path,
                format!("tensors {:?} and {:?} share bytes", brief(&pair[0].name), brief(&pair[1].name)),
            ));
        }
    }
    Ok(())
}
