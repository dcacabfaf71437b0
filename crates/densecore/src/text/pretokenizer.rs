//! Cuts text into the words inside which byte pairs are merged.
//!
//! Every pre-tokenizer is a list of passes; each pass cuts the pieces of the one before into smaller ones. A name of a
//! model file that is not listed is refused: a wrong cut gives plausible ids and a worse model.

use super::unicode::{Class, class};
use crate::error::{Error, Result};

/// One way of cutting a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Contractions, then runs of letters, of numbers, of other signs, each with one leading space.
    Gpt2,
    /// Contractions in either case, letters with one leading sign, numbers in groups of at most `digits`, signs with
    /// trailing line ends, line ends with leading white space. `marks`: combining marks belong to the letters.
    Words { digits: usize, marks: bool },
    /// Every number character alone.
    EachNumber,
    /// Runs of numbers.
    Numbers,
    /// Runs of punctuation and of the signs `$ + < = > ^ ~ |`.
    Signs,
    /// ASCII digits in threes, the remainder left together.
    Threes,
}

/// How a model cuts text into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreTokenizer {
    passes: &'static [Pass],
    /// A word that is a token as a whole is taken as that token, whatever the merges would give.
    pub whole_words: bool,
}

/// Names in model files, by family.
const GPT2: &[&str] = &[
    "gpt-2",
    "phi-2",
    "jina-es",
    "jina-de",
    "gigachat",
    "jina-v2-es",
    "jina-v2-de",
    "a.x-4.0",
    "mellum",
    "modern-bert",
    "jina-v1-en",
    "jina-v2-code",
    "roberta-bpe",
    "mpt",
    "olmo",
    "jais",
    "trillion",
    "granite-docling",
];
const SMOLLM: &[&str] = &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"];
const LLAMA3: &[&str] =
    &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"];
const SMAUG: &[&str] = &["smaug-bpe", "dbrx"];
const QWEN2: &[&str] =
    &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"];
const QWEN35: &[&str] = &["qwen35"];
const DEFAULT: &[&str] = &["default"];

const fn words(digits: usize, marks: bool) -> Pass {
    Pass::Words { digits, marks }
}

/// Every family: its names, its passes, whether whole words win over merges.
const FAMILIES: &[(&[&str], &[Pass], bool)] = &[
    (QWEN2, &[words(1, false)], false),
    (SMOLLM, &[Pass::EachNumber, Pass::Gpt2], false),
    (LLAMA3, &[words(3, false)], true),
    (GPT2, &[Pass::Gpt2], false),
    (QWEN35, &[words(1, true)], false),
    (SMAUG, &[words(3, false)], false),
    (DEFAULT, &[Pass::Signs, Pass::Gpt2, Pass::Numbers, Pass::Threes], false),
];

impl PreTokenizer {
    /// The pre-tokenizer a model file names.
    pub fn named(name: &str) -> Result<Self> {
        for (names, passes, whole_words) in FAMILIES {
            if names.contains(&name) {
                return Ok(Self { passes, whole_words: *whole_words });
            }
        }
        let known: Vec<&str> = FAMILIES.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
        Err(Error::unsupported(
            "the pre-tokenizer",
            format!("{name:?}"),
            format!(
                "known are {}; load the safetensors folder of the same model, whose tokenizer.json describes the cuts",
                known.join(", ")
            ),
        ))
    }

    /// Calls `word` with every piece of `text`, in order; the pieces join to the text again.
    pub fn split<'a>(&self, text: &'a str, mut word: impl FnMut(&'a str)) {
        let [first, rest @ ..] = self.passes else {
            return word(text);
        };
        if rest.is_empty() {
            return first.cut(text, &mut word);
        }
        let mut pieces = Vec::new();
        first.cut(text, &mut |piece| pieces.push(piece));
        for (index, pass) in rest.iter().enumerate() {
            if index + 1 == rest.len() {
                for piece in pieces {
                    pass.cut(piece, &mut word);
                }
                return;
            }
            let mut finer = Vec::with_capacity(pieces.len());
            for piece in pieces {
                pass.cut(piece, &mut |part| finer.push(part));
            }
            pieces = finer;
        }
    }
}

impl Pass {
    fn cut<'a>(self, text: &'a str, out: &mut dyn FnMut(&'a str)) {
        match self {
            Self::Gpt2 => cut_all(text, out, gpt2_word),
            Self::Words { digits, marks } => {
                cut_all(text, out, |rest| modern_word(rest, digits, marks));
            }
            Self::EachNumber => cut_all(text, out, |rest| match rest.chars().next() {
                Some(first) if is_number(first) => first.len_utf8(),
                _ => run(rest, |c| !is_number(c)),
            }),
            Self::Numbers => cut_all(text, out, |rest| alternate(rest, is_number)),
            Self::Signs => {
                cut_all(text, out, |rest| {
                    alternate(rest, |c| class(c) == Class::Punctuation || "$+<=>^~|".contains(c))
                });
            }
            Self::Threes => cut_threes(text, out),
        }
    }
}

/// Repeats `length_of_next` until the text is used up. Every length is at least one character.
fn cut_all<'a>(mut text: &'a str, out: &mut dyn FnMut(&'a str), length_of_next: impl Fn(&str) -> usize) {
    while !text.is_empty() {
        let (word, rest) = text.split_at(length_of_next(text));
        out(word);
        text = rest;
    }
}

/// The length of the run that starts here, of characters for which `is` holds or of those for which it does not.
fn alternate(text: &str, is: impl Fn(char) -> bool) -> usize {
    match run(text, &is) {
        0 => run(text, |c| !is(c)),
        length => length,
    }
}

/// Groups of three ASCII digits; what lies between groups stays in one piece.
fn cut_threes<'a>(text: &'a str, out: &mut dyn FnMut(&'a str)) {
    let bytes = text.as_bytes();
    let (mut start, mut at) = (0, 0);
    while at + 3 <= bytes.len() {
        if bytes[at..at + 3].iter().all(u8::is_ascii_digit) {
            if start < at {
                out(&text[start..at]);
            }
            out(&text[at..at + 3]);
            at += 3;
            start = at;
        } else {
            at += 1;
        }
    }
    if start < text.len() {
        out(&text[start..]);
    }
}

fn is_number(c: char) -> bool {
    class(c) == Class::Number
}

/// A sign is anything but white space, letters and numbers; unassigned and control characters count as signs.
fn is_sign(c: char) -> bool {
    !matches!(class(c), Class::White | Class::Letter | Class::Number)
}

/// Bytes of the longest prefix of which every character satisfies `is`.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.char_indices().find(|&(_, c)| !is(c)).map_or(text.len(), |(at, _)| at)
}

/// The length of an English contraction that starts here (`'s 't 'm 'd 're 've 'll`), or 0.
fn contraction(text: &str, any_case: bool) -> usize {
    let [b'\'', rest @ ..] = text.as_bytes() else {
        return 0;
    };
    let letter = |at: usize| rest.get(at).map(|b| if any_case { b.to_ascii_lowercase() } else { *b });
    match (letter(0), letter(1)) {
        (Some(b's' | b't' | b'm' | b'd'), _) => 2,
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => 3,
        _ => 0,
    }
}

/// White space up to, not including, the last character before other text: that one leads the next word.
fn white(text: &str) -> usize {
    let length = run(text, |c| class(c) == Class::White);
    if length < text.len()
        && let Some((last, _)) = text[..length].char_indices().next_back()
        && last > 0
    {
        return last;
    }
    length
}

fn gpt2_word(text: &str) -> usize {
    let length = contraction(text, false);
    if length > 0 {
        return length;
    }
    let lead = usize::from(text.starts_with(' '));
    let body = &text[lead..];
    let length = match body.chars().next().map(class) {
        Some(Class::Letter) => run(body, |c| class(c) == Class::Letter),
        Some(Class::Number) => run(body, is_number),
        Some(Class::White) | None => 0,
        Some(_) => run(body, is_sign),
    };
    if length > 0 { lead + length } else { white(text) }
}

fn modern_word(text: &str, digits: usize, marks: bool) -> usize {
    let length = contraction(text, true);
    if length > 0 {
        return length;
    }
    let is_letter = |c: char| match class(c) {
        Class::Letter => true,
        Class::Mark => marks,
        _ => false,
    };
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return 0;
    };
    let second = chars.next();
    let kind = class(first);
    // One leading character of any kind but a line end or a number joins the letters after it.
    if kind != Class::Number && !matches!(first, '\r' | '\n') && (is_letter(first) || second.is_some_and(is_letter)) {
        return first.len_utf8() + run(&text[first.len_utf8()..], is_letter);
    }
    if kind == Class::Number {
        return text.chars().take(digits).take_while(|&c| is_number(c)).map(char::len_utf8).sum();
    }
    let sign = |c: char| is_sign(c) && !(marks && class(c) == Class::Mark);
    let lead = usize::from(first == ' ');
    let signs = run(&text[lead..], sign);
    if signs > 0 {
        let end = lead + signs;
        return end + run(&text[end..], |c| matches!(c, '\r' | '\n'));
    }
    let length = run(text, |c| class(c) == Class::White);
    if let Some(last_line_end) = text.as_bytes()[..length].iter().rposition(|b| matches!(b, b'\r' | b'\n')) {
        return last_line_end + 1;
    }
    white(text)
}
