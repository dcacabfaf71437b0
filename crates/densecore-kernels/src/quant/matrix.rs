//! One quantised matrix: packed tiles, or for now the file's own blocks.

use super::activation::Activations;
use super::layout::{Layout, TILE};
use super::{kernel_tiles, pack_rows, portable_tile};
use crate::buffer::{Arena, Buffer};
use crate::format::Format;
use crate::pool::Pool;
use crate::scratch::scratch;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Tiles a thread packs at a time.
const STRETCH: usize = 16;

/// Blocks of a tensor that somebody else holds, such as a mapped file. Dropped once they are packed.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// All blocks, the same bytes at every call.
    fn bytes(&self) -> &[u8];
}

/// Where a matrix comes from, and what packing it needs.
#[derive(Debug)]
struct Origin {
    source: Box<dyn Source>,
    arena: Arc<Arena>,
}

/// A `[rows][cols]` matrix in the packed layout.
///
/// One that was opened, not packed, multiplies its first input from the source, packing a tile at a time into memory
/// that stays in the caches: what is used once is never copied. The second input packs it for good. Results do not
/// differ.
#[derive(Debug)]
pub struct QuantMatrix {
    rows: usize,
    cols: usize,
    format: Format,
    pub(super) layout: Layout,
    packed: OnceLock<Buffer>,
    origin: Mutex<Option<Arc<Origin>>>,
    used: AtomicBool,
}

impl QuantMatrix {
    /// Whether this format and width can be packed.
    pub fn supports(format: Format, cols: usize) -> bool {
        Layout::new(format, cols).is_some()
    }

    fn checked(format: Format, rows: usize, cols: usize, bytes: &[u8]) -> io::Result<Self> {
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("cannot pack {rows} x {cols} of {format:?}"));
        let layout = Layout::new(format, cols).ok_or_else(wrong)?;
        if rows == 0 || format.row_bytes(cols).and_then(|row| row.checked_mul(rows)) != Some(bytes.len()) {
            return Err(wrong());
        }
        let (packed, origin, used) = (OnceLock::new(), Mutex::new(None), AtomicBool::new(false));
        Ok(Self { rows, cols, format, layout, packed, origin, used })
    }

    /// Packs `rows` rows of `cols` weights from GGUF blocks. `bytes` must hold exactly that many.
    pub fn pack(
        pool: &Pool,
        arena: &Arena,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> io::Result<Self> {
        let mut matrix = Self::checked(format, rows, cols, bytes)?;
        matrix.packed = OnceLock::from(matrix.fill(pool, arena, bytes)?);
        Ok(matrix)
    }

    /// The same for later: nothing is read yet.
    pub fn open(
        arena: Arc<Arena>,
        format: Format,
        rows: usize,
        cols: usize,
        source: Box<dyn Source>,
    ) -> io::Result<Self> {
        let mut matrix = Self::checked(format, rows, cols, source.bytes())?;
        matrix.origin = Mutex::new(Some(Arc::new(Origin { source, arena })));
        Ok(matrix)
    }

    /// All tiles packed from `bytes`.
    fn fill(&self, pool: &Pool, arena: &Arena, bytes: &[u8]) -> io::Result<Buffer> {
        let size = self.layout.tile_bytes;
        let mut data = arena.zeroed(self.tiles() * size)?;
        let tiles: Vec<Mutex<&mut [u8]>> = data.bytes_mut().chunks_exact_mut(size).map(Mutex::new).collect();
        // Stretches of tiles, so that what is read ahead is read by this thread.
        pool.run(tiles.len().div_ceil(STRETCH), &|task| {
            for t in task * STRETCH..tiles.len().min((task + 1) * STRETCH) {
                let Ok(mut tile) = tiles[t].lock() else { return };
                self.pack_tile(t, bytes, &mut tile);
            }
        });
        drop(tiles);
        Ok(data)
    }

    /// Packs tile `t` into zeroed memory.
    fn pack_tile(&self, t: usize, bytes: &[u8], tile: &mut [u8]) {
        let row = bytes.len() / self.rows;
        let rows = t * TILE..self.rows.min((t + 1) * TILE);
        pack_rows(&self.layout, self.format, &bytes[rows.start * row..rows.end * row], row, tile);
    }

    fn origin(&self) -> MutexGuard<'_, Option<Arc<Origin>>> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before a product: packs the matrix if it was used before. Without memory it stays as it is.
    pub(crate) fn before_use(&self, pool: &Pool) {
        if self.packed.get().is_none() && self.used.swap(true, Ordering::Relaxed) {
            let _ = self.settle(pool);
        }
    }

    /// Packs the matrix if it is not.
    pub(crate) fn settle(&self, pool: &Pool) -> io::Result<()> {
        if self.packed.get().is_some() {
            return Ok(());
        }
        // Whoever comes meanwhile waits: two copies would take twice the memory.
        let mut origin = self.origin();
        if let Some(held) = origin.as_ref() {
            let data = self.fill(pool, &held.arena, held.source.bytes())?;
            let _ = self.packed.set(data);
            *origin = None;
        }
        Ok(())
    }

    /// The packed tiles; none if the matrix was never packed.
    pub(super) fn packed(&self) -> &[u8] {
        self.packed.get().map_or(&[], Buffer::bytes)
    }

    /// Output width.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input width.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of the packed form.
    pub fn bytes(&self) -> usize {
        self.tiles() * self.layout.tile_bytes
    }

    /// Bytes of memory it will take once it is used again.
    pub fn bytes_to_come(&self) -> usize {
        if self.packed.get().is_some() { 0 } else { self.bytes() }
    }

    /// Tiles of 16 rows.
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// Some tiles times all rows of the input, `[tile][row]`.
    pub fn products(&self, tiles: Range<usize>, x: &Activations, out: &mut [[f32; TILE]]) {
        assert!(x.k == self.cols && out.len() == x.n * tiles.len(), "input does not match the matrix");
        let size = self.layout.tile_bytes;
        if self.packed.get().is_none() {
            let origin = self.origin().clone();
            if let Some(origin) = origin {
                let bytes = origin.source.bytes();
                scratch(|scratch| {
                    let tile = &mut *scratch.tile.borrow_mut();
                    for (t, out) in tiles.zip(out.chunks_exact_mut(x.n.max(1))) {
                        tile.clear();
                        tile.resize(size, 0);
                        self.pack_tile(t, bytes, tile);
                        kernel_tiles(&self.layout, tile, x, out);
                    }
                });
                return;
            }
        }
        kernel_tiles(&self.layout, &self.packed()[tiles.start * size..tiles.end * size], x, out);
    }

    /// Tile `t` by the portable reference, whatever the tier; for tests and self tests of packed matrices.
    pub fn reference_product(&self, t: usize, x: &Activations, out: &mut [[f32; TILE]]) {
        let tile = &self.packed()[t * self.layout.tile_bytes..][..self.layout.tile_bytes];
        assert!(x.k == self.cols && out.len() == x.n, "input does not match the matrix");
        portable_tile(&self.layout, tile, x, out);
    }
}
