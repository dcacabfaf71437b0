//! What tasks work with, kept from one to the next.
//!
//! A pool's own threads keep theirs. Callers come and go, and whoever leads a region computes as well: the pool lends
//! memory to it for as long as the region takes. So there is as much of it as regions at a time, not as callers, and what
//! one caller used is still in the cache for the next.

use crate::dense;
use crate::heads;
use crate::matrix::Line;
use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

/// Of unknown content; each part grows to what its tasks need.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Some tiles' results for all rows, before they go to their places.
    pub results: RefCell<Vec<Line>>,
    /// Unpacked weights of dense products.
    pub unpacked: RefCell<Option<Box<dense::Scratch>>>,
    /// Bytes of one quantised tile.
    pub tile: RefCell<Vec<u8>>,
    /// Queries, scores and sums of attention.
    pub attention: RefCell<heads::Work>,
}

thread_local! {
    static HELD: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// Calls `with` with what this thread holds.
pub(crate) fn scratch<T>(with: impl FnOnce(&Scratch) -> T) -> T {
    if HELD.with_borrow(Option::is_none) {
        HELD.set(Some(Scratch::default()));
    }
    HELD.with_borrow(|held| match held {
        Some(scratch) => with(scratch),
        None => with(&Scratch::default()),
    })
}

/// What nobody works with at the moment.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<Vec<Scratch>>);

impl Shelf {
    /// Lends to this thread, unless it holds something already.
    pub fn lend(&self) -> Option<Loan<'_>> {
        // A region inside a task goes on with what the task holds.
        if HELD.with(|held| held.try_borrow().map_or(true, |held| held.is_some())) {
            return None;
        }
        let scratch = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        HELD.set(Some(scratch.unwrap_or_default()));
        Some(Loan(self))
    }
}

/// Goes back to the shelf when dropped.
pub(crate) struct Loan<'a>(&'a Shelf);

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(scratch) = HELD.take() {
            self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    fn results() -> usize {
        scratch(|scratch| scratch.results.borrow().len())
    }

    fn grow(len: usize) {
        scratch(|scratch| scratch.results.borrow_mut().resize(len, Line::default()));
    }

    #[test]
    fn callers_in_turn_work_with_the_same_memory() {
        let pool = Pool::new(1);
        for turn in 0..5 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pool.run(1, &|_| {
                        assert_eq!(results(), turn);
                        grow(turn + 1);
                    });
                });
            });
        }
    }

    #[test]
    fn callers_at_a_time_work_with_their_own() {
        let (pool, both) = (Pool::new(1), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            for own in [3, 7] {
                let (pool, both) = (&pool, &both);
                scope.spawn(move || {
                    pool.run(1, &|_| {
                        both.wait();
                        assert_eq!(results(), 0);
                        grow(own);
                        both.wait();
                        assert_eq!(results(), own);
                    });
                });
            }
        });
    }

    #[test]
    fn a_region_inside_a_task_goes_on_with_what_the_task_holds() {
        let pool = Pool::new(2);
        pool.run(1, &|_| {
            grow(5);
            scratch(|_| pool.run(1, &|_| assert_eq!(results(), 5)));
            assert_eq!(results(), 5);
        });
    }
}
