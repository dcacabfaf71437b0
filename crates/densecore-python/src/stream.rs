//! An answer piece by piece: the engine writes on its own thread, Python reads events.

use crate::error::to_python;
use crate::results::{GenerationTuple, LogprobTuple, generation, logprobs};
use densecore::generate::{Cancel, Event, GenerateOptions, Generation};
use densecore::{Error, Result};
use pyo3::prelude::*;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

type EventTuple = (usize, String, Vec<u32>, Option<&'static str>, Vec<LogprobTuple>);

enum Message {
    Event(Event),
    Done(Result<Vec<Generation>>),
}

struct State {
    receiver: Receiver<Message>,
    results: Option<Vec<Generation>>,
}

/// An iterator of `(index, text, ids, finish, logprobs)`. Dropping it cancels the answer.
#[pyclass(name = "Stream", frozen, module = "densecore._core")]
pub struct Stream {
    state: Mutex<State>,
    cancel: Cancel,
}

impl Stream {
    /// Starts `work` on a thread of its own.
    pub fn start(
        cancel: Cancel,
        options: GenerateOptions,
        work: impl FnOnce(&GenerateOptions, &mut dyn FnMut(&Event)) -> Result<Vec<Generation>> + Send + 'static,
    ) -> Self {
        // Unbounded, for the events are no more than the answer's tokens, and the engine must not wait for a reader.
        let (sender, receiver) = channel();
        // Dropping the stream stops this answer, not everything its caller's request covers.
        let cancel = cancel.child();
        let stop = cancel.clone();
        let options = GenerateOptions { cancel: stop.clone(), ..options };
        let failed = sender.clone();
        let started = std::thread::Builder::new().name("densecore-stream".into()).spawn(move || {
            let events = sender.clone();
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                work(&options, &mut |event| {
                    // Nobody reads any more: stop.
                    if events.send(Message::Event(event.clone())).is_err() {
                        stop.cancel();
                    }
                })
            }));
            let result = run.unwrap_or_else(|_| Err(Error::Internal("the streaming thread panicked".into())));
            let _ = sender.send(Message::Done(result));
        });
        if let Err(error) = started {
            let error = Error::thread("a stream", &error);
            let _ = failed.send(Message::Done(Err(error)));
        }
        Self { state: Mutex::new(State { receiver, results: None }), cancel }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[pymethods]
impl Stream {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<EventTuple>> {
        loop {
            let message = py.detach(|| {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.receiver.recv_timeout(Duration::from_millis(50))
            });
            match message {
                Ok(Message::Event(e)) => {
                    let finish = e.finish.map(densecore::generate::Finish::name);
                    return Ok(Some((e.index, e.text, e.ids, finish, logprobs(e.logprobs))));
                }
                Ok(Message::Done(Ok(list))) => {
                    let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.results = Some(list);
                    return Ok(None);
                }
                Ok(Message::Done(Err(error))) => return Err(to_python(py, &error)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = py.check_signals() {
                        self.cancel.cancel();
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Ask the engine to stop; events already written still come.
    fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The finished answers, once the iterator has ended.
    fn results(&self, py: Python<'_>) -> Option<Vec<GenerationTuple>> {
        let results = self.state.lock().unwrap_or_else(PoisonError::into_inner).results.clone();
        Some(results?.into_iter().map(|g| generation(py, g)).collect())
    }
}
