//! A prefilled prefix in Python.

use crate::enter::{CancelFlag, enter, quick};
use crate::model::{PyOptions, ThoughtTuple, thought};
use crate::prompt::PyPrompt;
use crate::results::{GenerationTuple, ScoreTuple, generation, score};
use crate::stream::Stream;
use densecore::generate::{Cancel, GenerateOptions, Prompt};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

/// How to think, from keyword values.
pub mod thinking {
    use densecore::generate::{Mode, Thinking};
    use densecore::{Error, Result};
    use pyo3::FromPyObject;

    #[derive(FromPyObject)]
    #[pyo3(from_item_all)]
    pub struct Options {
        steps: usize,
        mode: String,
        temperature: f32,
        top_k: usize,
        stop: Vec<u32>,
        ignore_eos: bool,
        cache_salt: Option<String>,
    }

    impl Options {
        pub fn read(self) -> Result<Thinking> {
            let mode = match self.mode.as_str() {
                "mixture" => Mode::Mixture,
                "state" => Mode::State,
                "token" => Mode::Token,
                other => {
                    return Err(Error::argument(
                        "mode",
                        format!("{other:?}"),
                        "it must be \"mixture\", \"state\" or \"token\"",
                    ));
                }
            };
            Ok(Thinking {
                steps: self.steps,
                mode,
                temperature: self.temperature,
                top_k: self.top_k,
                stop: self.stop,
                ignore_eos: self.ignore_eos,
                cache_salt: self.cache_salt.into(),
            })
        }
    }
}

/// Keys, values and last state of a prefix. Calls work on a snapshot, so threads may share one.
#[pyclass(name = "Context", frozen, module = "densecore._core")]
pub struct Context {
    inner: Mutex<densecore::Context>,
    /// One change at a time.
    writing: Mutex<()>,
}

impl From<densecore::Context> for Context {
    fn from(inner: densecore::Context) -> Self {
        Self { inner: Mutex::new(inner), writing: Mutex::new(()) }
    }
}

impl Context {
    pub fn snapshot(&self) -> densecore::Context {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes a copy and puts it in place. Readers never wait for the work: `inner` is held only to copy or to swap,
    /// and nothing that might ask for the interpreter happens under it.
    fn change(
        &self,
        py: Python<'_>,
        cancel: Option<&CancelFlag>,
        work: impl FnOnce(&mut densecore::Context, &Cancel) -> densecore::Result<()> + Send,
    ) -> PyResult<()> {
        enter(py, cancel, |cancel| {
            let _only = loop {
                match self.writing.try_lock() {
                    Ok(guard) => break guard,
                    Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => {
                        cancel.check()?;
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            };
            let mut next = self.snapshot();
            work(&mut next, cancel)?;
            let old = std::mem::replace(&mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner), next);
            // After the lock is gone: its blocks may be many.
            drop(old);
            Ok(())
        })
    }
}

#[pymethods]
impl Context {
    #[getter]
    fn length(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[getter]
    fn bytes(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    fn fork(&self) -> Self {
        self.snapshot().into()
    }

    fn extend(&self, py: Python<'_>, prompt: PyPrompt, raw: bool, cancel: Option<&CancelFlag>) -> PyResult<()> {
        self.change(py, cancel, |context, cancel| context.extend(&prompt.0, raw, cancel))
    }

    fn truncate(&self, py: Python<'_>, length: usize) -> PyResult<()> {
        self.change(py, None, |context, _| context.truncate(length))
    }

    fn generate(
        &self,
        py: Python<'_>,
        prompt: Option<PyPrompt>,
        options: PyOptions,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<GenerationTuple>> {
        let context = self.snapshot();
        let answers = enter(py, cancel, |cancel| {
            let options = GenerateOptions { cancel: cancel.clone(), ..options.0 };
            context.generate(prompt.as_ref().map(|p| &p.0), &options, raw, &mut |_| {})
        })?;
        Ok(answers.into_iter().map(|g| generation(py, g)).collect())
    }

    fn stream(
        &self,
        py: Python<'_>,
        prompt: Option<PyPrompt>,
        options: PyOptions,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Stream> {
        let context = self.snapshot();
        let mut prompt: Vec<Prompt> = prompt.into_iter().map(|p| p.0).collect();
        quick(py, py.detach(|| Prompt::copy_vectors(&mut prompt)))?;
        let cancel = cancel.map(|c| c.inner.clone()).unwrap_or_default();
        Ok(Stream::start(cancel, options.0, move |options, each| context.generate(prompt.first(), options, raw, each)))
    }

    fn score(&self, py: Python<'_>, target: Vec<u32>, top: usize, cancel: Option<&CancelFlag>) -> PyResult<ScoreTuple> {
        let context = self.snapshot();
        Ok(score(enter(py, cancel, |cancel| context.score(&target, top, cancel))?))
    }

    fn think(
        &self,
        py: Python<'_>,
        prompt: Option<PyPrompt>,
        options: thinking::Options,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<ThoughtTuple> {
        let context = self.snapshot();
        let result =
            enter(py, cancel, |cancel| context.think(prompt.as_ref().map(|p| &p.0), &options.read()?, raw, cancel))?;
        Ok(thought(result))
    }

    fn export<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let context = self.snapshot();
        let bytes = enter(py, None, |_| context.export())?;
        Ok(PyBytes::new(py, &bytes))
    }
}
