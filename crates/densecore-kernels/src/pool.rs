//! A small thread pool for short, wide jobs: about a hundred parallel regions per token.
//!
//! Workers spin briefly for the next region and then sleep, so an idle process costs nothing. A caller that finds
//! the pool taken by another caller runs its region alone on its own thread: nobody waits for a stranger's work,
//! and results do not depend on who ran which task.

use crate::scratch::Shelf;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Spins before a waiting worker sleeps: some tens of microseconds, the gap between two regions of one token.
const SPINS: u32 = 4_000;
/// Set in `state` while workers may enter the current region.
const OPEN: u64 = 1 << 31;

type Task = dyn Fn(usize) + Sync;

struct Shared {
    /// High 32 bits: region number. Bit 31: open. Low bits: workers inside.
    state: AtomicU64,
    /// The region's function, valid while the region is open or has workers inside.
    task: Mutex<Option<TaskPointer>>,
    next: AtomicUsize,
    total: AtomicUsize,
    sleeping: AtomicUsize,
    gate: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

#[derive(Clone, Copy)]
struct TaskPointer(*const Task);
// SAFETY: the pointee is `Sync`, and `run` keeps it alive until every worker has left the region.
unsafe impl Send for TaskPointer {}

/// Threads that share parallel regions with their caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    taken: AtomicBool,
    shelf: Shelf,
    threads: usize,
    process: u32,
}

impl Pool {
    /// A pool of `threads` threads, the caller included.
    pub fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            task: Mutex::new(None),
            next: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            gate: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .filter_map(|i| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("densecore-{i}")).spawn(move || work(&shared)).ok()
            })
            .collect();
        let (taken, shelf) = (AtomicBool::new(false), Shelf::default());
        Self { shared, workers, taken, shelf, threads, process: std::process::id() }
    }

    /// How many threads a region can use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `task(0)` to `task(total - 1)`, each once, on this and the pool's threads; returns when all are done.
    /// A panic in a task is raised again here.
    pub fn run(&self, total: usize, task: &(dyn Fn(usize) + Sync)) {
        let _loan = self.shelf.lend();
        let alone = total <= 1
            || self.workers.is_empty()
            || self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err();
        if alone {
            (0..total).for_each(task);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; this function returns after the last worker has left the region.
        let pointer = TaskPointer(unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Task>(task) });
        *lock(&shared.task) = Some(pointer);
        shared.next.store(0, Ordering::Relaxed);
        shared.total.store(total, Ordering::Relaxed);
        let region = (shared.state.load(Ordering::Relaxed) >> 32).wrapping_add(1) & 0xffff_ffff;
        shared.state.store(region << 32 | OPEN, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            drop(lock(&shared.gate));
            shared.wake.notify_all();
        }
        drain(shared, task);
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while shared.state.load(Ordering::Acquire) & (OPEN - 1) != 0 {
            spins += 1;
            if spins > SPINS {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        let panic = lock(&shared.panic).take();
        self.taken.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Calls `each(first row, rows)` for parts of `data`, `[n][width]`, of about `per` rows.
    pub fn rows(&self, data: &mut [f32], width: usize, per: usize, each: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let size = width * per.max(1);
        if data.len() <= size {
            each(0, data);
            return;
        }
        let parts: Vec<Mutex<&mut [f32]>> = data.chunks_mut(size).map(Mutex::new).collect();
        self.run(parts.len(), &|i| each(i * per.max(1), &mut lock(&parts[i])));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // A forked child has none of these threads; waiting for them would never end.
            self.workers.drain(..).for_each(std::mem::forget);
            return;
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.gate));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads)
    }
}

/// A panic while a lock was held leaves only counters behind, so poisoning is ignored.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes tasks until none is left; keeps the first panic.
fn drain(shared: &Shared, task: &(dyn Fn(usize) + Sync)) {
    let total = shared.total.load(Ordering::Relaxed);
    loop {
        let i = shared.next.fetch_add(1, Ordering::Relaxed);
        if i >= total {
            return;
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(i))) {
            lock(&shared.panic).get_or_insert(payload);
        }
    }
}

fn work(shared: &Shared) {
    let mut last = 0u64;
    let mut spins = 0u32;
    loop {
        let state = shared.state.load(Ordering::Acquire);
        if state & OPEN != 0 && state >> 32 != last {
            let entered = shared.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
            if entered.is_ok() {
                last = state >> 32;
                let task = *lock(&shared.task);
                if let Some(TaskPointer(task)) = task {
                    // SAFETY: this worker counts as inside the region, so `run` has not returned.
                    drain(shared, unsafe { &*task });
                }
                shared.state.fetch_sub(1, Ordering::AcqRel);
                spins = 0;
            }
            continue;
        }
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        spins += 1;
        if spins < SPINS {
            std::hint::spin_loop();
            continue;
        }
        let guard = lock(&shared.gate);
        shared.sleeping.fetch_add(1, Ordering::SeqCst);
        let state = shared.state.load(Ordering::SeqCst);
        let nothing = state & OPEN == 0 || state >> 32 == last;
        if nothing && !shared.stop.load(Ordering::SeqCst) {
            drop(shared.wake.wait(guard).unwrap_or_else(PoisonError::into_inner));
        }
        shared.sleeping.fetch_sub(1, Ordering::SeqCst);
        spins = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        let pool = Pool::new(4);
        for total in [0, 1, 2, 7, 1000] {
            let counts: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..50 {
                pool.run(total, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 50));
        }
    }

    #[test]
    fn callers_share_without_waiting_for_each_other() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(16, &|i| {
                            sum.fetch_add(i, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 6 * 200 * 120);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(3);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, &|i| assert!(i != 40, "task forty"));
        }));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        pool.run(64, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 64);
    }
}
