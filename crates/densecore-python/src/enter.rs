//! The one door from Python into the engine.

use crate::error::{named, to_python};
use densecore::Result;
use densecore::generate::Cancel;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often running work asks the interpreter for signals: often enough for Ctrl-C, too rare to cost anything.
const EVERY: Duration = Duration::from_millis(50);

/// A request to stop that several calls may share.
#[pyclass(name = "CancelFlag", frozen, module = "densecore._core")]
#[derive(Default)]
pub struct CancelFlag {
    pub inner: Cancel,
}

#[pymethods]
impl CancelFlag {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ask every call that got this flag to stop.
    fn cancel(&self) {
        self.inner.cancel();
    }

    /// Whether :meth:`cancel` was called.
    #[getter]
    fn cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }
}

/// Runs `work` without the interpreter. Ctrl-C cancels it and comes back as the exception its handler raised.
pub fn enter<T: Send>(
    py: Python<'_>,
    cancel: Option<&CancelFlag>,
    work: impl FnOnce(&Cancel) -> Result<T> + Send,
) -> PyResult<T> {
    let raised: Arc<Mutex<Option<PyErr>>> = Arc::default();
    let asked = Mutex::new(Instant::now());
    let seen = Arc::clone(&raised);
    let poll = move || {
        let Ok(mut last) = asked.try_lock() else { return false };
        if last.elapsed() < EVERY {
            return false;
        }
        *last = Instant::now();
        #[allow(clippy::redundant_closure_for_method_calls, reason = "the method is bound to one lifetime")]
        match Python::try_attach(|py| py.check_signals()) {
            Some(Ok(())) => false,
            None => true, // the interpreter is gone, and nobody waits for the answer
            Some(Err(error)) => {
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                true
            }
        }
    };
    let base = cancel.map(|c| c.inner.clone()).unwrap_or_default();
    let cancel = base.with_poll(Arc::new(poll));
    let result = py.detach(|| catch_unwind(AssertUnwindSafe(|| work(&cancel))));
    if let Some(error) = raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(to_python(py, &error)),
        Err(panic) => {
            let what = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown panic");
            Err(named(
                py,
                "InternalError",
                format!("internal error: {what}; this is a defect of densecore, please report it"),
            ))
        }
    }
}

/// For calls too short to be worth releasing the interpreter for.
pub fn quick<T>(py: Python<'_>, result: Result<T>) -> PyResult<T> {
    result.map_err(|error| to_python(py, &error))
}
