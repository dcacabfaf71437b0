//! Byte-pair merging: of all adjacent pairs the one with the lowest rank is joined first, the leftmost among equals.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};

use super::table::{SPELLING, Table, spell_into};
use crate::error::{Error, Result};

/// Words up to this many bytes are merged by looking at all pairs again after each merge, which beats a heap there.
const SHORT: usize = 32;

/// No neighbour on this side.
const NONE: u32 = u32::MAX;

/// What joining two symbols gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Merge {
    rank: u32,
    id: u32,
}

/// The merges of a vocabulary.
#[derive(Debug)]
pub struct Merges {
    /// Pair of symbols (left in the upper half) to the merge.
    pairs: HashMap<u64, Merge, PairHash>,
    /// The symbol of every byte.
    bytes: [u32; 256],
    /// Symbols that are no tokens (bytes or merges the vocabulary lacks), numbered after the last id: the tokens they
    /// fall apart into, as in the reference, which leaves out what no token can spell.
    parts: Vec<Vec<u32>>,
    tokens: u32,
}

/// Buffers of one encoding, reused from word to word.
#[derive(Debug, Default)]
pub struct Scratch {
    symbols: Vec<u32>,
    merges: Vec<Option<Merge>>,
    previous: Vec<u32>,
    next: Vec<u32>,
    heap: BinaryHeap<Reverse<(u32, u32, u64, u32)>>,
    spelled: Vec<u8>,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merges {
    /// Reads the merges, each `left right` in the spelling of the vocabulary, best first.
    pub fn new<'a>(table: &Table, merges: impl ExactSizeIterator<Item = &'a str>) -> Result<Self> {
        let mut symbols = Symbols { table, extra: HashMap::new(), parts: Vec::new() };
        let mut bytes = [0; 256];
        let mut buffer = [0; 4];
        for (byte, symbol) in bytes.iter_mut().enumerate() {
            *symbol = symbols.id(SPELLING[byte].encode_utf8(&mut buffer).as_bytes());
        }
        let mut pairs = HashMap::with_capacity_and_hasher(merges.len(), PairHash::default());
        let mut joined = Vec::new();
        let mut last = 0;
        for (rank, merge) in merges.enumerate() {
            // The left side holds at least one character, so a space at the front belongs to it.
            let Some(space) = merge.as_bytes().iter().skip(1).position(|&b| b == b' ') else {
                return Err(Error::Tokenizer(format!(
                    "merge {rank} is {merge:?}, not two tokens with a space between; the file is damaged, fetch it again"
                )));
            };
            let (left, right) = (&merge.as_bytes()[..=space], &merge.as_bytes()[space + 2..]);
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            // Vocabularies list tokens in the order of their merges, so the next id is nearly always right.
            let id = match table.spelled(last + 1) {
                Some(spelled) if spelled == joined => last + 1,
                _ => symbols.id(&joined),
            };
            last = id;
            let pair = key(symbols.id(left), symbols.id(right));
            pairs.entry(pair).or_insert(Merge { rank: rank as u32, id });
        }
        Ok(Self { pairs, bytes, parts: symbols.parts, tokens: table.len() as u32 })
    }

    fn merge(&self, left: u32, right: u32) -> Option<Merge> {
        self.pairs.get(&key(left, right)).copied()
    }

    fn push(&self, symbol: u32, out: &mut Vec<u32>) {
        match symbol.checked_sub(self.tokens) {
            None => out.push(symbol),
            Some(extra) => out.extend_from_slice(&self.parts[extra as usize]),
        }
    }

    /// Appends the ids of one word. `whole`: take the word as one token where it is one.
    pub fn encode(&self, table: &Table, word: &str, whole: bool, scratch: &mut Scratch, out: &mut Vec<u32>) {
        if whole {
            scratch.spelled.clear();
            spell_into(word.as_bytes(), &mut scratch.spelled);
            if let Some(id) = table.find(&scratch.spelled) {
                return out.push(id);
            }
        }
        scratch.symbols.clear();
        scratch.symbols.extend(word.bytes().map(|byte| self.bytes[byte as usize]));
        if scratch.symbols.len() <= SHORT {
            self.merge_short(scratch);
        } else {
            self.merge_long(scratch);
        }
        for &symbol in &scratch.symbols {
            if symbol != NONE {
                self.push(symbol, out);
            }
        }
    }

    fn merge_short(&self, scratch: &mut Scratch) {
        let Scratch { symbols, merges, .. } = scratch;
        merges.clear();
        merges.extend(symbols.windows(2).map(|pair| self.merge(pair[0], pair[1])));
        loop {
            let best = merges.iter().enumerate().filter_map(|(at, merge)| merge.map(|m| (m.rank, at, m.id))).min();
            let Some((_, at, id)) = best else {
                return;
            };
            symbols[at] = id;
            symbols.remove(at + 1);
            merges.remove(at);
            if at > 0 {
                merges[at - 1] = self.merge(symbols[at - 1], id);
            }
            if at < merges.len() {
                merges[at] = self.merge(id, symbols[at + 1]);
            }
        }
    }

    /// The same with a heap and links between neighbours: time n log n for a word of n bytes.
    fn merge_long(&self, scratch: &mut Scratch) {
        let Scratch { symbols, previous, next, heap, .. } = scratch;
        let count = symbols.len() as u32;
        previous.clear();
        previous.extend((0..count).map(|at| at.checked_sub(1).unwrap_or(NONE)));
        next.clear();
        next.extend((1..=count).map(|at| if at < count { at } else { NONE }));
        heap.clear();
        let candidate = |symbols: &[u32], at: u32, after: u32| {
            let (left, right) = (symbols[at as usize], symbols[after as usize]);
            self.merge(left, right).map(|merge| Reverse((merge.rank, at, key(left, right), merge.id)))
        };
        heap.extend((1..count).filter_map(|after| candidate(symbols, after - 1, after)));
        while let Some(Reverse((_, at, pair, id))) = heap.pop() {
            let after = next[at as usize];
            // A candidate is stale when either side has been merged away since; merged symbols never come back.
            if after == NONE || key(symbols[at as usize], symbols[after as usize]) != pair {
                continue;
            }
            symbols[at as usize] = id;
            symbols[after as usize] = NONE;
            let following = next[after as usize];
            next[at as usize] = following;
            next[after as usize] = NONE;
            if following != NONE {
                previous[following as usize] = at;
                heap.extend(candidate(symbols, at, following));
            }
            let before = previous[at as usize];
            if before != NONE {
                heap.extend(candidate(symbols, before, at));
            }
        }
    }
}

/// Numbers for all symbols met while reading merges.
struct Symbols<'a> {
    table: &'a Table,
    extra: HashMap<Vec<u8>, u32>,
    parts: Vec<Vec<u32>>,
}

impl Symbols<'_> {
    fn id(&mut self, spelled: &[u8]) -> u32 {
        if let Some(id) = self.table.find(spelled) {
            return id;
        }
        if let Some(&id) = self.extra.get(spelled) {
            return id;
        }
        let id = (self.table.len() + self.parts.len()) as u32;
        // The reference looks each byte of the spelling up by itself; only ASCII bytes can be tokens.
        let parts = spelled.iter().filter_map(|byte| self.table.find(&[*byte])).collect();
        self.parts.push(parts);
        self.extra.insert(spelled.to_vec(), id);
        id
    }
}

/// A hash of one 64-bit key by a folded product with a random factor: pairs come from model files, which must not be
/// able to choose colliding ones.
#[derive(Debug, Clone, Copy)]
struct PairHash(u64);

impl Default for PairHash {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }
}

impl BuildHasher for PairHash {
    type Hasher = PairHasher;

    fn build_hasher(&self) -> PairHasher {
        PairHasher(self.0)
    }
}

#[derive(Debug)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The golden ratio's bits: odd, without a pattern.
        let product = u128::from(value ^ self.0) * u128::from(self.0.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15 | 1);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
