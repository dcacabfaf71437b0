//! Zeroed memory straight from the system, aligned to pages: in huge ones, where there are some, for packed weights and
//! what forward passes work in; in small ones for what comes and goes with the calls of many threads, which an allocator
//! would keep in each thread's share of it.

use memmap2::{MmapOptions, MmapRaw};
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// What an arena asks the system for at a time (bytes): many huge pages, little beside a model. What is never written
/// takes no memory.
const CHUNK: usize = 64 << 20;
/// Where huge pages begin, on the systems that have them.
const HUGE: usize = 2 << 20;
/// Alignment of every buffer: a small page.
const PAGE: usize = 4096;

/// A stretch of the system's memory that buffers share.
#[derive(Debug)]
struct Chunk(MmapRaw);

impl Chunk {
    fn new(len: usize) -> io::Result<Self> {
        Ok(Self(MmapRaw::from(MmapOptions::new().len(len).map_anon()?)))
    }

    /// Fewer page faults while packing and fewer TLB misses while streaming; a kernel without huge pages may refuse.
    fn huge(len: usize) -> io::Result<Self> {
        let chunk = Self::new(len)?;
        #[cfg(target_os = "linux")]
        let _ = chunk.0.advise(memmap2::Advice::HugePage);
        Ok(chunk)
    }
}

/// Gives out buffers one behind the other, so that the end of one and the beginning of the next lie in one huge page.
/// With a map for each tensor the ends alone were a quarter of a model in small pages, which take a fault each.
#[derive(Debug, Default)]
pub struct Arena {
    free: Mutex<Option<(Arc<Chunk>, Range<usize>)>>,
}

impl Arena {
    /// `len` zero bytes. Memory goes back to the system with the last buffer of its chunk.
    pub fn zeroed(&self, len: usize) -> io::Result<Buffer> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = free.as_ref().is_some_and(|(_, left)| left.len() >= len);
        if !fits {
            let whole = len.checked_next_multiple_of(HUGE).ok_or(io::ErrorKind::OutOfMemory)?.max(CHUNK);
            *free = Some((Arc::new(Chunk::huge(whole)?), 0..whole));
        }
        let Some((chunk, left)) = free.as_mut() else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let start = left.start;
        left.start = (start + len).next_multiple_of(PAGE).min(left.end);
        Ok(Buffer { chunk: Some(Arc::clone(chunk)), start, len })
    }
}

/// A fixed block of bytes; reads borrow it, writes need exclusive access.
#[derive(Debug, Default)]
pub struct Buffer {
    chunk: Option<Arc<Chunk>>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes in a map of their own, for what comes and goes: they take memory as they are written, and give it
    /// back to the last page. A huge page would reach into the neighbours and stay as long as one of them.
    pub fn passing(len: usize) -> io::Result<Self> {
        Self::of(len, Chunk::new)
    }

    /// The same in huge pages, for what stays.
    pub fn staying(len: usize) -> io::Result<Self> {
        Self::of(len, Chunk::huge)
    }

    fn of(len: usize, chunk: fn(usize) -> io::Result<Chunk>) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self::default());
        }
        Ok(Self { chunk: Some(Arc::new(chunk(len)?)), start: 0, len })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let Some(chunk) = &self.chunk else { return &[] };
        // SAFETY: the arena gave this part of the chunk, which lives as long as `self`, to this buffer alone.
        unsafe { std::slice::from_raw_parts(chunk.0.as_ptr().add(self.start), self.len) }
    }

    /// The bytes, to fill.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let Some(chunk) = &self.chunk else { return &mut [] };
        // SAFETY: as above, and the borrow of this buffer is exclusive.
        unsafe { std::slice::from_raw_parts_mut(chunk.0.as_mut_ptr().add(self.start), self.len) }
    }
}

/// Floats of unknown content. Products write those of a forward pass a few columns at a time, a row in every other page:
/// with small pages that takes longer to address than to compute.
#[derive(Debug, Default)]
pub struct Floats {
    data: Buffer,
    passing: bool,
}

impl Floats {
    /// Floats of one call, see [`Buffer::passing`]; those made by default stay.
    pub fn passing() -> Self {
        Self { passing: true, ..Self::default() }
    }

    /// Room for `len` floats; what was there before is lost when it grows.
    pub fn grow(&mut self, len: usize) -> io::Result<()> {
        if self.len() < len {
            self.data = Buffer::default();
            let bytes = len * size_of::<f32>();
            self.data = if self.passing { Buffer::passing(bytes)? } else { Buffer::staying(bytes)? };
        }
        Ok(())
    }
}

impl Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        let bytes = self.data.bytes();
        if bytes.is_empty() {
            return &[]; // Nothing has no address that floats may have.
        }
        // SAFETY: buffers are aligned to pages, any bits are a float, and the length is rounded down.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<f32>()) }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        let bytes = self.data.bytes_mut();
        if bytes.is_empty() {
            return &mut [];
        }
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<f32>()) }
    }
}
