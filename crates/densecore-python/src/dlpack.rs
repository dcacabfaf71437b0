//! DLPack: tensors between libraries in one memory.
//!
//! Out: a capsule owns a clone of the `Hidden`, so it outlives its Python object; its deleter runs exactly once,
//! whether a consumer took it or not. Consumers may write: the engine reads this memory by copying it, and never where
//! it keeps anything of its own. In: a consumed capsule's memory is freed by its own deleter when the last `Hidden` that
//! borrows it goes.

use crate::error::named;
use densecore::{Foreign, Hidden, Space, Storage};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_void};
use std::os::raw::c_char;
use std::sync::Arc;

const CPU: i32 = 1;
const READ_ONLY: u64 = 1;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;

const PLAIN: &CStr = c"dltensor";
const PLAIN_USED: &CStr = c"used_dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const VERSIONED_USED: &CStr = c"used_dltensor_versioned";

#[repr(C)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

#[repr(C)]
struct ManagedVersioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut ManagedVersioned)>,
    flags: u64,
    tensor: Tensor,
}

/// What an exported tensor points into.
struct Exported {
    hidden: Hidden,
    shape: [i64; 2],
    strides: [i64; 2],
}

fn export_parts(hidden: &Hidden) -> (*mut c_void, Tensor) {
    let (rows, width) = (hidden.rows() as i64, hidden.width() as i64);
    let exported =
        Box::into_raw(Box::new(Exported { hidden: hidden.clone(), shape: [rows, width], strides: [width, 1] }));
    let (code, bits) = match hidden.storage() {
        Storage::F32 => (FLOAT, 32),
        Storage::Bf16 => (BFLOAT, 16),
    };
    // SAFETY: `exported` was just made and is freed only by the deleter; its fields do not move.
    let (shape, strides, data) = unsafe {
        ((&raw mut (*exported).shape).cast(), (&raw mut (*exported).strides).cast(), (*exported).hidden.as_ptr())
    };
    let tensor = Tensor {
        data: data.cast_mut().cast(),
        device_type: CPU,
        device_id: 0,
        ndim: 2,
        dtype: DataType { code, bits, lanes: 1 },
        shape,
        strides,
        byte_offset: 0,
    };
    (exported.cast(), tensor)
}

unsafe extern "C" fn delete_plain(managed: *mut Managed) {
    // SAFETY: DLPack calls a deleter once, with the pointer it was given; both boxes were made by `export`.
    unsafe {
        drop(Box::from_raw((*managed).context.cast::<Exported>()));
        drop(Box::from_raw(managed));
    }
}

unsafe extern "C" fn delete_versioned(managed: *mut ManagedVersioned) {
    // SAFETY: as above.
    unsafe {
        drop(Box::from_raw((*managed).context.cast::<Exported>()));
        drop(Box::from_raw(managed));
    }
}

/// Frees a capsule that nobody consumed; a consumed one has another name and is its consumer's business.
unsafe extern "C" fn abandon(capsule: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter with a capsule of ours; the name tells which struct it holds.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, PLAIN.as_ptr()) == 1 {
            delete_plain(ffi::PyCapsule_GetPointer(capsule, PLAIN.as_ptr()).cast());
        } else if ffi::PyCapsule_IsValid(capsule, VERSIONED.as_ptr()) == 1 {
            delete_versioned(ffi::PyCapsule_GetPointer(capsule, VERSIONED.as_ptr()).cast());
        }
    }
}

/// A capsule over the vectors; versioned if the consumer knows version 1. The mark that says read-only is advice:
/// PyTorch does not look at it, and the older kind of capsule has none.
pub fn export<'py>(py: Python<'py>, hidden: &Hidden, versioned: bool) -> PyResult<Bound<'py, PyAny>> {
    let (context, tensor) = export_parts(hidden);
    let (pointer, name): (*mut c_void, *const c_char) = if versioned {
        let managed =
            ManagedVersioned { major: 1, minor: 0, context, deleter: Some(delete_versioned), flags: READ_ONLY, tensor };
        (Box::into_raw(Box::new(managed)).cast(), VERSIONED.as_ptr())
    } else {
        let managed = Managed { tensor, context, deleter: Some(delete_plain) };
        (Box::into_raw(Box::new(managed)).cast(), PLAIN.as_ptr())
    };
    // SAFETY: a fresh pointer and a static name; the destructor fits the name.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyCapsule_New(pointer, name, Some(abandon))) }
}

/// Foreign memory, given back by its producer's own deleter.
enum Consumed {
    Plain(*mut Managed),
    Versioned(*mut ManagedVersioned),
}
// SAFETY: the structs are deleted once, under the interpreter lock, and not touched otherwise.
unsafe impl Send for Consumed {}
// SAFETY: as above.
unsafe impl Sync for Consumed {}

impl Drop for Consumed {
    fn drop(&mut self) {
        // Producers may touch Python objects in their deleters. Where the interpreter has ended or is about to, as for
        // tensors of a module when it goes, nobody may run them, and the memory goes with the process.
        let _ = Python::try_attach(|_| {
            // SAFETY: we consumed the capsule, so calling its deleter once is our duty.
            unsafe {
                match *self {
                    Self::Plain(m) => {
                        if let Some(delete) = (*m).deleter {
                            delete(m);
                        }
                    }
                    Self::Versioned(m) => {
                        if let Some(delete) = (*m).deleter {
                            delete(m);
                        }
                    }
                }
            }
        });
    }
}

/// Borrows what `object.__dlpack__` offers: float32 or bfloat16, on the CPU, `(T, d)`, rows without gaps.
pub fn import(object: &Bound<'_, PyAny>, space: Space, fingerprint: Arc<str>) -> PyResult<Hidden> {
    let py = object.py();
    let refuse = |what: String| named(py, "VectorError", what);
    let arguments = pyo3::types::PyDict::new(py);
    arguments.set_item("max_version", (1, 0))?;
    let offered = match object.call_method("__dlpack__", (), Some(&arguments)) {
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyTypeError>(py) => object.call_method0("__dlpack__"),
        other => other,
    };
    let capsule = offered.map_err(|error| {
        if error.is_instance_of::<PyBufferError>(py) || error.is_instance_of::<pyo3::exceptions::PyRuntimeError>(py) {
            refuse(format!(
                "the vectors cannot be shared: {error}; detach them from autograd and move them to the CPU first"
            ))
        } else {
            error
        }
    })?;
    let raw = capsule.as_ptr();
    // SAFETY: the name is checked before the pointer is read as its struct; renaming marks the capsule consumed.
    let (owner, tensor, read_only) = unsafe {
        if ffi::PyCapsule_IsValid(raw, VERSIONED.as_ptr()) == 1 {
            let managed: *mut ManagedVersioned = ffi::PyCapsule_GetPointer(raw, VERSIONED.as_ptr()).cast();
            if (*managed).major != 1 {
                return Err(refuse(format!("DLPack version {} is not known here; update densecore", (*managed).major)));
            }
            ffi::PyCapsule_SetName(raw, VERSIONED_USED.as_ptr());
            (Consumed::Versioned(managed), &(*managed).tensor, (*managed).flags & READ_ONLY != 0)
        } else if ffi::PyCapsule_IsValid(raw, PLAIN.as_ptr()) == 1 {
            let managed: *mut Managed = ffi::PyCapsule_GetPointer(raw, PLAIN.as_ptr()).cast();
            ffi::PyCapsule_SetName(raw, PLAIN_USED.as_ptr());
            (Consumed::Plain(managed), &(*managed).tensor, false)
        } else {
            return Err(refuse("__dlpack__ gave no DLPack capsule; pass a NumPy array or a torch tensor".into()));
        }
    };
    if tensor.device_type != CPU {
        return Err(refuse(format!(
            "the vectors are on DLPack device {}; move them to the CPU (device 1) first",
            tensor.device_type
        )));
    }
    let storage = match (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) {
        (FLOAT, 32, 1) => Storage::F32,
        (BFLOAT, 16, 1) => Storage::Bf16,
        (code, bits, _) => {
            return Err(refuse(format!(
                "the vectors have DLPack type {code} of {bits} bits; convert them to float32 or bfloat16"
            )));
        }
    };
    if tensor.ndim != 2 {
        return Err(refuse(format!("the vectors have {} dimensions; give (T, d)", tensor.ndim)));
    }
    let ndim = 2;
    // SAFETY: shape and strides have `ndim` entries by the standard.
    let (shape, strides) = unsafe {
        let shape = std::slice::from_raw_parts(tensor.shape, ndim);
        let strides = (!tensor.strides.is_null()).then(|| std::slice::from_raw_parts(tensor.strides, ndim));
        (shape, strides)
    };
    let (rows, width) = (shape[0], shape[1]);
    let (Ok(rows), Ok(width)) = (usize::try_from(rows), usize::try_from(width)) else {
        return Err(refuse(format!("the vectors have the shape {shape:?}")));
    };
    let contiguous = strides.is_none_or(|s| (s[1] == 1 || width <= 1) && (rows <= 1 || s[0] == width as i64));
    if !contiguous {
        return Err(refuse(format!(
            "the vectors have strides {:?}; make them contiguous first",
            strides.unwrap_or_default()
        )));
    }
    let start = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize).cast_const();
    if rows.checked_mul(width).is_none()
        || (rows * width > 0 && (start.is_null() || start.align_offset(storage.bytes()) != 0))
    {
        return Err(refuse("the vectors' memory is not usable: null, unaligned or absurdly large".into()));
    }
    let from = Foreign { start, rows, width, storage, read_only, owner: Arc::new(owner) };
    // SAFETY: the producer promises this memory until its deleter runs, which the owner does when dropped.
    Ok(unsafe { Hidden::borrow(from, space, fingerprint) })
}
