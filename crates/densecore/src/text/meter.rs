//! What one rendering may spend: bytes touched, bytes made, and time.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Lists within lists, at most; messages need 3, tool descriptions some 10.
const DEPTH: usize = 32;
/// Elements of one value, those of its parts included. A range is held to the same.
pub const ELEMENTS: u64 = 1 << 17;
/// Work in multiples of the output cap: room to read the whole output this often.
const WORK: u64 = 64;
/// Memory in multiples of the output cap. All that is made counts, though most of it is given back on the way: what
/// is held at any time is less. Templates copy a content some ten times.
const MADE: u64 = 24;
/// Output, captured or final, in multiples of the output cap: what macros write is written again by their callers.
const WRITTEN: u64 = 4;
/// Work of one operation, whatever it is given (bytes).
const STEP: u64 = 64;
/// An element of a list or a map, with the share of the list (bytes).
const ELEMENT: u64 = 96;

/// Why a rendering must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// The time of `Limits::template_time` is over.
    Late = 1,
    /// The caller cancelled.
    Cancelled = 2,
}

/// Parts and text of a value, parts that are shared counted each time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// The value, its items, theirs.
    pub elements: u64,
    /// Text in them (bytes).
    pub bytes: u64,
}

/// The work of one rendering.
#[derive(Debug)]
pub struct Meter {
    spent: AtomicU64,
    made: AtomicU64,
    written: AtomicU64,
    stop: AtomicU8,
    /// Filters that wait for the filters within them.
    depth: AtomicUsize,
    started: Instant,
    time: Duration,
    /// Bytes of the output and of any string on the way to it.
    pub longest: u64,
}

impl Meter {
    /// A meter for an output of at most `longest` bytes, made within `time` from `started` on.
    pub fn new(longest: usize, started: Instant, time: Duration) -> Self {
        let [spent, made, written] = [const { AtomicU64::new(0) }; 3];
        let (stop, depth) = (AtomicU8::new(0), AtomicUsize::new(0));
        Self { spent, made, written, stop, depth, started, time, longest: longest as u64 }
    }

    /// Whether its time is over.
    pub fn is_late(&self) -> bool {
        self.started.elapsed() > self.time
    }

    /// Runs what a filter does for every item, which may be such a filter again.
    pub fn within<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.depth.fetch_add(1, Ordering::Relaxed) >= DEPTH {
            return Err(refused(format!("filters are nested over {DEPTH} deep")));
        }
        let result = work();
        self.depth.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Asks the rendering to end at its next step; called by the thread that waits for it.
    pub fn stop(&self, why: Stop) {
        self.stop.store(why as u8, Ordering::Relaxed);
    }

    /// One step: where a stop is noticed. Every loop and every operation passes here.
    pub fn step(&self) -> Result<(), Error> {
        self.charge(STEP)
    }

    /// Adds bytes that are about to be read.
    pub fn charge(&self, bytes: u64) -> Result<(), Error> {
        match self.stop.load(Ordering::Relaxed) {
            0 => {}
            stop if stop == Stop::Late as u8 => {
                return Err(refused(format!("the template has run for over {:?}", self.time)));
            }
            _ => return Err(refused("cancelled")),
        }
        self.add(&self.spent, bytes, WORK, "handles")
    }

    /// Adds memory that is about to be taken.
    pub fn make(&self, bytes: u64) -> Result<(), Error> {
        self.charge(bytes)?;
        self.add(&self.made, bytes, MADE, "makes")
    }

    fn add(&self, counter: &AtomicU64, bytes: u64, times: u64, does: &str) -> Result<(), Error> {
        let cap = self.longest.saturating_mul(times);
        // One thread renders, so that reading and writing apart loses nothing.
        let sum = counter.load(Ordering::Relaxed).saturating_add(bytes);
        counter.store(sum, Ordering::Relaxed);
        if sum > cap {
            return Err(refused(format!("the template {does} over {cap} bytes to render")));
        }
        Ok(())
    }

    /// Adds a string that is about to be made.
    pub fn string(&self, bytes: u64) -> Result<(), Error> {
        if bytes > self.longest {
            return Err(refused(format!("a string would take {bytes} bytes, over the cap of {}", self.longest)));
        }
        self.make(bytes)
    }

    /// Adds output, captured or final.
    pub fn write(&self, bytes: u64) -> Result<(), Error> {
        self.add(&self.written, bytes, WRITTEN, "writes")?;
        self.make(bytes)
    }

    /// A text as a value.
    pub fn text(&self, text: impl AsRef<str>) -> Result<Value, Error> {
        let text = text.as_ref();
        self.string(text.len() as u64)?;
        Ok(Value::from(text))
    }

    /// A list of what an iterator gives, refused before it grows too long. Texts in it were counted or are shared.
    pub fn list(&self, items: impl Iterator<Item = Result<Value, Error>>) -> Result<Value, Error> {
        let mut list = Vec::new();
        for item in items {
            self.make(ELEMENT)?;
            if list.len() as u64 >= ELEMENTS {
                return Err(refused(format!("a list would have over {ELEMENTS} elements")));
            }
            list.push(item?);
        }
        Ok(Value::from(list))
    }

    /// The size of a value made of text, numbers, lists and maps; anything else and anything too large is refused.
    /// Charges for the walk, not for the text, which is not read.
    pub fn size(&self, value: &Value) -> Result<Size, Error> {
        let mut size = Size::default();
        self.walk(value, 0, &mut size)?;
        self.charge(size.elements * 16)?;
        Ok(size)
    }

    /// Like [`Self::size`], and charges for the text, too: what is done next reads it.
    pub fn read(&self, value: &Value) -> Result<Size, Error> {
        let size = self.size(value)?;
        self.charge(size.bytes)?;
        Ok(size)
    }

    fn walk(&self, value: &Value, depth: usize, size: &mut Size) -> Result<(), Error> {
        size.elements += 1;
        size.bytes += value.as_str().map_or(0, str::len) as u64;
        if depth > DEPTH || size.elements > ELEMENTS || size.bytes > self.longest {
            return Err(refused(format!(
                "a list or map is nested over {DEPTH} deep, has over {ELEMENTS} elements or over {} bytes",
                self.longest
            )));
        }
        match value.kind() {
            _ if machinery(value) => Err(refused(format!(
                "{} is used as a value; text, numbers, lists and maps are",
                value.as_object().map_or("something", |object| object.type_name())
            ))),
            ValueKind::Seq => value.try_iter()?.try_for_each(|item| self.walk(&item, depth + 1, size)),
            ValueKind::Map => value.try_iter()?.try_for_each(|key| {
                self.walk(&key, depth + 1, size)?;
                self.walk(&value.get_item(&key)?, depth + 1, size)
            }),
            _ => Ok(()),
        }
    }
}

/// Whether a value is no data: a loop, namespace, macro or function, which may hold itself or work when it is read.
pub fn machinery(value: &Value) -> bool {
    let own = |value: &Value| value.as_object().is_some_and(|object| object.type_name().starts_with("minijinja::"));
    matches!(value.kind(), ValueKind::Plain | ValueKind::Invalid | ValueKind::Iterable | ValueKind::Bytes) || own(value)
}

/// An error of a template that asks for too much or for what is not there.
pub fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}
