//! Gradients in Python: losses, and recordings that can be gone back.

use crate::context::Context;
use crate::enter::{CancelFlag, enter};
use crate::hidden::Hidden;
use crate::prompt::PyPrompt;
use crate::results::{UsageTuple, usage};
use densecore::generate::Tap;
use densecore::gradient::{GradOptions, Loss, LossItem, Prefix, Pulled, Recording as Recorded};
use pyo3::prelude::*;

/// Keys' and values' gradients of a layer, `(positions, kv_heads * head_dim)`.
pub type KvPair = (Hidden, Hidden);
/// `(loss, log-probabilities, gradient, gradients by the prefix's keys and values, usage)`.
pub type LossTuple = (f64, Vec<f32>, Option<Hidden>, Vec<KvPair>, UsageTuple);
/// `(prefix, vectors, targets, weights)`.
pub type ItemTuple = (PyPrefix, Py<Hidden>, Vec<u32>, Option<Vec<f32>>);

/// What comes before the vectors: `None`, a prompt or a context.
pub struct PyPrefix(pub Prefix);

impl<'py> FromPyObject<'_, 'py> for PyPrefix {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_none() {
            return Ok(Self(Prefix::Nothing));
        }
        if let Ok(context) = object.cast::<Context>() {
            return Ok(Self(Prefix::Context(context.get().snapshot())));
        }
        Ok(Self(Prefix::Prompt(object.extract::<PyPrompt>()?.0)))
    }
}

/// `(memory, kv, raw)`.
#[derive(FromPyObject)]
pub struct PyGradOptions(Option<u64>, bool, bool);

impl From<PyGradOptions> for GradOptions {
    fn from(o: PyGradOptions) -> Self {
        Self { memory: o.0, kv: o.1, raw: o.2 }
    }
}

pub fn items(list: Vec<ItemTuple>) -> Vec<LossItem> {
    list.into_iter()
        .map(|(prefix, vectors, targets, weights)| LossItem {
            prefix: prefix.0,
            vectors: vectors.get().inner.clone(),
            targets,
            weights,
        })
        .collect()
}

/// Gradients on their way to an array or a tensor; nobody sees their space.
fn plain(model: &densecore::Model, data: Vec<f32>, width: usize) -> Hidden {
    let space = densecore::Space::Input;
    densecore::Hidden::new(data, width, space, model.fingerprint().clone()).into()
}

fn kv_pairs(model: &densecore::Model, kv: Vec<densecore::gradient::KvGradients>) -> Vec<KvPair> {
    let width = model.config().kv_width();
    kv.into_iter().map(|g| (plain(model, g.keys, width), plain(model, g.values, width))).collect()
}

pub fn loss(model: &densecore::Model, found: Loss, grad: bool) -> LossTuple {
    let width = model.config().width;
    let gradient = grad.then(|| plain(model, found.grad, width));
    (found.loss, found.logprobs, gradient, kv_pairs(model, found.kv), usage(found.usage))
}

/// A forward pass that can be gone back.
#[pyclass(name = "Recording", frozen, module = "densecore._core")]
pub struct Recording {
    model: densecore::Model,
    inner: Recorded,
}

impl Recording {
    pub fn make(
        py: Python<'_>,
        model: &densecore::Model,
        batch: Vec<(PyPrefix, Py<Hidden>)>,
        tap: Tap,
        options: PyGradOptions,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Self> {
        let list: Vec<_> = batch.into_iter().map(|(p, h)| (p.0, h.get().inner.clone())).collect();
        let inner = enter(py, cancel, |cancel| model.record(&list, tap, options.into(), cancel))?;
        Ok(Self { model: model.clone(), inner })
    }
}

#[pymethods]
impl Recording {
    /// The states of each sequence's vectors.
    fn states(&self, py: Python<'_>) -> PyResult<Vec<Hidden>> {
        let states = enter(py, None, |_| self.inner.states())?;
        Ok(states.into_iter().map(Hidden::from).collect())
    }

    /// `(gradient, gradients by the prefix's keys and values)` of each sequence.
    fn pull(
        &self,
        py: Python<'_>,
        gradients: Vec<Py<Hidden>>,
        cancel: Option<&CancelFlag>,
    ) -> PyResult<Vec<(Hidden, Vec<KvPair>)>> {
        let list: Vec<_> = gradients.iter().map(|g| g.get().inner.clone()).collect();
        let pulled = enter(py, cancel, |cancel| self.inner.pull(&list, cancel))?;
        let width = self.model.config().width;
        let one = |p: Pulled| (plain(&self.model, p.grad, width), kv_pairs(&self.model, p.kv));
        Ok(pulled.into_iter().map(one).collect())
    }
}
