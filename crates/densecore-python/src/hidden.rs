//! Vectors in Python.

use crate::array::interface;
use crate::dlpack;
use crate::error::named;
use crate::exchange;
use densecore::{Space, Storage};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// `(T, d)` vectors that know their model and space.
#[pyclass(name = "Hidden", frozen, module = "densecore._core")]
pub struct Hidden {
    pub inner: densecore::Hidden,
}

impl From<densecore::Hidden> for Hidden {
    fn from(inner: densecore::Hidden) -> Self {
        Self { inner }
    }
}

fn space(py: Python<'_>, layer: Option<usize>, normed: bool) -> PyResult<Space> {
    match (layer, normed) {
        (Some(layer), normed) => Ok(Space::Layer { layer, normed }),
        (None, false) => Ok(Space::Input),
        (None, true) => Err(named(
            py,
            "ArgumentError",
            "normed = True: vectors of the input space are not normed; name a layer".into(),
        )),
    }
}

#[pymethods]
impl Hidden {
    /// Vectors in the memory of a float32 or bfloat16 array or tensor; a call reads them once, when it begins.
    #[staticmethod]
    #[pyo3(signature = (array, fingerprint, layer=None, normed=false))]
    fn borrow(array: &Bound<'_, PyAny>, fingerprint: &str, layer: Option<usize>, normed: bool) -> PyResult<Self> {
        let py = array.py();
        let (space, fingerprint) = (space(py, layer, normed)?, Arc::from(fingerprint));
        Ok(exchange::borrow(array, space, fingerprint)?.into())
    }

    #[getter]
    fn shape(&self) -> (usize, usize) {
        (self.inner.rows(), self.inner.width())
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        match self.inner.storage() {
            Storage::F32 => "float32",
            Storage::Bf16 => "bfloat16",
        }
    }

    #[getter]
    fn space(&self) -> &'static str {
        match self.inner.space() {
            Space::Input => "input",
            Space::Layer { .. } => "layer",
        }
    }

    #[getter]
    fn layer(&self) -> Option<usize> {
        match self.inner.space() {
            Space::Input => None,
            Space::Layer { layer, .. } => Some(layer),
        }
    }

    #[getter]
    fn normed(&self) -> bool {
        matches!(self.inner.space(), Space::Layer { normed: true, .. })
    }

    #[getter]
    fn fingerprint(&self) -> &str {
        self.inner.fingerprint()
    }

    /// Address of the first component.
    #[getter]
    fn data_ptr(&self) -> usize {
        self.inner.as_ptr() as usize
    }

    /// The same vectors stored as "float32" or "bfloat16".
    fn to(&self, py: Python<'_>, dtype: &str) -> PyResult<Self> {
        let storage = match dtype {
            "float32" => Storage::F32,
            "bfloat16" => Storage::Bf16,
            other => {
                return Err(named(
                    py,
                    "ArgumentError",
                    format!("dtype = {other:?}: it must be \"float32\" or \"bfloat16\""),
                ));
            }
        };
        Ok(py.detach(|| self.inner.to_storage(storage)).into())
    }

    /// Rows `start..stop`, sharing the memory.
    fn rows(&self, start: usize, stop: usize) -> Self {
        self.inner.slice_rows(start, stop).into()
    }

    /// The same vectors declared to belong to another space.
    #[pyo3(signature = (layer=None, normed=false))]
    fn as_space(&self, py: Python<'_>, layer: Option<usize>, normed: bool) -> PyResult<Self> {
        Ok(self.inner.clone().with_space(space(py, layer, normed)?).into())
    }

    fn __len__(&self) -> usize {
        self.inner.rows()
    }

    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if self.inner.storage() == Storage::Bf16 {
            // NumPy takes an AttributeError as "no interface here".
            return Err(pyo3::exceptions::PyAttributeError::new_err(
                "NumPy has no bfloat16; use .to(\"float32\") or DLPack",
            ));
        }
        interface(py, self.inner.as_ptr() as usize, "<f4", (self.inner.rows(), self.inner.width()))
    }

    /// A DLPack capsule over the same memory, or over a copy where its owner does not want it written; versioned if the
    /// consumer asks for version 1.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'_, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if stream.is_some_and(|s| !s.is_none()) {
            return Err(PyBufferError::new_err("CPU memory has no stream; pass stream=None"));
        }
        if dl_device.is_some_and(|(kind, _)| kind != 1) {
            return Err(PyBufferError::new_err(format!(
                "device {dl_device:?} is not where these vectors are: (1, 0), the CPU"
            )));
        }
        let read_only = self.inner.is_read_only();
        if read_only && copy == Some(false) {
            return Err(PyBufferError::new_err(
                "these vectors lie in read-only memory, where a consumer of DLPack could write; leave copy at None",
            ));
        }
        let copied;
        let hidden = if read_only || copy == Some(true) {
            copied = py.detach(|| self.inner.copied());
            &copied
        } else {
            &self.inner
        };
        dlpack::export(py, hidden, max_version.is_some_and(|(major, _)| major >= 1))
    }

    #[allow(clippy::unused_self, reason = "a protocol method")]
    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }
}
