//! Zeroed memory for packed weights, aligned to pages and backed by huge pages where the system has them.

use memmap2::MmapMut;
use std::io;

/// A fixed block of bytes; reads borrow it, writes need exclusive access.
#[derive(Debug)]
pub struct Buffer {
    map: Option<MmapMut>,
}

impl Buffer {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { map: None });
        }
        let map = MmapMut::map_anon(len)?;
        // Fewer page faults while packing and fewer TLB misses while streaming; a kernel without huge pages may refuse.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map: Some(map) })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// The bytes, to fill.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or(&mut [])
    }
}
