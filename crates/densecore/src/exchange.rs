//! Memory that vectors lie in. Others may write it at any moment, so the engine never holds a reference to its numbers:
//! it copies them out, one whole component at a time, and works on the copy.

use crate::hidden::{Hidden, Space, Storage};
use half::bf16;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};

/// Numbers of the engine's own, given away: whoever has their address may read and write them while this lives.
#[derive(Debug)]
pub struct Lent<T: Copy> {
    start: *mut T,
    len: usize,
    capacity: usize,
}
// SAFETY: it owns plain numbers, gives nothing but their address, and frees them when nobody has it any more.
unsafe impl<T: Copy + Send> Send for Lent<T> {}
// SAFETY: as above; a shared one reads and writes nothing.
unsafe impl<T: Copy + Send> Sync for Lent<T> {}

impl<T: Copy> Lent<T> {
    /// Gives the numbers away.
    pub fn new(numbers: Vec<T>) -> Self {
        let mut numbers = ManuallyDrop::new(numbers);
        // The address is taken for writing, and no reference to a number is made from here on.
        Self { start: numbers.as_mut_ptr(), len: numbers.len(), capacity: numbers.capacity() }
    }

    /// The first number's address.
    pub fn start(&self) -> *mut T {
        self.start
    }
}

impl<T: Copy> Drop for Lent<T> {
    fn drop(&mut self) {
        // SAFETY: the parts of the vector it was made of; who reads or writes there keeps this alive.
        drop(unsafe { Vec::from_raw_parts(self.start, self.len, self.capacity) });
    }
}

/// Components in memory that an owner keeps, the engine's own or somebody else's.
#[derive(Clone)]
pub(crate) struct Memory {
    start: *const u8,
    components: usize,
    storage: Storage,
    /// Its owner does not want it written.
    read_only: bool,
    #[allow(dead_code, reason = "held for its lifetime")]
    owner: Arc<dyn Send + Sync>,
}
// SAFETY: the memory is there as long as its owner, which is Send and Sync; it is read by atomic loads alone.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The engine's own floats.
    pub fn single(numbers: Vec<f32>) -> Self {
        Self::own(Lent::new(numbers), Storage::F32)
    }

    /// The engine's own bfloat16 numbers.
    pub fn brain(numbers: Vec<bf16>) -> Self {
        Self::own(Lent::new(numbers), Storage::Bf16)
    }

    fn own<T: Copy + Send + 'static>(lent: Lent<T>, storage: Storage) -> Self {
        let (start, components) = (lent.start.cast_const().cast(), lent.len);
        Self { start, components, storage, read_only: false, owner: Arc::new(lent) }
    }

    /// The first component's address.
    pub fn start(&self) -> *const u8 {
        self.start
    }

    /// How components are stored.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Whether its owner does not want it written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Copies components `from..` to `out` as floats, as many as there are. Of a number that somebody writes meanwhile
    /// it gets the old value or the new one.
    pub fn read(&self, from: usize, out: &mut [f32]) {
        let len = out.len().min(self.components.saturating_sub(from));
        if len == 0 {
            return;
        }
        // Both kinds of memory hold `components` aligned components while `self.owner` lives: `Lent` by its making, the
        // others by the contract of `borrow`. Atomic integers have the layout of plain ones and, being cells, promise the
        // compiler nothing about who else writes. The loads are relaxed and no wider than a word, which is allowed in
        // memory that is mapped for reading alone too. The engine itself never writes here; writers outside are not
        // Rust, and to the machine their stores and these loads are whole.
        match self.storage {
            Storage::F32 => {
                // SAFETY: see above; `from + len` is at most `components`.
                let cells = unsafe { std::slice::from_raw_parts(self.start.cast::<AtomicU32>().add(from), len) };
                for (o, cell) in out.iter_mut().zip(cells) {
                    *o = f32::from_bits(cell.load(Relaxed));
                }
            }
            Storage::Bf16 => {
                // SAFETY: as above.
                let cells = unsafe { std::slice::from_raw_parts(self.start.cast::<AtomicU16>().add(from), len) };
                for (o, cell) in out.iter_mut().zip(cells) {
                    *o = bf16::from_bits(cell.load(Relaxed)).to_f32();
                }
            }
        }
    }
}

/// Somebody else's memory, `rows * width` components from `start`, row after row without gaps.
pub struct Foreign {
    /// The first component's address.
    pub start: *const u8,
    /// Number of vectors, T.
    pub rows: usize,
    /// Components of a vector, d.
    pub width: usize,
    /// How components are stored.
    pub storage: Storage,
    /// Whether its owner does not want it written.
    pub read_only: bool,
    /// Keeps the memory.
    pub owner: Arc<dyn Send + Sync>,
}

impl Hidden {
    /// Vectors in somebody else's memory. Others may write there at any time: a call reads vectors once, when it begins.
    ///
    /// # Safety
    /// `start` must be readable for `rows * width` components of `storage`, aligned for them, and stay so while `owner`
    /// lives. No Rust code may write there but by atomic stores, or hold a `&mut` to it.
    pub unsafe fn borrow(from: Foreign, space: Space, fingerprint: Arc<str>) -> Self {
        let Foreign { start, rows, width, storage, read_only, owner } = from;
        let memory = Memory { start, components: rows * width, storage, read_only, owner };
        Self::in_memory(memory, rows, width, space, fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were() {
        let floats = vec![1.5, -0.0, f32::INFINITY, 1e-42, 3.25];
        let memory = Memory::single(floats.clone());
        let mut out = [0.0; 3];
        memory.read(2, &mut out);
        assert_eq!(out.map(f32::to_bits), [floats[2], floats[3], floats[4]].map(f32::to_bits));
        let memory = Memory::brain(floats.iter().map(|&v| bf16::from_f32(v)).collect());
        memory.read(2, &mut out);
        assert_eq!(out, [f32::INFINITY, bf16::from_f32(1e-42).to_f32(), 3.25]);
    }

    #[test]
    fn what_is_past_the_end_is_not_read() {
        let memory = Memory::single(vec![1.0, 2.0]);
        let mut out = [7.0; 3];
        memory.read(1, &mut out);
        assert_eq!(out, [2.0, 7.0, 7.0]);
        memory.read(5, &mut out);
        memory.read(usize::MAX, &mut out);
        Memory::single(Vec::new()).read(0, &mut out);
        assert_eq!(out, [2.0, 7.0, 7.0]);
    }

    #[test]
    fn a_write_from_outside_is_seen_by_the_next_read_and_by_clones() {
        let memory = Memory::single(vec![1.0, 2.0, 3.0]);
        let (clone, mut out) = (memory.clone(), [0.0; 3]);
        // SAFETY: inside the memory, of this thread alone.
        unsafe { memory.start().cast_mut().cast::<f32>().add(1).write(9.0) };
        clone.read(0, &mut out);
        assert_eq!(out, [1.0, 9.0, 3.0]);
    }
}
