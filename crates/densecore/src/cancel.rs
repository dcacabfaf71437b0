//! Stopping work that runs: a flag anybody may set, looked at between layers.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asked now and then whether the outside world wants the work to stop (a signal, a closed connection).
pub type Poll = dyn Fn() -> bool + Send + Sync;

/// A shared request to stop. Clones share the flag.
#[derive(Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    /// A wider request that stops this one too, and is not stopped by it.
    parent: Option<Arc<AtomicBool>>,
    interrupted: Arc<AtomicBool>,
    poll: Option<Arc<Poll>>,
}

impl Cancel {
    /// The same request, with `poll` asked at every check too; its answer `true` counts as an interruption.
    pub fn with_poll(&self, poll: Arc<Poll>) -> Self {
        Self { interrupted: Arc::default(), poll: Some(poll), ..self.clone() }
    }

    /// The same request, never asking anybody: for work that another caller's thread does.
    pub(crate) fn quiet(&self) -> Self {
        Self { poll: None, ..self.clone() }
    }

    /// A request of its own that stops when this one does.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { parent: Some(Arc::clone(&self.flag)), ..Self::default() }
    }

    /// Asks running work to stop at its next layer.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        let asked = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        asked(&self.flag) || self.parent.as_ref().is_some_and(asked)
    }

    /// Whether `poll` ended the work, rather than a call of [`Cancel::cancel`].
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Fails with [`Error::Cancelled`] once somebody asked.
    pub fn check(&self) -> Result<()> {
        if self.poll.as_ref().is_some_and(|poll| poll()) {
            self.interrupted.store(true, Ordering::Relaxed);
        }
        if self.is_interrupted() || self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel({})", self.is_cancelled())
    }
}
