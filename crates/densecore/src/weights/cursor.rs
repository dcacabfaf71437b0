//! A bounded little-endian reader over a header. Reading past the end is an error, never a panic.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};

/// A position in `bytes`; `path` is for messages only.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], path: &'a Path) -> Self {
        Self { bytes, at: 0, path }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A GGUF error at this file.
    pub fn bad(&self, detail: impl Into<String>) -> Error {
        bad(self.path, detail)
    }

    /// Steps over `len` bytes and says where they lie.
    pub fn skip(&mut self, len: u64, what: &str) -> Result<Range<usize>> {
        let end =
            usize::try_from(len).ok().and_then(|len| self.at.checked_add(len)).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.bad(format!(
                "{what} needs {len} bytes at byte {} but the file has {} left; it is cut short or damaged: fetch it again",
                self.at,
                self.left()
            )));
        };
        let start = std::mem::replace(&mut self.at, end);
        Ok(start..end)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let range = self.skip(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[range]);
        Ok(out)
    }

    pub fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn u16(&mut self, what: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A length-prefixed UTF-8 string of at most `cap` bytes.
    pub fn text(&mut self, cap: u64, what: &str) -> Result<(&'a str, Range<usize>)> {
        let len = self.u64(what)?;
        if len > cap {
            // A length beyond the file is damage; one beyond the cap is a file that asks for too much.
            if len > self.left() as u64 {
                return Err(self.skip(len, what).err().unwrap_or_else(|| self.bad(what)));
            }
            return Err(Error::Limit {
                what: format!("the length of {what} in {}", self.path.display()),
                value: len,
                cap,
                remedy: "no genuine file comes near it: download it again from its publisher".into(),
            });
        }
        let range = self.skip(len, what)?;
        match std::str::from_utf8(&self.bytes[range.clone()]) {
            Ok(text) => Ok((text, range)),
            Err(e) => {
                Err(self.bad(format!("{what} at byte {} is not UTF-8 from its byte {}", range.start, e.valid_up_to())))
            }
        }
    }
}

/// A GGUF error at `path`.
pub(super) fn bad(path: &Path, detail: impl Into<String>) -> Error {
    Error::Format { path: path.into(), format: "GGUF", detail: detail.into() }
}
