//! One error for the whole engine. Every message says what failed, with which value, and what to do next.

use std::path::PathBuf;

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong; the binding maps each variant to one Python class.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that should hold a model is not there.
    #[error("no model at {path}: {detail}")]
    NotFound { path: PathBuf, detail: String },
    /// The operating system refused to read or write.
    #[error("{action} {path} failed: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A model file contradicts itself or its format.
    #[error("{path} is not a valid {format} file: {detail}; download it again, or check it with `python -m densecore.models verify`")]
    Format {
        path: PathBuf,
        format: &'static str,
        detail: String,
    },
    /// A well-formed model that this engine does not implement; refused rather than computed wrongly.
    #[error("{what} is not supported: {value}; {remedy}")]
    Unsupported {
        what: String,
        value: String,
        remedy: String,
    },
    /// Text or ids the tokenizer cannot handle.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template failed, is missing, or asked for too much work.
    #[error("chat template: {0}")]
    Template(String),
    /// An argument outside its range.
    #[error("{name} = {value}: {remedy}")]
    Argument {
        name: &'static str,
        value: String,
        remedy: String,
    },
    /// A prompt that cannot be used as it stands (empty, say).
    #[error("prompt: {0}")]
    Prompt(String),
    /// Prompt and room for the answer exceed the context.
    #[error(
        "{needed} positions are needed but the context holds {limit}; shorten the prompt, lower max_tokens or load with a larger context"
    )]
    ContextLength { needed: usize, limit: usize },
    /// Vectors of the wrong width.
    #[error(
        "vectors are {got} wide but this model's are {expected}; use vectors made by this model or map them through an edge"
    )]
    Width { expected: usize, got: usize },
    /// NaN or infinity in a vector.
    #[error(
        "row {row} holds {value} at column {column}; every component must be finite: check what produced the vectors"
    )]
    NonFinite {
        row: usize,
        column: usize,
        value: f32,
    },
    /// A hidden state used in a space where it does not belong.
    #[error("a state in the {got} space was given where {expected} is needed; {remedy}")]
    Space {
        expected: String,
        got: String,
        remedy: String,
    },
    /// A state of another model.
    #[error("a state of model {got} was given to model {expected}; states fit only the model that made them, or pass them through an edge")]
    Fingerprint { expected: String, got: String },
    /// An exported context that cannot be read back.
    #[error("context data: {0}")]
    State(String),
    /// The model or cache does not fit into memory.
    #[error("{what} needs {needed} MiB but {available} MiB of memory are available; {remedy}")]
    Memory {
        what: String,
        needed: u64,
        available: u64,
        remedy: String,
    },
    /// A cap of [`crate::Limits`] was reached.
    #[error("{what} is {value}, over the cap of {cap}; {remedy}")]
    Limit {
        what: String,
        value: u64,
        cap: u64,
        remedy: String,
    },
    /// The queue is full.
    #[error("the queue holds {queued} requests, its cap; try again later or raise the cap")]
    Overloaded { queued: usize },
    /// The caller cancelled.
    #[error("cancelled by the caller")]
    Cancelled,
    /// The process was forked after the engine started.
    #[error("this process was forked (pid {child}) from the one that loaded the model (pid {parent}); engine threads do not survive a fork: use the \"spawn\" start method, or load the model in the child")]
    Fork { parent: u32, child: u32 },
    /// A device or kernel the machine cannot provide.
    #[error("backend: {0}")]
    Backend(String),
    /// A defect in densecore.
    #[error("internal error: {0}; this is a defect of densecore, please report it")]
    Internal(String),
}

impl Error {
    /// An argument outside its range.
    pub fn argument(
        name: &'static str,
        value: impl ToString,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Argument {
            name,
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }

    /// A feature refused by name.
    pub fn unsupported(
        what: impl Into<String>,
        value: impl ToString,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            what: what.into(),
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }

    /// A failed system call on a path.
    pub fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: std::io::Error,
    ) -> Self {
        Self::Io {
            action,
            path: path.into(),
            source,
        }
    }
}
