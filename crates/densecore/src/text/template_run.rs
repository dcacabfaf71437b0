//! One template at work: on a thread of its own, watched by the one that waits for it.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::meter::{Meter, Stop};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// Stack of the thread a template runs on (bytes): room for the deepest expression the caps allow.
const STACK: usize = 64 << 20;
/// How often the waiting thread looks at the clock and at the caller's wish to stop.
const LOOK: Duration = Duration::from_millis(20);
/// A message of an error, at most (characters): a template may put its whole input into one.
const DETAIL: usize = 400;

/// Runs `work` on a thread whose stack holds whatever the caps allow, so that no template can exhaust the caller's.
/// The work ends at its next step once its time is over or the caller cancels; a panic is an error of the template.
pub fn on_own_stack<T: Send>(
    meter: &Meter,
    cancel: &Cancel,
    work: impl FnOnce() -> std::result::Result<T, minijinja::Error> + Send,
) -> Result<T> {
    cancel.check()?;
    std::thread::scope(|scope| {
        let (running, ended) = channel::<()>();
        let work = move || {
            let _running = running;
            work()
        };
        let thread =
            std::thread::Builder::new().name("chat template".into()).stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::thread("a chat template", &error))?;
        let mut cancelled = false;
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            if cancelled || cancel.check().is_err() {
                cancelled = true;
                meter.stop(Stop::Cancelled);
            } else if meter.is_late() {
                meter.stop(Stop::Late);
            }
        }
        match thread.join() {
            _ if cancelled => Err(Error::Cancelled),
            Ok(result) => result.map_err(|error| describe(&error)),
            Err(_) => Err(Error::Template(
                "the template engine failed on it; give the prompt as text instead, and please report the template"
                    .into(),
            )),
        }
    })
}

fn describe(error: &minijinja::Error) -> Error {
    let place = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {}", brief(detail)));
    let mut text = format!("{}{detail}{place}", error.kind());
    if error.kind() == minijinja::ErrorKind::OutOfFuel {
        text = format!("the template does too much work{place}");
    }
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {}", brief(&source.to_string()));
    }
    let remedy = match error.kind() {
        minijinja::ErrorKind::SyntaxError => "the model's files are damaged: fetch them again",
        minijinja::ErrorKind::OutOfFuel => "give the prompt as text instead",
        _ => "check the messages, or give the prompt as text instead",
    };
    Error::Template(format!("{text}; {remedy}"))
}

fn brief(text: &str) -> String {
    let mut characters = text.chars();
    let mut brief: String = characters.by_ref().take(DETAIL).collect();
    if characters.next().is_some() {
        brief.push('…');
    }
    brief
}
