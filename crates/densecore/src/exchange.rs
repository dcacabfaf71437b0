//! Memory that vectors lie in: the engine's own, or somebody else's, kept alive by its owner and never written.

use crate::hidden::{Hidden, Space, Storage};
use half::bf16;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) enum Memory {
    Single(Arc<Vec<f32>>),
    Brain(Arc<Vec<bf16>>),
    Foreign {
        start: *const u8,
        components: usize,
        storage: Storage,
        #[allow(dead_code, reason = "held for its lifetime")]
        owner: Arc<dyn Send + Sync>,
    },
}
// SAFETY: the pointer of `Foreign` is read-only and valid as long as its owner, which is Send and Sync.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// The first component's address.
    pub fn start(&self) -> *const u8 {
        match self {
            Self::Single(data) => data.as_ptr().cast(),
            Self::Brain(data) => data.as_ptr().cast(),
            Self::Foreign { start, .. } => *start,
        }
    }

    /// `len` floats from component `from`; `None` if they are stored otherwise.
    pub fn f32(&self, from: usize, len: usize) -> Option<&[f32]> {
        match self {
            Self::Single(data) => data.get(from..from + len),
            Self::Foreign { start, components, storage: Storage::F32, .. } => {
                // SAFETY: `borrow`'s contract: that many aligned floats, unchanged while the owner lives.
                let all = unsafe { foreign::<f32>(*start, *components) };
                all.get(from..from + len)
            }
            _ => None,
        }
    }

    /// `len` bfloat16 numbers from component `from`; `None` if they are stored otherwise.
    pub fn bf16(&self, from: usize, len: usize) -> Option<&[bf16]> {
        match self {
            Self::Brain(data) => data.get(from..from + len),
            Self::Foreign { start, components, storage: Storage::Bf16, .. } => {
                // SAFETY: as above.
                let all = unsafe { foreign::<bf16>(*start, *components) };
                all.get(from..from + len)
            }
            _ => None,
        }
    }
}

/// # Safety
/// `start` must hold `components` aligned values of `T` that outlive the result.
unsafe fn foreign<'a, T>(start: *const u8, components: usize) -> &'a [T] {
    if components == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start.cast(), components) }
}

impl Hidden {
    /// Vectors in somebody else's memory, row after row without gaps.
    ///
    /// # Safety
    /// `start` must be readable for `rows * width` components of `storage`, aligned for them, and must not change or
    /// go away while `owner` lives.
    pub unsafe fn borrow(
        start: *const u8,
        rows: usize,
        width: usize,
        storage: Storage,
        owner: Arc<dyn Send + Sync>,
        space: Space,
        fingerprint: Arc<str>,
    ) -> Self {
        let memory = Memory::Foreign { start, components: rows * width, storage, owner };
        Self::in_memory(memory, rows, width, storage, space, fingerprint)
    }
}
