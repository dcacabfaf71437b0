//! The bytes of one file, mapped read-only and shared; or owned, for data that never was a file.

use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::regular;
use crate::error::{Error, Result};

/// Granularity of [`Map::release`] (bytes). Where pages are larger the kernel rounds outwards, which costs a
/// later read from the page cache and nothing else.
const PAGE: usize = 4096;

/// Read-only bytes, cheap to clone.
#[derive(Clone)]
pub struct Map(Arc<Backing>);

enum Backing {
    File(Mmap),
    Memory(Arc<[u8]>),
}

impl Map {
    /// Maps a regular file. Pipes and devices are refused: opening them could block for ever.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, facts) = regular::open(path)?;
        if facts.len() == 0 {
            return Ok(Self::from_bytes(Arc::from([])));
        }
        // SAFETY: the mapping is read-only and private to this type. Another process could still change or cut
        // the file under us; readers therefore never rely on a value staying what it was when it was checked
        // (every access is bounds-checked again), and a cut file ends the process by SIGBUS, as for any map.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::io("mapping", path, source))?;
        Ok(Self(Arc::new(Backing::File(map))))
    }

    /// Bytes already in memory.
    pub fn from_bytes(bytes: Arc<[u8]>) -> Self {
        Self(Arc::new(Backing::Memory(bytes)))
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        match &*self.0 {
            Backing::File(map) => map,
            Backing::Memory(bytes) => bytes,
        }
    }

    /// Where `part` starts, if it lies inside this map.
    pub fn offset_of(&self, part: &[u8]) -> Option<usize> {
        let start = (part.as_ptr() as usize).checked_sub(self.bytes().as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        (end <= self.bytes().len()).then_some(start)
    }

    /// Gives the whole pages inside `start..start + len` back; reading them again fetches them from the file.
    pub fn release(&self, start: usize, len: usize) {
        let end = start.saturating_add(len).min(self.bytes().len());
        let first = start.next_multiple_of(PAGE);
        let last = end / PAGE * PAGE;
        if first >= last {
            return;
        }
        #[cfg(unix)]
        if let Backing::File(map) = &*self.0 {
            // SAFETY: the mapping is shared, read-only and backed by a file, so a dropped page is read again
            // with the same content on the next access; nothing was ever written to it. A failure is harmless.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, first, last - first) };
        }
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Map({} bytes)", self.bytes().len())
    }
}
