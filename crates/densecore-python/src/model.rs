//! A loaded model in Python.

use crate::array::Array;
use crate::context::{Context, thinking};
use crate::enter::{CancelFlag, enter, quick};
use crate::gradient::{self, ItemTuple, LossTuple, PyGradOptions, PyPrefix, Recording};
use crate::hidden::Hidden;
use crate::prompt::{PyChat, PyPrompt, prompts};
use crate::results::{GenerationTuple, ScoreTuple, UsageTuple, generation, score, usage};
use crate::stream::Stream;
use densecore::generate::{GenerateOptions, Pooling, Prompt, Tap};
use densecore::text::Special;
use densecore::{Error, Limits, LoadOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::time::Duration;

/// `(vectors, ids, stopped by, context, usage)`.
pub type ThoughtTuple = (Hidden, Vec<u32>, Option<u32>, Context, UsageTuple);

/// A frozen model; any number of threads may call it.
#[pyclass(name = "Model", frozen, module = "densecore._core")]
pub struct Model {
    pub inner: densecore::Model,
}

/// Options of a generation, from a dictionary of those that are given.
pub struct PyOptions(pub GenerateOptions);

impl<'py> FromPyObject<'_, 'py> for PyOptions {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(pythonize::depythonize(&object)?))
    }
}

/// Refuses options outside their ranges, before any work is started with them.
#[pyfunction]
pub fn check_options(py: Python<'_>, options: PyOptions) -> PyResult<()> {
    quick(py, options.0.check(&densecore::Limits::default()))
}

#[pymethods]
impl Model {
    #[staticmethod]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        threads: Option<usize>,
        context: Option<usize>,
        kv: &str,
        cache_bytes: Option<u64>,
        max_memory: Option<u64>,
        prefix_bytes: Option<u64>,
        queue: usize,
        queue_seconds: f64,
        exact: bool,
    ) -> PyResult<Self> {
        let cache = quick(py, crate::machine::cache_format(kv))?;
        let wait = Duration::try_from_secs_f64(queue_seconds).map_err(|_| {
            Error::argument("queue_seconds", queue_seconds, "it must be a number of seconds, 0 or more and finite")
        });
        let limits = Limits { queue, queue_wait: quick(py, wait)?, ..Limits::default() };
        let options =
            LoadOptions { threads, context, cache, exact, cache_budget: cache_bytes, max_memory, prefix_bytes, limits };
        let inner = enter(py, None, |_| densecore::Model::load(&path, &options))?;
        Ok(Self { inner })
    }

    /// Refuse further calls, and let go of what is kept for them.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }

    /// Shape and settings.
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let c = self.inner.config();
        let dict = PyDict::new(py);
        dict.set_item("arch", c.arch.name())?;
        dict.set_item("vocab", c.vocab)?;
        dict.set_item("width", c.width)?;
        dict.set_item("layers", c.layers)?;
        dict.set_item("heads", c.heads)?;
        dict.set_item("kv_heads", c.kv_heads)?;
        dict.set_item("head_dim", c.head_dim)?;
        dict.set_item("mlp_width", c.mlp_width)?;
        dict.set_item("norm_eps", c.norm_eps)?;
        dict.set_item("rope_theta", c.rotary.base)?;
        dict.set_item("tied", c.tied)?;
        dict.set_item("context", self.inner.context())?;
        Ok(dict)
    }

    #[getter]
    fn name(&self) -> &str {
        &self.inner.config().name
    }

    #[getter]
    fn fingerprint(&self) -> &str {
        self.inner.fingerprint()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.inner.threads()
    }

    #[getter]
    fn kv(&self) -> &'static str {
        crate::machine::cache_name(self.inner.cache_format())
    }

    #[getter]
    fn exact(&self) -> bool {
        self.inner.is_exact()
    }

    #[getter]
    fn eos_ids(&self) -> Vec<u32> {
        self.inner.ends().to_vec()
    }

    fn special_tokens(&self) -> Vec<(u32, String)> {
        self.inner.tokenizer().special_tokens().map(|(id, text)| (id, text.to_owned())).collect()
    }

    /// Bytes of (packed weights, files, caches in use, caches allowed).
    fn memory(&self) -> (u64, u64, u64, u64) {
        self.inner.memory()
    }

    /// What a plain prompt begins with, where the model's files say so.
    #[getter]
    fn bos_id(&self) -> Option<u32> {
        self.inner.tokenizer().begin().first().copied()
    }

    /// The names of the chat templates.
    #[getter]
    fn chat_templates(&self) -> Vec<String> {
        self.inner.templates().names().map(str::to_owned).collect()
    }

    fn tokenize(&self, py: Python<'_>, texts: Vec<String>, special: bool, bos: bool) -> PyResult<Vec<Vec<u32>>> {
        let special = if special { Special::Parse } else { Special::AsText };
        let tokenizer = self.inner.tokenizer();
        enter(py, None, |_| {
            let before = if bos { tokenizer.begin() } else { &[] };
            let whole = |text: &String| Ok([before, &tokenizer.encode(text, special)?].concat());
            texts.iter().map(whole).collect()
        })
    }

    fn detokenize(&self, py: Python<'_>, lists: Vec<Vec<u32>>, special: bool) -> PyResult<Vec<String>> {
        enter(py, None, |_| lists.iter().map(|ids| self.inner.detokenize(ids, special)).collect())
    }

    fn render(&self, py: Python<'_>, chat: PyChat) -> PyResult<String> {
        enter(py, None, |cancel| self.inner.templates().choose(&chat.0)?.render_chat(&chat.0, cancel))
    }

    fn embed(&self, py: Python<'_>, batch: Vec<PyPrompt>) -> PyResult<Vec<Hidden>> {
        let list = prompts(batch);
        Ok(enter(py, None, |cancel| self.inner.embed(&list, cancel))?.into_iter().map(Hidden::from).collect())
    }

    fn encode(
        &self,
        py: Python<'_>,
        batch: Vec<PyPrompt>,
        layer: Option<usize>,
        normed: Option<bool>,
        pool: Option<&str>,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<Hidden>> {
        let list = prompts(batch);
        let pool = match pool {
            None => Pooling::None,
            Some("mean") => Pooling::Mean,
            Some("last") => Pooling::Last,
            Some(other) => {
                return quick(
                    py,
                    Err(Error::argument("pool", format!("{other:?}"), "it must be None, \"mean\" or \"last\"")),
                );
            }
        };
        let tap = Tap { layer, normed, pool };
        let states = enter(py, cancel, |cancel| self.inner.encode(&list, tap, raw, cancel))?;
        Ok(states.into_iter().map(Hidden::from).collect())
    }

    fn forward(
        &self,
        py: Python<'_>,
        batch: Vec<Py<Hidden>>,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<Hidden>> {
        let list: Vec<densecore::Hidden> = batch.iter().map(|h| h.get().inner.clone()).collect();
        let states = enter(py, cancel, |cancel| self.inner.forward(&list, raw, cancel))?;
        Ok(states.into_iter().map(Hidden::from).collect())
    }

    /// `(ids, probabilities)`, both `(T, k)`.
    fn readout(&self, py: Python<'_>, states: &Hidden, k: usize, raw: bool) -> PyResult<(Array, Array)> {
        let r = enter(py, None, |_| self.inner.readout(&states.inner, k, raw))?;
        Ok((Array::u32(r.ids, r.k), Array::f32(r.probabilities, r.k)))
    }

    fn logits(
        &self,
        py: Python<'_>,
        batch: Vec<PyPrompt>,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<Array>> {
        let list = prompts(batch);
        let vocab = self.inner.config().vocab;
        let rows = enter(py, cancel, |cancel| self.inner.logits(&list, raw, cancel))?;
        Ok(rows.into_iter().map(|data| Array::f32(data, vocab)).collect())
    }

    fn generate(
        &self,
        py: Python<'_>,
        batch: Vec<PyPrompt>,
        options: PyOptions,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<GenerationTuple>> {
        let list = prompts(batch);
        let answers = enter(py, cancel, |cancel| {
            let options = GenerateOptions { cancel: cancel.clone(), ..options.0 };
            self.inner.generate(&list, &options, raw, &mut |_| {})
        })?;
        Ok(answers.into_iter().map(|g| generation(py, g)).collect())
    }

    fn stream(
        &self,
        py: Python<'_>,
        batch: Vec<PyPrompt>,
        options: PyOptions,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Stream> {
        let (model, mut list) = (self.inner.clone(), prompts(batch));
        // Now, for the thread that computes may come to it when the caller has gone on.
        quick(py, py.detach(|| Prompt::copy_vectors(&mut list)))?;
        let cancel = cancel.map(|c| c.inner.clone()).unwrap_or_default();
        Ok(Stream::start(cancel, options.0, move |options, each| model.generate(&list, options, raw, each)))
    }

    fn score(
        &self,
        py: Python<'_>,
        pairs: Vec<(PyPrompt, Vec<u32>)>,
        top: usize,
        salt: Option<String>,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<ScoreTuple>> {
        let pairs: Vec<_> = pairs.into_iter().map(|(p, target)| (p.0, target)).collect();
        let scores = enter(py, cancel, |cancel| self.inner.score(&pairs, top, &salt.into(), raw, cancel))?;
        Ok(scores.into_iter().map(score).collect())
    }

    /// The loss of `(prefix, vectors, targets, weights)` and, if `grad`, its gradient by the vectors.
    fn loss_and_grad(
        &self,
        py: Python<'_>,
        batch: Vec<ItemTuple>,
        grad: bool,
        options: PyGradOptions,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<LossTuple>> {
        let list = gradient::items(batch);
        let found = enter(py, cancel, |cancel| self.inner.loss_and_grad(&list, grad, options.into(), cancel))?;
        Ok(found.into_iter().map(|one| gradient::loss(&self.inner, one, grad)).collect())
    }

    /// Takes vectors behind their prefixes to the states of a layer, to go back from them.
    fn record(
        &self,
        py: Python<'_>,
        batch: Vec<(PyPrefix, Py<Hidden>)>,
        layer: Option<usize>,
        normed: Option<bool>,
        options: PyGradOptions,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Recording> {
        let tap = Tap { layer, normed, pool: Pooling::None };
        Recording::make(py, &self.inner, batch, tap, options, cancel)
    }

    fn prefill(
        &self,
        py: Python<'_>,
        batch: Vec<PyPrompt>,
        salt: Option<String>,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<Context>> {
        let list = prompts(batch);
        let contexts = enter(py, cancel, |cancel| self.inner.prefill(&list, &salt.into(), raw, cancel))?;
        Ok(contexts.into_iter().map(Context::from).collect())
    }

    fn think(
        &self,
        py: Python<'_>,
        batch: Vec<PyPrompt>,
        options: thinking::Options,
        raw: bool,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<ThoughtTuple>> {
        let list = prompts(batch);
        let thinking = quick(py, options.read())?;
        let thoughts = enter(py, cancel, |cancel| self.inner.think(&list, &thinking, raw, cancel))?;
        Ok(thoughts.into_iter().map(thought).collect())
    }

    fn import_context(&self, py: Python<'_>, data: Vec<u8>) -> PyResult<Context> {
        Ok(enter(py, None, |cancel| self.inner.import(&data, cancel))?.into())
    }
}

pub fn thought(t: densecore::generate::Thought) -> ThoughtTuple {
    (t.vectors.into(), t.ids, t.stopped, t.context.into(), usage(t.usage))
}
