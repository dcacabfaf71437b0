//! Forms compiled once and kept for further calls, by threads that a cancelled caller need not wait for.

use super::cancel::Cancel;
use super::grammar::{Compiled, Grammar, Grammars};
use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Forms that are compiled at one time; others wait.
const AT_ONCE: usize = 4;
/// Who waits asks this often whether to go on.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Makes the compiler of a model's forms.
type Make = Box<dyn Fn() -> Result<Grammars> + Send + Sync>;

/// The forms of one model.
pub(crate) struct Forms {
    make: Make,
    /// Made when the first form is asked for: it takes a moment for a large vocabulary.
    grammars: OnceLock<Grammars>,
    /// Forms kept at most.
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The longest unused first.
    kept: Vec<(Grammar, Arc<Compiled>)>,
    compiling: Vec<Grammar>,
}

impl Forms {
    /// Keeps at most `most` forms.
    pub fn new(most: usize, make: Make) -> Arc<Self> {
        Arc::new(Self { make, grammars: OnceLock::new(), most, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The compiled form. Callers of one form wait for one compilation; a cancel ends the wait, not the compilation, whose
    /// result serves whoever asks next.
    pub fn get(self: &Arc<Self>, grammar: &Grammar, cancel: &Cancel) -> Result<Arc<Compiled>> {
        let mut state = self.lock();
        loop {
            if let Some(at) = state.kept.iter().position(|(known, _)| known == grammar) {
                let found = state.kept.remove(at);
                let form = Arc::clone(&found.1);
                state.kept.push(found);
                return Ok(form);
            }
            if !state.compiling.contains(grammar) && state.compiling.len() < AT_ONCE {
                break;
            }
            drop(self.changed.wait_timeout(state, LOOK_UP).unwrap_or_else(PoisonError::into_inner));
            cancel.check()?;
            state = self.lock();
        }
        state.compiling.push(grammar.clone());
        drop(state);
        let (sender, receiver) = channel();
        let (forms, own) = (Arc::clone(self), grammar.clone());
        let work = move || {
            // Nobody may be there any more to hear of it.
            let _ = sender.send(forms.compile(&own));
        };
        if let Err(error) = std::thread::Builder::new().name("densecore-form".into()).spawn(work) {
            self.done(grammar);
            return Err(Error::thread("compiling a form", &error));
        }
        loop {
            match receiver.recv_timeout(LOOK_UP) {
                Ok(found) => return found,
                Err(RecvTimeoutError::Timeout) => cancel.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal("compiling a form came to no end".into()));
                }
            }
        }
    }

    fn compile(&self, grammar: &Grammar) -> Result<Arc<Compiled>> {
        let found = catch_unwind(AssertUnwindSafe(|| self.grammars()?.compile(grammar))).unwrap_or_else(|_| {
            Err(Error::argument("form", "a grammar", "it must compile, and compiling it panicked"))
        });
        let found = found.map(Arc::new);
        if let Ok(form) = &found {
            let mut state = self.lock();
            state.kept.push((grammar.clone(), Arc::clone(form)));
            let over = state.kept.len().saturating_sub(self.most);
            let gone: Vec<_> = state.kept.drain(..over).collect();
            drop(state);
            drop(gone);
        }
        self.done(grammar);
        found
    }

    fn done(&self, grammar: &Grammar) {
        self.lock().compiling.retain(|other| other != grammar);
        self.changed.notify_all();
    }

    fn grammars(&self) -> Result<&Grammars> {
        if let Some(made) = self.grammars.get() {
            return Ok(made);
        }
        let made = (self.make)()?;
        Ok(self.grammars.get_or_init(|| made))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may stop at the first surprise

    use super::*;
    use crate::limits::Limits;
    use crate::tiny::Tiny;

    #[test]
    fn a_cancel_ends_the_wait_for_a_form_and_not_its_compilation() {
        let model = Tiny::new().load(64, 0, Limits::default());
        let (tokenizer, vocab, ends) = (model.tokenizer().clone(), model.config().vocab, model.ends().to_vec());
        // Nothing is compiled until this is dropped.
        let (gate, closed) = channel::<()>();
        let closed = Mutex::new(closed);
        let make = move || {
            let _ = closed.lock().unwrap().recv();
            Grammars::new(&tokenizer, vocab, &ends)
        };
        let forms = Forms::new(4, Box::new(make));
        let [slow, other] = ["A{3}", "B{3}"].map(|pattern| Grammar::Regex(pattern.into()));
        let cancel = Cancel::default();
        let waiting = std::thread::spawn({
            let (forms, slow, cancel) = (Arc::clone(&forms), slow.clone(), cancel.clone());
            move || forms.get(&slow, &cancel).map(|_| ())
        });
        while !forms.lock().compiling.contains(&slow) {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
        // Who waits for the same compilation is let go as well.
        assert!(matches!(forms.get(&slow, &cancel), Err(Error::Cancelled)));
        assert!(forms.lock().compiling.contains(&slow), "the compilation was to be under way");
        drop(gate);
        forms.get(&other, &Cancel::default()).unwrap();
        forms.get(&slow, &Cancel::default()).unwrap();
        let state = forms.lock();
        assert!(state.compiling.is_empty());
        assert_eq!(state.kept.len(), 2, "each form was compiled once");
    }
}
