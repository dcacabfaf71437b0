//! Numbers on their way to NumPy: memory of the engine behind `__array_interface__`, read-only and not copied.

use pyo3::prelude::*;
use pyo3::types::PyDict;

enum Data {
    F32(Vec<f32>),
    U32(Vec<u32>),
}

/// A read-only array; `numpy.asarray` views it without a copy.
#[pyclass(name = "Array", frozen, module = "densecore._core")]
pub struct Array {
    data: Data,
    shape: (usize, usize),
}

impl Array {
    pub fn f32(data: Vec<f32>, columns: usize) -> Self {
        Self { shape: (data.len() / columns.max(1), columns), data: Data::F32(data) }
    }

    pub fn u32(data: Vec<u32>, columns: usize) -> Self {
        Self { shape: (data.len() / columns.max(1), columns), data: Data::U32(data) }
    }
}

#[pymethods]
impl Array {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (address, kind) = match &self.data {
            Data::F32(data) => (data.as_ptr() as usize, "<f4"),
            Data::U32(data) => (data.as_ptr() as usize, "<u4"),
        };
        interface(py, address, kind, self.shape)
    }

    #[getter]
    fn shape(&self) -> (usize, usize) {
        self.shape
    }
}

/// The dictionary NumPy asks for; the second of `data` says read-only.
pub fn interface<'py>(
    py: Python<'py>,
    address: usize,
    kind: &str,
    shape: (usize, usize),
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("version", 3)?;
    dict.set_item("shape", shape)?;
    dict.set_item("typestr", kind)?;
    dict.set_item("data", (address, true))?;
    Ok(dict)
}
