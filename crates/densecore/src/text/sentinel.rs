//! Stand-ins for what a template must pass through untouched: special tokens that a user only wrote about, and slots.

use std::fmt::Write as _;

use std::collections::HashMap;

use super::chat::Piece;
use super::special::Part;
use super::template::Rendered;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// Private-use characters of plane 15, none of which a vocabulary spells in one token.
const FIRST: u32 = 0xF_0000;
const LAST: u32 = 0xF_FFFD;

/// The stand-ins of one chat: `mark digits mark`.
#[derive(Debug)]
pub struct Marks {
    /// A character that nothing in the chat contains.
    mark: char,
    /// What each number stands for, and whether it must come through.
    meanings: Vec<(Rendered, bool)>,
    /// Numbers of special tokens outside of contents: equal texts stay equal, as templates compare names and ids.
    shared: HashMap<u32, usize>,
}

impl Marks {
    /// Finds a mark that occurs in none of the texts.
    pub fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut used = std::collections::HashSet::new();
        for text in texts {
            // All characters of plane 15 begin with this byte in UTF-8, which other text rarely holds.
            if text.as_bytes().contains(&0xF3) {
                used.extend(text.chars().filter(|c| (FIRST..=LAST).contains(&(*c as u32))));
            }
        }
        let mark = (FIRST..=LAST).filter_map(char::from_u32).find(|c| !used.contains(c));
        let mark =
            mark.ok_or_else(|| Error::Template("the chat uses all private-use characters; remove some".into()))?;
        Ok(Self { mark, meanings: Vec::new(), shared: HashMap::new() })
    }

    fn number(&mut self, meaning: Rendered, must_come: bool) -> usize {
        self.meanings.push((meaning, must_come));
        self.meanings.len() - 1
    }

    fn stand_in(&self, number: usize, out: &mut String) {
        out.push(self.mark);
        out.push_str(&number.to_string());
        out.push(self.mark);
    }

    /// A text as the template gets it. What is in a content must come through; other values a template may leave out.
    pub fn text(&mut self, tokenizer: &Tokenizer, pieces: &[Piece], is_content: bool) -> String {
        let mut out = String::new();
        // Neighbouring texts are one text: a special token's name may be spread over them.
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Slot(slot) => {
                    self.plain(tokenizer, &text, is_content, &mut out);
                    text.clear();
                    let number = self.number(Rendered::Slot(*slot), true);
                    self.stand_in(number, &mut out);
                }
            }
        }
        self.plain(tokenizer, &text, is_content, &mut out);
        out
    }

    fn plain(&mut self, tokenizer: &Tokenizer, text: &str, is_content: bool, out: &mut String) {
        tokenizer.split_special(text, |part| match part {
            Part::Text(part) => out.push_str(part),
            // User-defined tokens are found in any text; a template may look for them (`</think>`), so they stay.
            Part::Token(id) => match tokenizer.name(id) {
                name if tokenizer.is_special(id) => {
                    let literal = Rendered::Literal(name.into());
                    let number = match self.shared.get(&id).filter(|_| !is_content) {
                        Some(number) => *number,
                        None => self.number(literal, is_content),
                    };
                    if !is_content {
                        self.shared.insert(id, number);
                    }
                    self.stand_in(number, out);
                }
                name => out.push_str(name),
            },
        });
    }

    /// Takes a rendered text apart. Every stand-in of a content must have come through.
    pub fn split(&self, rendered: &str) -> Result<Vec<Rendered>> {
        let mut parts = Vec::new();
        let mut left_out: Vec<bool> = self.meanings.iter().map(|(_, must_come)| *must_come).collect();
        let mut slots = std::collections::HashSet::new();
        // Between marks lie, by turns, text and numbers.
        for (turn, part) in rendered.split(self.mark).enumerate() {
            if turn.is_multiple_of(2) {
                if !part.is_empty() {
                    parts.push(Rendered::Template(part.into()));
                }
                continue;
            }
            let number = part.parse().ok().filter(|number: &usize| number.to_string() == part);
            let Some((number, (meaning, _))) = number.and_then(|number| Some((number, self.meanings.get(number)?)))
            else {
                return Err(self.altered());
            };
            if matches!(meaning, Rendered::Slot(_)) && !slots.insert(number) {
                return Err(Error::Template(
                    "the template writes a content with ids or vectors in it twice; give the prompt as a list of segments instead".into(),
                ));
            }
            left_out[number] = false;
            parts.push(meaning.clone());
        }
        if !rendered.matches(self.mark).count().is_multiple_of(2)
            || left_out.contains(&true)
            || rendered.contains(&self.escaped())
        {
            return Err(self.altered());
        }
        Ok(parts)
    }

    /// The mark as JSON of ASCII alone writes it: one that went through there is no mark any more.
    fn escaped(&self) -> String {
        self.mark.encode_utf16(&mut [0; 2]).iter().fold(String::new(), |mut text, unit| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
            text
        })
    }

    fn altered(&self) -> Error {
        let what = self.meanings.iter().find_map(|(meaning, _)| match meaning {
            Rendered::Literal(name) => Some(format!("the text {name:?}")),
            _ => None,
        });
        Error::Template(format!(
            "it changes or leaves out {}, which must go into the prompt as given; use a template that writes every content, or give the prompt as a list of segments",
            what.unwrap_or_else(|| "a segment of ids or vectors".into())
        ))
    }
}
