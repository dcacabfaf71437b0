//! Callers that arrive together work together: one of them leads, the others' items ride along.
//!
//! No thread of its own, so an idle model costs nothing: the first caller to find nobody leading takes what waits, its
//! own item and strangers', and hands each its result back. While it works, newcomers gather for the next round.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a leader waits for callers that are about to bring their next item: far less than a step takes.
const GATHER: Duration = Duration::from_millis(1);

/// A meeting place for items of one kind.
pub(crate) struct Combiner<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<(u64, T)>,
    done: Vec<(u64, T)>,
    leading: bool,
    tickets: u64,
}

impl<T> Default for Combiner<T> {
    fn default() -> Self {
        let state = State { waiting: Vec::new(), done: Vec::new(), leading: false, tickets: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<T> Combiner<T> {
    /// Brings an item, returns it worked on. `expected` callers are likely to bring one soon; `choose` says how many of
    /// the waiting items, from the oldest, fit into one round (at least one is taken); `work` works on a round.
    pub fn run(&self, item: T, expected: usize, choose: &dyn Fn(&[&T]) -> usize, work: &dyn Fn(&mut [T])) -> T {
        let mut state = self.lock();
        let ticket = state.tickets;
        state.tickets += 1;
        state.waiting.push((ticket, item));
        self.changed.notify_all();
        loop {
            if let Some(i) = state.done.iter().position(|d| d.0 == ticket) {
                return state.done.swap_remove(i).1;
            }
            if state.leading {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.leading = true;
            state = self.lead(state, ticket, expected, choose, work);
        }
    }

    fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        own: u64,
        expected: usize,
        choose: &dyn Fn(&[&T]) -> usize,
        work: &dyn Fn(&mut [T]),
    ) -> MutexGuard<'a, State<T>> {
        let deadline = Instant::now() + GATHER;
        while state.waiting.len() < expected {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let fitting = choose(&state.waiting.iter().map(|w| &w.1).collect::<Vec<_>>());
        let count = fitting.clamp(1, state.waiting.len());
        let (tickets, mut items): (Vec<u64>, Vec<T>) = state.waiting.drain(..count).unzip();
        drop(state);
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut items)));
        let mut state = self.lock();
        state.done.extend(tickets.into_iter().zip(items));
        state.leading = false;
        self.changed.notify_all();
        if let Err(panic) = outcome {
            // Nobody will come for its item, which may not even have been in this round.
            let State { waiting, done, .. } = &mut *state;
            let gone: Vec<(u64, T)> =
                [waiting, done].into_iter().flat_map(|items| items.extract_if(.., |item| item.0 == own)).collect();
            drop(state);
            drop(gone);
            resume_unwind(panic);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everybody_gets_their_own_item_back_worked_on_once() {
        let combiner = Combiner::<(usize, usize)>::default();
        let rounds = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for me in 0..8 {
                let (combiner, rounds) = (&combiner, &rounds);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let (who, times) = combiner.run((me, 0), 8, &|waiting| waiting.len().min(5), &|items| {
                            rounds.fetch_add(1, Ordering::Relaxed);
                            for item in items {
                                item.1 += 1;
                            }
                        });
                        assert_eq!((who, times), (me, 1));
                    }
                });
            }
        });
        assert!(rounds.load(Ordering::Relaxed) < 8 * 200, "nobody was ever computed together");
    }

    #[test]
    fn a_panic_reaches_its_leader_and_the_place_stays_usable() {
        let combiner = Combiner::<u32>::default();
        let failed = catch_unwind(AssertUnwindSafe(|| combiner.run(1, 1, &|w| w.len(), &|_| panic!("work failed"))));
        assert!(failed.is_err());
        assert_eq!(combiner.run(2, 1, &|w| w.len(), &|items| items[0] = 7), 7);
    }

    #[test]
    fn a_leader_that_panics_in_a_round_of_others_leaves_nothing_behind() {
        let combiner = Combiner::<u32>::default();
        let oldest = |_: &[&u32]| 1;
        for _ in 0..200 {
            let works = |items: &mut [u32]| assert!(items[0] != 1, "work failed");
            let call = |item| catch_unwind(AssertUnwindSafe(|| combiner.run(item, 2, &oldest, &works)));
            let (one, two) = std::thread::scope(|scope| {
                let one = scope.spawn(|| call(1));
                let two = scope.spawn(|| call(2));
                (one.join(), two.join())
            });
            // Whoever led the round of item 1 had the panic; the other came back.
            assert!(one.is_ok() && two.is_ok());
            let state = combiner.lock();
            assert!(state.waiting.is_empty() && state.done.is_empty(), "an item was left behind");
        }
    }

    #[test]
    fn who_rode_along_with_a_panic_gets_the_item_back_as_it_was() {
        let combiner = Combiner::<u32>::default();
        let work = |items: &mut [u32]| {
            assert!(items.len() < 2, "work failed");
            items[0] = 7;
        };
        let call = |item| catch_unwind(AssertUnwindSafe(|| combiner.run(item, 2, &|w| w.len(), &work)));
        for _ in 0..1000 {
            let (one, two) = std::thread::scope(|scope| {
                let one = scope.spawn(|| call(1));
                (call(2), one.join())
            });
            match (one, two) {
                (Ok(7), Ok(Ok(7))) => {} // they did not meet
                (Ok(2), Ok(Err(_))) | (Err(_), Ok(Ok(1))) => return,
                (one, two) => panic!("{one:?} {two:?}"),
            }
        }
        panic!("they never met");
    }
}
