//! Answers of a prescribed form: which tokens may come next, and how an answer comes to its end within its tokens.
//!
//! The rules are llguidance's: JSON schemas, regular expressions and its dialect of Lark, compiled against the model's
//! own vocabulary. Here they are bound to a budget. A form that could go on for ever is closed in time: near the end a
//! token is taken only if an ending of what would then be left is known, and if not, the known ending is taken.

use super::sampler::Sampler;
use super::writer::DrawSpace;
use crate::error::{Error, Result};
use crate::text::{Special, Tokenizer};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde::Deserialize;
use std::sync::Arc;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grammar {
    /// A JSON text of this schema.
    Json(String),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of a Lark grammar.
    Lark {
        /// The rules.
        text: String,
        /// Texts that lead to its end, tried in order where the tokens run short.
        closers: Vec<String>,
        /// Texts that lead on where the model would end its answer and may not yet, tried in order.
        exits: Vec<String>,
        /// Tokens of the model that should stand before an exit at most: towards them its end becomes likelier.
        stretch: Option<usize>,
        /// JSON strings that it may hold: each may have its share of the tokens left, towards which its end becomes likelier.
        #[serde(default)]
        strings: usize,
    },
}

/// A grammar's source at most (bytes); real schemas have a few thousand.
const LONGEST: usize = 1 << 20;
/// Tokens the shortest answer of a form may take.
const LONGEST_ENDING: usize = 4096;
/// Last tokens of a stretch in which its end is looked for: a long sentence.
const LANDING: usize = 40;
/// Added to the logit of its end there. Behind a sentence the end of a text is 2 to 11 below the likeliest token, elsewhere
/// mostly 13 and more (SmolLM2 135M, three answers read while working, not stored).
const EASE: f32 = 10.0;
/// Added besides at the end of a stretch, where it outweighs any other.
const FORCE: f32 = 64.0;
/// Tokens left at which endings are looked for, besides four times the shortest answer's.
const WATCH: usize = 128;
/// Tokens that a JSON string may always have, and those kept for one that may still come.
const SHORTEST_STRING: usize = 12;
const STRING: usize = 32;
/// A passage of so many tokens at most, so often in a row, and so many tokens in all, is not written once more where something
/// must follow: a small model would never come to an end.
const LONGEST_ECHO: usize = 48;
const ROUNDS: usize = 3;
const LEAST_ECHO: usize = 24;
/// Texts that lead JSON and most regular expressions on to their end.
const CLOSERS: [&str; 14] = ["\"", "}", "]", ")", ",", ", ", ":", "-", "/", ".", ";", "\n", " ", "T"];
/// Brackets of one kind that are closed in a row.
const DEEPEST: usize = 64;
/// Texts that stand for anything where something must stand.
const FILLERS: [&str; 8] = ["0", "1", "a", "true", "null", "e", "A", "-"];

/// The vocabulary as the rules see it.
struct Vocabulary {
    trie: TokTrie,
    tokenizer: Tokenizer,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        // Only whole characters have a spelling of their own; what is left of one is bytes.
        let whole = match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = std::str::from_utf8(&bytes[..whole]).unwrap_or_default();
        let mut ids = self.tokenizer.encode(text, Special::AsText).unwrap_or_default();
        ids.extend(self.trie.greedy_tokenize(&bytes[whole..]));
        ids
    }
}

/// Compiles forms for one model.
pub(crate) struct Grammars {
    factory: ParserFactory,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
    quotes: Arc<Option<Quotes>>,
}

/// Tokens by which JSON strings are told.
struct Quotes {
    /// Tokens that begin with a quote.
    ends: Vec<u32>,
    /// Tokens in which a string ends or begins.
    marks: Vec<bool>,
    /// A letter and a line feed: strings may hold the one and not the other.
    letter: u32,
    line: u32,
}

impl Quotes {
    fn new(words: &[Vec<u8>]) -> Option<Self> {
        let find = |word: &[u8]| words.iter().position(|w| w == word).map(|id| id as u32);
        let is_mark = |w: &Vec<u8>| (0..w.len()).any(|i| w[i] == b'"' && (i == 0 || w[i - 1] != b'\\'));
        Some(Self {
            ends: (0..words.len() as u32).filter(|&id| words[id as usize].first() == Some(&b'"')).collect(),
            marks: words.iter().map(is_mark).collect(),
            letter: find(b"a")?,
            line: find(b"\n")?,
        })
    }

    /// Whether the next token goes on with a string, or ends it.
    fn inside(&self, mask: &SimpleVob) -> bool {
        let ends = self.ends.first().is_some_and(|&id| mask.is_allowed(id));
        ends && mask.is_allowed(self.letter) && !mask.is_allowed(self.line)
    }
}

fn refused(detail: impl std::fmt::Display) -> Error {
    // Its messages may quote the whole grammar.
    let detail: String = detail.to_string().chars().take(600).collect();
    Error::argument("form", "a grammar", format!("it must compile: {detail}"))
}

impl Grammars {
    /// For a vocabulary of `vocab` rows; `ends` are the tokens that end an answer, the first of them the usual one.
    pub fn new(tokenizer: &Tokenizer, vocab: usize, ends: &[u32]) -> Result<Self> {
        let usual = tokenizer.eos().iter().find(|id| ends.contains(id)).or(ends.first()).copied();
        let Some(end) = usual else { return Err(Error::State("a form needs a model with an end token".into())) };
        let words: Vec<Vec<u8>> = (0..vocab as u32)
            .map(|id| {
                let bytes = tokenizer.token_bytes(id).unwrap_or_default();
                let mark: &[u8] = if tokenizer.is_special(id) { &[TokTrie::SPECIAL_TOKEN_MARKER] } else { &[] };
                [mark, bytes].concat()
            })
            .collect();
        let quotes = Arc::new(Quotes::new(&words));
        let trie = TokTrie::from(&TokRxInfo::new(vocab as u32, end), &words);
        let environment: TokEnv = Arc::new(Vocabulary { trie, tokenizer: tokenizer.clone() });
        let mut factory = ParserFactory::new_simple(&environment).map_err(refused)?;
        factory.quiet();
        let mut ends = ends.to_vec();
        ends.retain(|&id| id != end);
        ends.insert(0, end);
        Ok(Self { factory, tokenizer: tokenizer.clone(), ends, quotes })
    }

    /// A form ready to begin.
    pub fn compile(&self, grammar: &Grammar) -> Result<Compiled> {
        let none: &[String] = &[];
        let (top, closers, exits, stretch, strings) = match grammar {
            Grammar::Json(schema) => {
                limit(schema)?;
                let mut schema: serde_json::Value =
                    serde_json::from_str(schema).map_err(|e| refused(format!("not JSON: {e}")))?;
                if let Some(object) = schema.as_object_mut() {
                    // One way to space it: white space without end would not be an answer.
                    let spaces = serde_json::json!({
                        "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
                    });
                    object.entry("x-guidance").or_insert(spaces);
                }
                (TopLevelGrammar::from_json_schema(schema), none, none, None, 0)
            }
            Grammar::Regex(pattern) => {
                limit(pattern)?;
                (TopLevelGrammar::from_regex(pattern), none, none, None, 0)
            }
            Grammar::Choice(texts) => {
                if texts.is_empty() || texts.iter().any(String::is_empty) {
                    return Err(Error::argument("form", "a choice", "give at least one text, none of them empty"));
                }
                texts.iter().try_for_each(|text| limit(text))?;
                let quoted: Vec<String> =
                    texts.iter().map(|t| serde_json::Value::from(t.as_str()).to_string()).collect();
                (TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | "))), none, none, None, 0)
            }
            Grammar::Lark { text, closers, exits, stretch, strings } => {
                limit(text)?;
                (TopLevelGrammar::from_lark(text.clone()), &**closers, &**exits, *stretch, *strings)
            }
        };
        let matcher = Matcher::new(self.factory.create_parser(top));
        if let Some(why) = matcher.get_error() {
            return Err(refused(why));
        }
        let spell = |texts: &[&str]| -> Result<Arc<[Vec<u32>]>> {
            texts.iter().map(|text| self.tokenizer.encode(text, Special::AsText)).collect()
        };
        let closing: Vec<&str> = exits.iter().chain(closers).map(String::as_str).chain(CLOSERS).collect();
        let mut form = Form {
            matcher,
            brackets: closing.len() - CLOSERS.len() + 1..closing.len() - CLOSERS.len() + 3,
            closers: spell(&closing)?,
            exits: exits.len(),
            left_by: None,
            stretch,
            run: 0,
            said: Vec::new(),
            strings,
            string: 0,
            share: 0,
            quotes: Arc::clone(&self.quotes),
            fillers: spell(&FILLERS)?,
            ends: self.ends.clone().into(),
            ending: None,
            watch: 0,
            cut: false,
            shortened: 0,
        };
        let Some(ending) = form.ending_of(form.matcher.clone(), LONGEST_ENDING)? else {
            return Err(refused("no short text of this form was found; give texts that lead to its end"));
        };
        let shortest = ending.len();
        form.watch = 4 * shortest + WATCH;
        form.ending = Some(ending);
        Ok(Compiled { form, shortest })
    }
}

/// A form that was compiled, for any number of answers.
pub(crate) struct Compiled {
    form: Form,
    /// Tokens of its shortest answer that is known.
    shortest: usize,
}

impl Compiled {
    /// The form at its beginning, sharing nothing with other answers; refused where no answer fits into `budget` tokens.
    pub fn begin(&self, budget: usize) -> Result<Form> {
        if self.shortest > budget {
            let remedy = format!("an answer of this form takes {} tokens or more", self.shortest);
            return Err(Error::argument("max_tokens", budget, remedy));
        }
        let form = &self.form;
        Ok(Form {
            matcher: form.matcher.deep_clone(),
            closers: Arc::clone(&form.closers),
            brackets: form.brackets.clone(),
            said: Vec::new(),
            fillers: Arc::clone(&form.fillers),
            ends: Arc::clone(&form.ends),
            quotes: Arc::clone(&form.quotes),
            ending: form.ending.clone(),
            ..*form
        })
    }
}

/// What is added to the logit of an end after so many of the tokens that it should have at most.
fn pressure(run: usize, most: usize, landing: usize) -> f32 {
    let into = (run + landing).saturating_sub(most) as f32 / landing as f32;
    EASE * (4.0 * into).min(1.0) + FORCE * (4.0 * into - 3.0).max(0.0).powi(2)
}

/// Goes on by a token, and by those that must follow it; the rules know one end token for all of them.
fn follow(matcher: &mut Matcher, id: u32, ends: &[u32]) -> Result<Vec<u32>> {
    let known = if ends.contains(&id) { ends[0] } else { id };
    matcher.consume_token(known).map_err(refused)?;
    let mut ids = vec![id];
    if !matcher.is_stopped() {
        ids.extend(matcher.consume_ff_tokens());
    }
    Ok(ids)
}

fn limit(source: &str) -> Result<()> {
    if source.len() <= LONGEST {
        return Ok(());
    }
    Err(Error::Limit {
        what: "a grammar in bytes".into(),
        value: source.len() as u64,
        cap: LONGEST as u64,
        remedy: "use a smaller schema".into(),
    })
}

/// The form of one answer, as far as it is written.
pub(crate) struct Form {
    matcher: Matcher,
    closers: Arc<[Vec<u32>]>,
    /// Those that are brackets: the second and the third of [`CLOSERS`].
    brackets: std::ops::Range<usize>,
    /// So many of them, the first, are exits.
    exits: usize,
    /// The last exit, unless something was forced since: were it text, it would fit again and again.
    left_by: Option<usize>,
    /// Tokens that the model should draw at most before an exit.
    stretch: Option<usize>,
    /// Tokens drawn since something was forced.
    run: usize,
    /// Those tokens.
    said: Vec<u32>,
    /// JSON strings that may still come; none where they are left to themselves.
    strings: usize,
    /// Tokens drawn in the string that is being written, and those it should have at most.
    string: usize,
    share: usize,
    quotes: Arc<Option<Quotes>>,
    fillers: Arc<[Vec<u32>]>,
    /// Tokens that end an answer; the rules know the first.
    ends: Arc<[u32]>,
    /// Tokens that would bring the answer to its end from here, where some are known; looked for at the beginning, and at
    /// each token once `watch` are left.
    ending: Option<Vec<u32>>,
    watch: usize,
    cut: bool,
    shortened: usize,
}

impl Form {
    /// The next tokens: one drawn among those allowed, then those that must follow. `left` tokens may still be written. The
    /// second says how many of them, the first, the model drew: one, or none where it would have ended.
    pub fn draw(
        &mut self,
        logits: &[f32],
        sampler: &mut Sampler,
        left: usize,
        space: &mut DrawSpace,
    ) -> Result<(Vec<u32>, usize)> {
        let mask = self.matcher.compute_mask().map_err(refused)?;
        self.restrict(logits, &mask, &mut space.allowed);
        let early = self.exits > 0 && !mask.is_allowed(self.ends[0]);
        let pressure = if early { self.pressure()? } else { 0.0 };
        if early {
            self.ends.iter().for_each(|&id| space.allowed[id as usize] = logits[id as usize] + pressure);
        }
        let in_string = self.strings > 0 && self.quotes.as_ref().as_ref().is_some_and(|quotes| quotes.inside(&mask));
        if let Some(id) = self.echo().filter(|_| early || in_string) {
            space.allowed[id as usize] = f32::NEG_INFINITY;
        }
        let pushed = self.push_string(logits, &mask, left, &mut space.allowed);
        self.run += 1;
        let mut id = sampler.next(&space.allowed, &mut space.weights);
        if early && self.ends.contains(&id) {
            let pressed = pressure > 0.0 && self.is_unlikely(id, logits, &space.allowed);
            if let Some(ids) = self.leave(left)? {
                self.shortened += usize::from(pressed);
                return Ok((ids, 0));
            }
            self.restrict(logits, &mask, &mut space.allowed);
            id = sampler.next(&space.allowed, &mut space.weights);
        }
        if self.is_mark(id) {
            let likelier =
                |other: usize| space.allowed[other] > f32::NEG_INFINITY && logits[other] > logits[id as usize];
            let pressed = pushed && (0..logits.len()).any(|other| likelier(other) && !self.is_mark(other as u32));
            self.shortened += usize::from(pressed);
            self.string = 0;
        }
        self.said.push(id);
        Ok((self.advance(id, left)?, 1))
    }

    /// The token that would go on with a passage that was just written some times in a row: of itself that would never end.
    fn echo(&self) -> Option<u32> {
        let said = &self.said;
        let repeats = |p: &usize| {
            let most = (ROUNDS * p).max(LEAST_ECHO);
            said.len() >= most && (said.len() - most..said.len() - p).all(|i| said[i] == said[i + p])
        };
        (1..=LONGEST_ECHO).find(repeats).map(|p| said[said.len() - p])
    }

    fn is_mark(&self, id: u32) -> bool {
        self.quotes.as_ref().as_ref().is_some_and(|quotes| quotes.marks[id as usize])
    }

    /// Within a JSON string, adds to the logits of its ends what its share asks for; whether that is anything. A share is of
    /// what is left beside the shortest way to the end.
    fn push_string(&mut self, logits: &[f32], mask: &SimpleVob, left: usize, allowed: &mut [f32]) -> bool {
        let Some(quotes) = self.quotes.as_ref().as_ref().filter(|_| self.strings > 0) else { return false };
        if !quotes.inside(mask) {
            self.string = 0;
            return false;
        }
        self.string += 1;
        if self.string == 1 {
            return false; // a text of another kind may begin like one
        }
        if self.string == 2 {
            let rest = (self.watch - WATCH) / 4 + LANDING / 2;
            let others = STRING * (self.strings - 1);
            self.share = left.saturating_sub((rest + others).min(left / 2)).max(SHORTEST_STRING);
            self.strings = (self.strings - 1).max(1);
        }
        let pressure = pressure(self.string, self.share, LANDING.min(self.share / 2).max(1));
        quotes.ends.iter().filter(|_| pressure > 0.0).for_each(|&id| {
            if mask.is_allowed(id) {
                allowed[id as usize] = logits[id as usize] + pressure;
            }
        });
        pressure > 0.0
    }

    /// Whether without pressure a token that goes on with the text would be likelier than this end.
    fn is_unlikely(&self, end: u32, logits: &[f32], pressed: &[f32]) -> bool {
        let own = logits[end as usize];
        pressed.iter().enumerate().any(|(id, &logit)| logit > own && !self.ends.contains(&(id as u32)))
    }

    /// Takes a token and what must follow it, if the answer can be finished behind them; if not, what finishes it.
    fn advance(&mut self, id: u32, left: usize) -> Result<Vec<u32>> {
        let mut next = self.matcher.clone();
        let ids = follow(&mut next, id, &self.ends)?;
        let rest = left.checked_sub(ids.len());
        let far = rest.is_some_and(|rest| rest > self.watch);
        let ending = match rest {
            Some(rest) if !far => self.ending_of(next.clone(), rest)?,
            _ => None,
        };
        if far || ending.is_some() {
            (self.matcher, self.ending) = (next, ending);
            self.went(&ids[1..]);
            return Ok(ids);
        }
        // Nothing known ends that in time: on with what does, or here, if the answer may end here.
        let known = match self.ending.take() {
            Some(known) => Some(known),
            None => self.ending_of(self.matcher.clone(), left)?,
        };
        let Some(mut known) = known else {
            self.matcher = next;
            self.cut = true;
            return Ok(ids);
        };
        let closing = if known.is_empty() { self.ends[0] } else { known.remove(0) };
        self.cut |= closing != id;
        let ids = follow(&mut self.matcher, closing, &self.ends)?;
        // The ending began with what was forced, or spelt it otherwise.
        self.ending = known.strip_prefix(&ids[1..]).map(<[u32]>::to_vec);
        self.went(&ids[1..]);
        Ok(ids)
    }

    /// The model would end its answer and may not yet: the first exit that fits here, with what must follow it, if the
    /// answer can be finished behind them.
    fn leave(&mut self, left: usize) -> Result<Option<Vec<u32>>> {
        let closers = Arc::clone(&self.closers);
        for (i, exit) in closers[..self.exits].iter().enumerate() {
            let mut next = self.matcher.clone();
            // A rule's own limit of tokens may end between those of an exit, which no look ahead tells.
            if !self.may_fit(i)? || next.try_consume_tokens(exit).map_err(refused)? < exit.len() {
                continue;
            }
            let mut ids = exit.clone();
            if !next.is_stopped() {
                ids.extend(next.consume_ff_tokens());
            }
            let Some(rest) = left.checked_sub(ids.len()) else { continue };
            if let Some(ending) = self.ending_of(next.clone(), rest)? {
                (self.matcher, self.ending) = (next, Some(ending));
                self.said.clear();
                (self.run, self.left_by) = (0, if ids.len() > exit.len() { None } else { Some(i) });
                return Ok(Some(ids));
            }
        }
        Ok(None)
    }

    /// Whether an exit seems to fit here.
    fn may_fit(&mut self, exit: usize) -> Result<bool> {
        let ids = &self.closers[exit];
        let known = ids.is_empty() || Some(exit) == self.left_by;
        Ok(!known && self.matcher.validate_tokens(ids).map_err(refused)? == ids.len())
    }

    /// Where something was forced, a stretch of the model's own begins anew.
    fn went(&mut self, forced: &[u32]) {
        if !forced.is_empty() {
            (self.run, self.left_by) = (0, None);
            self.said.clear();
        }
    }

    /// What is added to the logits of end tokens: nothing for long; among the last tokens of a stretch that an exit can end,
    /// more and more, so that it ends where its end is least out of place.
    fn pressure(&mut self) -> Result<f32> {
        let Some(stretch) = self.stretch else { return Ok(0.0) };
        let pressure = pressure(self.run, stretch, LANDING.min(stretch / 2).max(1));
        let mut exit = 0;
        while pressure > 0.0 && exit < self.exits {
            if self.may_fit(exit)? {
                return Ok(pressure);
            }
            exit += 1;
        }
        Ok(0.0)
    }

    /// End tokens are nothing to this answer, so it takes no exits either.
    pub fn stay(&mut self) {
        self.exits = 0;
    }

    /// Whether nothing can follow.
    pub fn is_over(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// How many texts were ended so that what follows has room, where their model would sooner have gone on.
    pub fn shortened(&self) -> usize {
        self.shortened
    }

    /// Whether a token was taken that the model had not drawn, so that the answer closes within its budget.
    pub fn was_cut(&self) -> bool {
        self.cut
    }

    /// `logits` of allowed tokens to `out`, all others at negative infinity.
    fn restrict(&self, logits: &[f32], mask: &SimpleVob, out: &mut Vec<f32>) {
        out.clear();
        out.resize(logits.len(), f32::NEG_INFINITY);
        mask.iter_set_entries(|id| {
            if let Some(to) = out.get_mut(id) {
                *to = logits[id];
            }
        });
        if mask.is_allowed(self.ends[0]) {
            for &id in &self.ends[1..] {
                out[id as usize] = logits[id as usize];
            }
        }
    }

    /// Tokens that bring `matcher` to an end in at most `limit`, if some are found: what is forced; or the first closer
    /// that fits and was not the last step, or the filler least used; and so on.
    fn ending_of(&self, mut matcher: Matcher, limit: usize) -> Result<Option<Vec<u32>>> {
        let (mut ending, mut last, mut row, mut used) = (Vec::new(), usize::MAX, 0, vec![0usize; self.fillers.len()]);
        while ending.len() <= limit {
            if matcher.is_stopped() || matcher.is_accepting().map_err(refused)? {
                return Ok(Some(ending));
            }
            let forced = matcher.consume_ff_tokens();
            if !forced.is_empty() {
                ending.extend(forced);
                last = usize::MAX;
                continue;
            }
            let fits =
                |text: &Vec<u32>| matcher.clone().try_consume_tokens(text).is_ok_and(|taken| taken == text.len());
            // Brackets are nested, so the same one may close several in a row.
            let again = |i: usize| i != last || (row < DEEPEST && self.brackets.contains(&i));
            let closer = (0..self.closers.len()).find(|&i| again(i) && fits(&self.closers[i]));
            let filler = || (0..self.fillers.len()).filter(|&i| fits(&self.fillers[i])).min_by_key(|&i| used[i]);
            let step = if let Some(closer) = closer {
                row = if closer == last { row + 1 } else { 0 };
                last = closer;
                self.closers[closer].clone()
            } else if let Some(filler) = filler() {
                last = usize::MAX;
                used[filler] += 1;
                self.fillers[filler].clone()
            } else if last != usize::MAX && fits(&self.closers[last]) {
                self.closers[last].clone()
            } else {
                let allowed = matcher.compute_mask().map_err(refused)?;
                let Some(id) = allowed.first_bit_set() else { return Ok(None) };
                vec![id as u32]
            };
            matcher.consume_tokens(&step).map_err(refused)?;
            ending.extend(step);
        }
        Ok(None)
    }
}
