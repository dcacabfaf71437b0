//! Memory for the caches of all models of one process: what one of them promises, no other promises again.
//!
//! A model whose user gave it a budget has it for itself. All others share what is left: three quarters of what the machine
//! had free when a model was loaded or let go last. Each may take all of that, but not what another has taken or promised.

use super::cache::Geometry;
use super::room::{Counts, Missing};
use crate::error::{Error, Result};
use crate::hardware;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// Tells how many bytes of a model's weights are still to be taken.
type ToCome = Box<dyn Fn() -> u64 + Send + Sync>;
/// Tells what the machine has free (bytes).
type Free = Box<dyn Fn() -> u64 + Send + Sync>;

/// The books of one process.
pub(crate) struct Budget {
    books: Mutex<Books>,
    free: Free,
}

#[derive(Default)]
struct Books {
    members: Vec<Member>,
    /// What the models without a budget of their own may take together (bytes).
    common: u64,
    /// What models that are being loaded will take (bytes).
    loading: u64,
}

struct Member {
    counts: Arc<Counts>,
    /// Bytes of a block.
    block: u64,
    /// Its own budget (bytes), unless it shares.
    own: Option<u64>,
    to_come: ToCome,
    geometry: Weak<Geometry>,
}

impl Member {
    fn bytes(&self, blocks: usize) -> u64 {
        blocks as u64 * self.block
    }

    /// Bytes it was promised and has not taken yet.
    fn outstanding(&self) -> u64 {
        let (taken, used) = (self.bytes(self.counts.taken.load(SeqCst)), self.bytes(self.counts.used.load(SeqCst)));
        (self.to_come)() + self.own.unwrap_or(taken).saturating_sub(used)
    }
}

impl Books {
    fn outstanding(&self) -> u64 {
        self.members.iter().map(Member::outstanding).sum::<u64>() + self.loading
    }

    fn sharers(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.own.is_none())
    }

    /// Bytes the sharers have taken or promised.
    fn taken(&self) -> u64 {
        self.sharers().map(|m| m.bytes(m.counts.taken.load(SeqCst))).sum()
    }

    /// Counts anew what is there to share.
    fn recount(&mut self, free: u64) {
        let theirs: u64 = self.sharers().map(|m| m.bytes(m.counts.taken.load(SeqCst))).sum();
        self.common = free.saturating_sub(self.outstanding()).saturating_add(theirs) / 4 * 3;
    }
}

/// Memory set aside while a model is loaded.
pub(crate) struct Loading<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.budget.lock().loading -= self.bytes;
    }
}

static PROCESS: LazyLock<Arc<Budget>> = LazyLock::new(|| Budget::new(Box::new(|| hardware::memory().available)));

impl Budget {
    /// The one of this process.
    pub fn process() -> &'static Arc<Self> {
        &PROCESS
    }

    /// Books of their own, over memory that `free` tells.
    pub fn new(free: Free) -> Arc<Self> {
        Arc::new(Self { books: Mutex::default(), free })
    }

    /// Sets memory aside for a model's weights; refused where it is not there, or is over the caller's own cap.
    pub fn load(&self, bytes: u64, cap: Option<u64>) -> Result<Loading<'_>> {
        let mut books = self.lock();
        let available = (self.free)().saturating_sub(books.outstanding()).min(cap.unwrap_or(u64::MAX));
        if bytes > available {
            return Err(Error::Memory {
                what: "loading the model".into(),
                needed: bytes.div_ceil(1 << 20),
                available: available >> 20,
                remedy: "free memory, close other models, or use a smaller model or a smaller quantisation".into(),
            });
        }
        books.loading += bytes;
        Ok(Loading { budget: self, bytes })
    }

    /// A model that was loaded: `make` gets the bytes its caches may take at most. `loading` ends here.
    pub fn join(
        &self,
        loading: Loading<'_>,
        own: Option<u64>,
        to_come: ToCome,
        make: impl FnOnce(u64) -> Geometry,
    ) -> Result<Arc<Geometry>> {
        drop(loading);
        let mut books = self.lock();
        let available = (self.free)().saturating_sub(books.outstanding()).saturating_sub(to_come());
        if let Some(own) = own.filter(|&own| own > available) {
            return Err(Error::Memory {
                what: "cache_bytes".into(),
                needed: own.div_ceil(1 << 20),
                available: available >> 20,
                remedy: "give less, close other models, or leave it out to share what is there".into(),
            });
        }
        let share = available.saturating_add(books.taken()) / 4 * 3;
        let geometry = Arc::new(make(own.unwrap_or(share)));
        books.members.push(Member {
            counts: Arc::clone(geometry.room.counts()),
            block: geometry.block() as u64,
            own,
            to_come,
            geometry: Arc::downgrade(&geometry),
        });
        books.recount((self.free)());
        Ok(geometry)
    }

    /// A model that is gone.
    pub fn leave(&self, counts: &Arc<Counts>) {
        let mut books = self.lock();
        books.members.retain(|member| !Arc::ptr_eq(&member.counts, counts));
        let free = (self.free)();
        books.recount(free);
    }

    /// Takes `blocks` of a model's room if `free` of them or more are free, `reserved` more where what is taken stays.
    pub fn take(&self, counts: &Arc<Counts>, total: usize, blocks: usize, free: usize, lasting: bool) -> Missing {
        let books = self.lock();
        let reserved = if lasting { counts.reserved.load(SeqCst) } else { 0 };
        let needed = free.max(blocks) + reserved;
        let own = (counts.taken.load(SeqCst) + needed).saturating_sub(total);
        let member = books.sharers().find(|member| Arc::ptr_eq(&member.counts, counts));
        let common = member.map_or(0, |member| {
            let most = |m: &Member| m.bytes(m.counts.reserved.load(SeqCst));
            let reserved = if lasting { books.sharers().map(most).max().unwrap_or(0) } else { 0 };
            (books.taken() + member.bytes(free.max(blocks)) + reserved).saturating_sub(books.common)
        });
        if own == 0 && common == 0 {
            counts.taken.fetch_add(blocks, SeqCst);
        }
        Missing { own, common }
    }

    /// What a model's caches may come to take at most beside those of the others (blocks): its own limit, or less.
    pub fn limit(&self, counts: &Arc<Counts>, total: usize) -> usize {
        let books = self.lock();
        let member = books.sharers().find(|member| Arc::ptr_eq(&member.counts, counts));
        member.map_or(total, |m| total.min(usize::try_from(books.common / m.block).unwrap_or(usize::MAX)))
    }

    /// Whether a call is at work that will give room back to this model.
    pub fn is_busy(&self, counts: &Arc<Counts>) -> bool {
        let books = self.lock();
        let works = |counts: &Counts| counts.promises.load(SeqCst) > 0;
        let shares = books.sharers().any(|member| Arc::ptr_eq(&member.counts, counts));
        works(counts) || (shares && books.sharers().any(|member| works(&member.counts)))
    }

    /// Lets prefixes of any sharer go that together make `bytes`, if there are so many.
    pub fn evict(&self, bytes: u64) -> bool {
        // Let go after the lock: a geometry may be the last of its kind.
        let sharers: Vec<Arc<Geometry>> = self.lock().sharers().filter_map(|m| m.geometry.upgrade()).collect();
        let block = |g: &Geometry| g.block() as u64;
        if sharers.iter().map(|g| g.prefixes.idle() as u64 * block(g)).sum::<u64>() < bytes {
            return false;
        }
        let mut left = bytes;
        for g in &sharers {
            let count = usize::try_from(left.div_ceil(block(g))).unwrap_or(usize::MAX).min(g.prefixes.idle());
            left = left.saturating_sub(g.prefixes.evict(count) as u64 * block(g));
        }
        left < bytes
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Budget")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::prefix::Prefixes;
    use crate::model::room::Room;
    use densecore_kernels::attention::CacheFormat;

    /// 2 * 1 * 1 * 64 * 8 * 4 bytes.
    const BLOCK: u64 = 4096;

    fn join(budget: &Arc<Budget>, own: Option<u64>, to_come: u64) -> Result<Arc<Geometry>> {
        let loading = budget.load(to_come, None)?;
        budget.join(loading, own, Box::new(move || to_come), |bytes| Geometry {
            layers: 1,
            kv_heads: 1,
            head_dim: 8,
            format: CacheFormat::F32,
            context: 1 << 20,
            budget: bytes,
            room: Room::new(Arc::clone(budget), (bytes / BLOCK) as usize),
            prefixes: Prefixes::default(),
        })
    }

    fn books(blocks: u64) -> Arc<Budget> {
        Budget::new(Box::new(move || blocks * BLOCK))
    }

    fn take(g: &Arc<Geometry>, blocks: usize, lasting: bool) -> bool {
        g.room.take(blocks, blocks, lasting).is_none()
    }

    #[test]
    fn models_without_a_budget_share_one() {
        let budget = books(1000);
        let a = join(&budget, None, 0).unwrap();
        assert_eq!(a.room.limit(), 750);
        let b = join(&budget, None, 200 * BLOCK).unwrap();
        // What the second one's weights will take is there for nobody: three quarters of 800.
        assert_eq!((a.room.limit(), b.room.limit()), (600, 600));
        assert!(take(&a, 400, false));
        assert!(!take(&b, 201, false), "together they would promise more than there is");
        assert!(take(&b, 200, false));
        assert!(!take(&a, 1, false));
        a.room.counts().taken.fetch_sub(400, SeqCst);
        assert!(take(&b, 400, false));
        budget.leave(a.room.counts());
        assert_eq!(b.room.limit(), (1000 - 200) / 4 * 3);
    }

    #[test]
    fn an_own_budget_is_kept_from_the_others() {
        let budget = books(1000);
        let a = join(&budget, Some(600 * BLOCK), 0).unwrap();
        assert!(matches!(join(&budget, Some(401 * BLOCK), 0), Err(Error::Memory { .. })));
        assert!(matches!(budget.load(401 * BLOCK, None).map(|_| ()), Err(Error::Memory { .. })));
        let b = join(&budget, None, 0).unwrap();
        assert_eq!((a.room.limit(), b.room.limit()), (600, 300));
        assert!(take(&a, 600, false) && take(&b, 300, false) && !take(&a, 1, false) && !take(&b, 1, false));
    }

    #[test]
    fn loads_at_the_same_time_do_not_count_on_the_same_memory() {
        let budget = books(100);
        let first = budget.load(60 * BLOCK, None).unwrap();
        assert!(budget.load(60 * BLOCK, None).is_err());
        drop(first);
        assert!(budget.load(60 * BLOCK, None).is_ok());
    }

    #[test]
    fn what_stays_leaves_room_for_lists_that_have_begun() {
        let budget = books(1000);
        let (a, b) = (join(&budget, None, 0).unwrap(), join(&budget, None, 0).unwrap());
        a.room.counts().reserved.store(100, SeqCst);
        assert!(!take(&b, 651, true) && !take(&a, 651, true));
        assert!(take(&b, 650, true) && take(&a, 100, false));
    }
}
