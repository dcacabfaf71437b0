//! `densecore._core`: the engine's objects as Python sees them. No arithmetic and no policy here.
//!
//! Every call that computes passes [`enter::enter`]: it releases the interpreter, turns a panic into an ordinary
//! exception, lets Ctrl-C through and maps errors.
mod array;
mod context;
mod dlpack;
mod enter;
mod error;
mod exchange;
mod gradient;
mod hidden;
mod machine;
mod model;
mod prompt;
mod results;
mod stream;

use pyo3::prelude::*;

#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<array::Array>()?;
    m.add_class::<enter::CancelFlag>()?;
    m.add_class::<hidden::Hidden>()?;
    m.add_class::<model::Model>()?;
    m.add_class::<context::Context>()?;
    m.add_class::<gradient::Recording>()?;
    m.add_class::<stream::Stream>()?;
    machine::register(m)
}
