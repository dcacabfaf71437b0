//! Numbers on their way to NumPy: memory of the engine behind `__array_interface__`, not copied, and given away for good.

use densecore::Lent;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An array that `numpy.asarray` views without a copy, as read-only.
#[pyclass(name = "Array", frozen, module = "densecore._core")]
pub struct Array {
    address: usize,
    kind: &'static str,
    shape: (usize, usize),
    #[allow(dead_code, reason = "held for its lifetime")]
    owner: Box<dyn Send + Sync>,
}

impl Array {
    pub fn f32(data: Vec<f32>, columns: usize) -> Self {
        Self::new(data, columns, "<f4")
    }

    pub fn u32(data: Vec<u32>, columns: usize) -> Self {
        Self::new(data, columns, "<u4")
    }

    fn new<T: Copy + Send + 'static>(data: Vec<T>, columns: usize, kind: &'static str) -> Self {
        let shape = (data.len() / columns.max(1), columns);
        let lent = Lent::new(data);
        Self { address: lent.start().expose_provenance(), kind, shape, owner: Box::new(lent) }
    }
}

#[pymethods]
impl Array {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        interface(py, self.address, self.kind, self.shape)
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
