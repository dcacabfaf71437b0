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
    NotFound {
        /// Where it should be.
        path: PathBuf,
        /// What was missing there.
        detail: String,
    },
    /// The operating system refused to read or write.
    #[error("{action} {path} failed: {source}; check the file, its permissions and the disk")]
    Io {
        /// What was tried, such as "reading".
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A model file contradicts itself or its format.
    #[error(
        "{path} is not a valid {format} file: {detail}; download it again, or check it with `python -m densecore.models verify`"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// "GGUF", "safetensors" ...
        format: &'static str,
        /// Which claim is wrong, with its value.
        detail: String,
    },
    /// A well-formed model that this engine does not implement; refused rather than computed wrongly.
    #[error("{what} is not supported: {value}; {remedy}")]
    Unsupported {
        /// The feature.
        what: String,
        /// Its value in the file.
        value: String,
        /// What to use in its place.
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
        /// Its name.
        name: &'static str,
        /// As it was given.
        value: String,
        /// What it must be.
        remedy: String,
    },
    /// A prompt that cannot be used as it stands (empty, say).
    #[error("prompt: {0}")]
    Prompt(String),
    /// Prompt and room for the answer exceed the context.
    #[error(
        "{needed} positions are needed ({given} given, {} to come) but the context holds {limit}; shorten the prompt, lower max_tokens or load with a larger context",
        needed.saturating_sub(*given)
    )]
    ContextLength {
        /// Prompt and answer, in positions.
        needed: usize,
        /// Those of the context so far and the prompt.
        given: usize,
        /// Positions the context can hold.
        limit: usize,
    },
    /// Vectors of the wrong width.
    #[error(
        "vectors are {got} wide but this model's are {expected}; use vectors made by this model or map them through an edge"
    )]
    Width {
        /// The model's width.
        expected: usize,
        /// The vectors' width.
        got: usize,
    },
    /// NaN or infinity in a vector.
    #[error(
        "row {row} holds {value} at column {column}; every component must be finite: check what produced the vectors"
    )]
    NonFinite {
        /// Position, from 0.
        row: usize,
        /// Component, from 0.
        column: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A hidden state used in a space where it does not belong.
    #[error("a state in the {got} space was given where {expected} is needed; {remedy}")]
    Space {
        /// The space the call needs.
        expected: String,
        /// The space the state belongs to.
        got: String,
        /// How to get there.
        remedy: String,
    },
    /// A state of another model.
    #[error(
        "a state of model {got} was given to model {expected}; states fit only the model that made them, or pass them through an edge"
    )]
    Fingerprint {
        /// The model's.
        expected: String,
        /// The state's.
        got: String,
    },
    /// What was kept cannot be had back: an exported context that cannot be read, a model that was closed.
    #[error("{0}")]
    State(String),
    /// The model or cache does not fit into memory.
    #[error("{what} needs {needed} MiB but {available} MiB of memory are available; {remedy}")]
    Memory {
        /// What should be held.
        what: String,
        /// MiB.
        needed: u64,
        /// MiB, when it was asked for.
        available: u64,
        /// How to need less.
        remedy: String,
    },
    /// A cap of [`crate::Limits`] was reached. The remedy is one for callers who cannot move the cap, as from Python.
    #[error("{what} is {value}, over the cap of {cap}; {remedy}")]
    Limit {
        /// What is counted.
        what: String,
        /// Its count.
        value: u64,
        /// The most that is allowed.
        cap: u64,
        /// What to change.
        remedy: String,
    },
    /// Others hold the room in the key-value cache that a call needs, and waiting (longer) is not allowed or no use.
    #[error("the key-value cache is full: {needed} positions are needed, {free} of {total} are free; {why}")]
    Overloaded {
        /// Positions the call may come to hold, beyond those of its context.
        needed: usize,
        /// Positions neither held nor promised to a call.
        free: usize,
        /// Positions there is room for.
        total: usize,
        /// Why it waits no longer, and what to do.
        why: String,
    },
    /// The model computed NaN or infinity, or a key or value too large for its storage.
    #[error(
        "the numbers of this sequence went wrong: {0}; check the model's file with `python -m densecore.models verify`, and load with kv=\"f32\" if a key or value was too large"
    )]
    Numeric(String),
    /// The caller cancelled.
    #[error("cancelled by the caller")]
    Cancelled,
    /// The process was forked after the engine started.
    #[error(
        "this process was forked (pid {child}) from the one that loaded the model (pid {parent}); engine threads do not survive a fork: use the \"spawn\" start method, or load the model in the child"
    )]
    Fork {
        /// Process that loaded the model.
        parent: u32,
        /// This process.
        child: u32,
    },
    /// The system gave no thread.
    #[error("no thread could be started for {work}: {reason}; close other streams, or free some memory")]
    Thread {
        /// What it was for.
        work: &'static str,
        /// What the system said.
        reason: String,
    },
    /// A defect in densecore.
    #[error("internal error: {0}; this is a defect of densecore, please report it")]
    Internal(String),
}

impl Error {
    /// The system gave no thread for `work`.
    pub fn thread(work: &'static str, reason: &std::io::Error) -> Self {
        Self::Thread { work, reason: reason.to_string() }
    }

    /// An argument outside its range.
    pub fn argument(name: &'static str, value: impl ToString, remedy: impl Into<String>) -> Self {
        Self::Argument { name, value: value.to_string(), remedy: remedy.into() }
    }

    /// A context that cannot go on, or cannot be read back.
    pub fn context(detail: impl std::fmt::Display) -> Self {
        Self::State(format!("context data: {detail}"))
    }

    /// A feature refused by name.
    pub fn unsupported(what: impl Into<String>, value: impl ToString, remedy: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), value: value.to_string(), remedy: remedy.into() }
    }

    /// A failed system call on a path.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
