//! How an answer comes to its end within its tokens.
//!
//! A form that could go on for ever is closed in time: near the end a token is taken only if an ending of what would then
//! be left is known, and if not, the known ending is taken.

use super::form::Form;
use super::grammar::refused;
use crate::error::Result;
use llguidance::Matcher;
use std::sync::Arc;

/// Tokens the shortest answer of a form may take.
pub(super) const LONGEST_ENDING: usize = 4096;
/// Texts that lead JSON and most regular expressions on to their end.
pub(super) const CLOSERS: [&str; 14] = ["\"", "}", "]", ")", ",", ", ", ":", "-", "/", ".", ";", "\n", " ", "T"];
/// Brackets of one kind that are closed in a row.
const DEEPEST: usize = 64;
/// Texts that stand for anything where something must stand.
pub(super) const FILLERS: [&str; 8] = ["0", "1", "a", "true", "null", "e", "A", "-"];

impl Form {
    /// Takes a token and what must follow it, if the answer can be finished behind them; if not, what finishes it.
    pub(super) fn advance(&mut self, id: u32, left: usize) -> Result<Vec<u32>> {
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
    pub(super) fn leave(&mut self, left: usize) -> Result<Option<Vec<u32>>> {
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

    /// Tokens that bring `matcher` to an end in at most `limit`, if some are found: what is forced; or the first closer
    /// that fits and was not the last step, or the filler least used; and so on.
    pub(super) fn ending_of(&self, mut matcher: Matcher, limit: usize) -> Result<Option<Vec<u32>>> {
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
