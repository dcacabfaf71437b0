//! Stand-ins for what a template must pass through untouched: special tokens that a user only wrote about, and slots.

use super::special::Part;
use super::template::{Piece, Rendered};
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
    /// What each number stands for.
    meanings: Vec<Rendered>,
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
        Ok(Self { mark, meanings: Vec::new() })
    }

    fn stand_in(&mut self, meaning: Rendered, out: &mut String) {
        out.push(self.mark);
        out.push_str(&self.meanings.len().to_string());
        out.push(self.mark);
        self.meanings.push(meaning);
    }

    /// A content as the template gets it.
    pub fn content(&mut self, tokenizer: &Tokenizer, pieces: &[Piece]) -> String {
        let mut out = String::new();
        // Neighbouring texts are one text: a special token's name may be spread over them.
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Slot(slot) => {
                    self.text(tokenizer, &text, &mut out);
                    text.clear();
                    self.stand_in(Rendered::Slot(*slot), &mut out);
                }
            }
        }
        self.text(tokenizer, &text, &mut out);
        out
    }

    fn text(&mut self, tokenizer: &Tokenizer, text: &str, out: &mut String) {
        tokenizer.split_special(text, |part| match part {
            Part::Text(part) => out.push_str(part),
            // User-defined tokens are found in any text; a template may look for them (`</think>`), so they stay.
            Part::Token(id) => match tokenizer.name(id) {
                name if tokenizer.is_special(id) => {
                    self.stand_in(Rendered::Literal(name.into()), out);
                }
                name => out.push_str(name),
            },
        });
    }

    /// Takes a rendered text apart. Every stand-in must have come through.
    pub fn split(&self, rendered: &str) -> Result<Vec<Rendered>> {
        let mut parts = Vec::new();
        let mut seen = vec![false; self.meanings.len()];
        // Between marks lie, by turns, text and numbers.
        for (turn, part) in rendered.split(self.mark).enumerate() {
            if turn.is_multiple_of(2) {
                if !part.is_empty() {
                    parts.push(Rendered::Template(part.into()));
                }
                continue;
            }
            let number = part.parse().ok().filter(|number: &usize| number.to_string() == part);
            let Some((number, meaning)) = number.and_then(|number| Some((number, self.meanings.get(number)?))) else {
                return Err(self.altered());
            };
            if seen[number] && matches!(meaning, Rendered::Slot(_)) {
                return Err(Error::Template(
                    "the template writes a content with ids or vectors in it twice; give the prompt as a list of segments instead".into(),
                ));
            }
            seen[number] = true;
            parts.push(meaning.clone());
        }
        if !rendered.matches(self.mark).count().is_multiple_of(2) || seen.contains(&false) {
            return Err(self.altered());
        }
        Ok(parts)
    }

    fn altered(&self) -> Error {
        let what = self.meanings.iter().find_map(|meaning| match meaning {
            Rendered::Literal(name) => Some(format!("the text {name:?}")),
            _ => None,
        });
        Error::Template(format!(
            "it changes or leaves out {}, which must go into the prompt as given; use a template that writes every content, or give the prompt as a list of segments",
            what.unwrap_or_else(|| "a segment of ids or vectors".into())
        ))
    }
}
