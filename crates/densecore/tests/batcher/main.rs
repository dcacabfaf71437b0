//! Many callers under a tight cap on keys and values: who enters, who waits, who is refused; nothing is lost, repeated
//! or changed.

#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

mod line;
mod random;
mod salt;
mod tiny;
mod twins;

use densecore::generate::{GenerateOptions, Prompt, Segment};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A prompt of ids.
fn prompt(ids: &[u32]) -> Prompt {
    Prompt::Plain(vec![Segment::Ids(ids.to_vec())])
}

/// Exactly `count` tokens, the likeliest.
fn tokens(count: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: count, ignore_eos: true, ..GenerateOptions::default() }
}

/// Runs `work` on a thread of its own; a test that hangs fails with `what` rather than with the patience of whoever
/// started it.
fn watched(what: String, work: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let worker = std::thread::spawn(move || {
        work();
        let _ = sender.send(());
    });
    match receiver.recv_timeout(Duration::from_secs(120)) {
        Err(RecvTimeoutError::Timeout) => {
            panic!("nothing more happens after two minutes, callers wait for ever: {what}")
        }
        // Ended, or panicked and dropped the sender.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(panic) = worker.join() {
                eprintln!("{what}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
