//! Prompts as the Python front hands them over: already sorted into plain and chat, text, ids and vectors.

use crate::hidden::Hidden;
use densecore::generate::{Prompt, Segment};
use densecore::text::{Chat, Ending, Given, Message, Piece};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

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

/// A value for a template, already checked: `None`, `bool`, `int`, `float`, `str`, `list` or `dict` of such.
struct PyGiven(Given);

impl<'py> FromPyObject<'_, 'py> for PyGiven {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let given = if object.is_none() {
            Given::Null
        } else if object.is_instance_of::<PyBool>() {
            Given::Bool(object.extract()?)
        } else if object.is_instance_of::<PyInt>() {
            Given::Whole(object.extract()?)
        } else if object.is_instance_of::<PyFloat>() {
            Given::Real(object.extract()?)
        } else if object.is_instance_of::<PyString>() {
            Given::text(object.extract::<String>()?)
        } else if object.is_instance_of::<PyList>() {
            Given::List(object.extract::<Vec<Self>>()?.into_iter().map(|item| item.0).collect())
        } else if let Ok(dict) = object.cast::<PyDict>() {
            Given::Map(
                dict.iter()
                    .map(|(key, item)| Ok((key.extract()?, item.extract::<Self>()?.0)))
                    .collect::<PyResult<_>>()?,
            )
        } else {
            return Err(PyTypeError::new_err("a template takes None, bool, int, float, str, lists and dicts of them"));
        };
        Ok(Self(given))
    }
}

/// Messages as lists of `(key, value)`, where a content is a list of segments; variables; the template; how it ends.
type ChatTuple<'py> = (Vec<Vec<(String, Bound<'py, PyAny>)>>, Vec<(String, PyGiven)>, Option<String>, String);

/// A chat and the segments of its slots.
pub struct PyChat(pub Chat, pub Vec<Segment>);

impl<'py> FromPyObject<'_, 'py> for PyChat {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (list, variables, template, ending): ChatTuple<'py> = object.extract()?;
        let ending = match ending.as_str() {
            "prompt" => Ending::Prompt,
            "message" => Ending::Message,
            _ => Ending::Content,
        };
        let mut slots = Vec::new();
        let mut message = |entries: Vec<(String, Bound<'py, PyAny>)>| {
            let entry = |(key, value): (String, Bound<'py, PyAny>)| {
                let given = match (key.as_str(), value.is_none()) {
                    ("content", false) => content(value.extract()?, &mut slots),
                    _ => value.extract::<PyGiven>()?.0,
                };
                Ok((key, given))
            };
            Ok(Message(entries.into_iter().map(entry).collect::<PyResult<_>>()?))
        };
        let messages = list.into_iter().map(&mut message).collect::<PyResult<_>>()?;
        let variables = variables.into_iter().map(|(name, value)| (name, value.0)).collect();
        Ok(Self(Chat { messages, variables, template, ending }, slots))
    }
}

fn content(segments: Vec<PySegment>, slots: &mut Vec<Segment>) -> Given {
    let piece = |segment: PySegment| match segment.0 {
        Segment::Text(text) => Piece::Text(text),
        other => {
            slots.push(other);
            Piece::Slot(slots.len() - 1)
        }
    };
    Given::Text(segments.into_iter().map(piece).collect())
}

/// A prompt: `("plain", [segments])` or `("chat", chat)`.
pub struct PyPrompt(pub Prompt);

impl<'py> FromPyObject<'_, 'py> for PyPrompt {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (kind, body): (String, Bound<'py, PyAny>) = object.extract()?;
        if kind == "chat" {
            let PyChat(chat, slots) = body.extract()?;
            return Ok(Self(Prompt::Chat(Box::new(chat), slots)));
        }
        let segments: Vec<PySegment> = body.extract()?;
        Ok(Self(Prompt::Plain(segments.into_iter().map(|s| s.0).collect())))
    }
}

/// The engine's prompts.
pub fn prompts(list: Vec<PyPrompt>) -> Vec<Prompt> {
    list.into_iter().map(|p| p.0).collect()
}
