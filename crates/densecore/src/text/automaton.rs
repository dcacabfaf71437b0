//! Words in a text, found in one pass over it (Aho and Corasick's automaton).

use std::collections::HashMap;

/// No word.
const NONE: u32 = u32::MAX;

/// One of the words. Those that it ends with form a chain, from the longest to the shortest.
#[derive(Debug, Clone, Copy)]
struct Word {
    /// Length (bytes).
    length: u32,
    /// The next one of the chain.
    shorter: u32,
    /// One further down the chain, so that a walk takes as many steps as the chain's length has digits.
    jump: u32,
    /// Words of the chain, this one included.
    depth: u32,
}

/// Tells for every place of a text the longest word that ends there. A state is what some word begins with.
#[derive(Debug, Default)]
pub struct Automaton {
    next: HashMap<(u32, u8), u32>,
    /// Whether a word begins with a byte.
    first: Vec<bool>,
    /// By state: the longest state it ends with, itself left out.
    ending: Vec<u32>,
    /// By state: the longest word it ends with.
    longest: Vec<u32>,
    words: Vec<Word>,
}

impl Automaton {
    /// Of these words, none empty. Among equal ones the first counts.
    pub fn new<'a>(words: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut made = Self { first: vec![false; 256], longest: vec![NONE], ..Self::default() };
        // By state: the one before it, the byte between them, and its length.
        let mut from = vec![(0, 0, 0)];
        for word in words {
            made.first[word[0] as usize] = true;
            let mut state = 0;
            for (place, byte) in word.iter().enumerate() {
                state = *made.next.entry((state, *byte)).or_insert_with(|| {
                    from.push((state, *byte, place + 1));
                    made.longest.push(NONE);
                    from.len() as u32 - 1
                });
            }
            let own = &mut made.longest[state as usize];
            *own = if *own == NONE { made.words.len() as u32 } else { *own };
            made.words.push(Word { length: word.len() as u32, shorter: NONE, jump: NONE, depth: 0 });
        }
        made.ending = vec![0; from.len()];
        let mut order: Vec<u32> = (1..from.len() as u32).collect();
        order.sort_by_key(|state| from[*state as usize].2);
        for state in order {
            let (before, byte, length) = from[state as usize];
            let ending = if length > 1 { made.step(made.ending[before as usize], byte) } else { 0 };
            made.ending[state as usize] = ending;
            let below = made.longest[ending as usize];
            match made.longest[state as usize] {
                NONE => made.longest[state as usize] = below,
                own => made.link(own, below),
            }
        }
        made
    }

    /// Puts a word on top of a chain.
    fn link(&mut self, word: u32, shorter: u32) {
        let jump = self.jump(shorter);
        let far = self.jump(jump);
        // Two jumps of one length make one of twice that length and one.
        let doubles = self.depth(shorter) - self.depth(jump) == self.depth(jump) - self.depth(far);
        let depth = self.depth(shorter) + 1;
        let word = &mut self.words[word as usize];
        *word = Word { shorter, jump: if doubles { far } else { shorter }, depth, ..*word };
    }

    fn depth(&self, word: u32) -> u32 {
        self.words.get(word as usize).map_or(0, |word| word.depth)
    }

    fn jump(&self, word: u32) -> u32 {
        self.words.get(word as usize).map_or(NONE, |word| word.jump)
    }

    fn step(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            match self.next.get(&(state, byte)) {
                Some(next) => return *next,
                None if state == 0 => return 0,
                None => state = self.ending[state as usize],
            }
        }
    }

    /// Places where words end, each with the longest of them.
    pub fn scan<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = (u32, usize)> + 'a {
        let mut state = 0;
        text.iter().enumerate().filter_map(move |(place, byte)| {
            if state == 0 && !self.first[*byte as usize] {
                return None;
            }
            state = self.step(state, *byte);
            let word = self.longest[state as usize];
            (word != NONE).then_some((word, place + 1))
        })
    }

    /// The first word of `word`'s chain that has `most` bytes or fewer.
    pub fn within(&self, mut word: u32, most: usize) -> Option<u32> {
        let too_long = |word: u32| self.words.get(word as usize).is_some_and(|word| word.length as usize > most);
        while too_long(word) {
            let Word { shorter, jump, .. } = self.words[word as usize];
            word = if too_long(jump) { jump } else { shorter };
        }
        (word != NONE).then_some(word)
    }
}
