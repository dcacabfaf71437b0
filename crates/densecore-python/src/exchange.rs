//! Arrays and tensors as vectors, in their own memory: NumPy's interface first, DLPack for everything else.

use crate::dlpack;
use crate::error::named;
use crate::hidden;
use densecore::{Foreign, Hidden, Space, Storage};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// An array kept alive while vectors borrow it.
struct Keeper(#[allow(dead_code, reason = "held for its lifetime")] Py<PyAny>);

/// Vectors in an array's or tensor's own memory.
pub fn borrow(array: &Bound<'_, PyAny>, space: Space, fingerprint: Arc<str>) -> PyResult<Hidden> {
    let py = array.py();
    if let Ok(vectors) = array.cast::<hidden::Hidden>() {
        return Ok(vectors.get().inner.clone().belonging(space, fingerprint));
    }
    let Ok(description) = array.getattr("__array_interface__") else {
        return dlpack::import(array, space, fingerprint);
    };
    let refuse = |what: String| named(py, "VectorError", what);
    let description = description.cast_into::<PyDict>()?;
    let get = |key: &str| description.get_item(key)?.ok_or_else(|| refuse(format!("__array_interface__ has no {key}")));
    let kind: String = get("typestr")?.extract()?;
    if kind != "<f4" {
        return Err(refuse(format!("the array has type {kind:?}; convert it to float32")));
    }
    let shape: Vec<usize> = get("shape")?.extract()?;
    let [rows, width] = shape[..] else {
        return Err(refuse(format!("the array has the shape {shape:?}; give (T, d)")));
    };
    if let Some(strides) = description.get_item("strides")?.filter(|s| !s.is_none()) {
        let strides: Vec<isize> = strides.extract()?;
        return Err(refuse(format!("the array has strides {strides:?}; make it contiguous first")));
    }
    let (address, read_only): (usize, bool) = get("data")?.extract()?;
    if rows.checked_mul(width).is_none() || (rows * width > 0 && (address == 0 || !address.is_multiple_of(4))) {
        return Err(refuse(
            "the array's memory is not usable: null, unaligned or absurdly large; copy it first".into(),
        ));
    }
    let owner: Arc<dyn Send + Sync> = Arc::new(Keeper(array.clone().unbind()));
    let from = Foreign { start: address as *const u8, rows, width, storage: Storage::F32, read_only, owner };
    // SAFETY: the interface promises this memory while the array lives, and the owner keeps it alive.
    Ok(unsafe { Hidden::borrow(from, space, fingerprint) })
}
