//! One engine error, one Python class: the classes live in `densecore.errors`.

use densecore::Error;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The Python exception of an engine error.
pub fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::NotFound { .. } => "ModelNotFoundError",
        Error::Io { .. } => "StorageError",
        Error::Format { .. } => "ModelFormatError",
        Error::Unsupported { .. } => "UnsupportedModelError",
        Error::Tokenizer(_) => "TokenizerError",
        Error::Template(_) => "TemplateError",
        Error::Argument { .. } => "ArgumentError",
        Error::Prompt(_) => "PromptError",
        Error::ContextLength { .. } => "ContextLengthError",
        Error::Width { .. } => "WidthError",
        Error::NonFinite { .. } => "NonFiniteError",
        Error::Space { .. } => "SpaceError",
        Error::Fingerprint { .. } => "FingerprintError",
        Error::State(_) => "StateError",
        Error::Memory { .. } => "InsufficientMemoryError",
        Error::Limit { .. } => "LimitError",
        Error::Overloaded { .. } => "OverloadedError",
        Error::Numeric(_) => "NumericError",
        Error::Cancelled => "GenerationCancelled",
        Error::Fork { .. } => "ForkError",
        Error::Thread { .. } => "ThreadError",
        _ => "InternalError",
    };
    named(py, class, error.to_string())
}

/// An exception of `densecore.errors` by name.
pub fn named(py: Python<'_>, class: &str, message: String) -> PyErr {
    let found = py
        .import("densecore.errors")
        .and_then(|module| module.getattr(class))
        .and_then(|class| Ok(class.cast_into::<PyType>()?));
    match found {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}
