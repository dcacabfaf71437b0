//! Zeroed memory for packed weights and large inputs, aligned to pages and backed by huge pages where the system has
//! them.

use memmap2::MmapMut;
use std::io;
use std::ops::{Deref, DerefMut};

/// A fixed block of bytes; reads borrow it, writes need exclusive access.
#[derive(Debug, Default)]
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

/// Floats of one forward pass. Products write them a few columns at a time, a row in every other page: with small pages
/// that takes longer to address than to compute.
#[derive(Debug, Default)]
pub struct Floats {
    data: Buffer,
}

impl Floats {
    /// Room for `len` floats, zero where the room is new; what was there before is lost when it grows.
    pub fn grow(&mut self, len: usize) -> io::Result<()> {
        if self.len() < len {
            self.data = Buffer::default();
            self.data = Buffer::zeroed(len * size_of::<f32>())?;
        }
        Ok(())
    }
}

impl Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // Nothing has no address that floats may have.
        let Some(bytes) = self.data.map.as_deref() else { return &[] };
        // SAFETY: maps are aligned to pages, any bits are a float, and the length is rounded down.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<f32>()) }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        let Some(bytes) = self.data.map.as_deref_mut() else { return &mut [] };
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<f32>()) }
    }
}
