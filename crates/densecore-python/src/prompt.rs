//! Prompts as the Python front hands them over: already sorted into plain and chat, text, ids and vectors.

use crate::hidden::Hidden;
use densecore::generate::{Prompt, Segment, Turn};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A segment: `str`, `Hidden`, or a sequence of ids.
pub struct PySegment(pub Segment);

impl<'py> FromPyObject<'_, 'py> for PySegment {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self(Segment::Text(text.extract()?)));
        }
        if let Ok(hidden) = object.cast::<Hidden>() {
            return Ok(Self(Segment::Vectors(hidden.get().inner.clone())));
        }
        Ok(Self(Segment::Ids(object.extract()?)))
    }
}

/// A prompt: `("plain", [segments])` or `("chat", [(role, [segments])])`.
pub struct PyPrompt(pub Prompt);

impl<'py> FromPyObject<'_, 'py> for PyPrompt {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (kind, body): (String, Bound<'py, PyAny>) = object.extract()?;
        if kind == "chat" {
            let turns: Vec<(String, Vec<PySegment>)> = body.extract()?;
            let turns = turns
                .into_iter()
                .map(|(role, content)| Turn { role, content: content.into_iter().map(|s| s.0).collect() })
                .collect();
            return Ok(Self(Prompt::Chat(turns)));
        }
        let segments: Vec<PySegment> = body.extract()?;
        Ok(Self(Prompt::Plain(segments.into_iter().map(|s| s.0).collect())))
    }
}

/// The engine's prompts.
pub fn prompts(list: Vec<PyPrompt>) -> Vec<Prompt> {
    list.into_iter().map(|p| p.0).collect()
}
