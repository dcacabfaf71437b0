//! The form of one answer as it is written: which tokens may come next, and what is added to the logits of ends.

use super::grammar::refused;
use super::quotes::Quotes;
use super::sampler::Sampler;
use super::writer::DrawSpace;
use crate::error::Result;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use std::sync::Arc;

/// Last tokens of a stretch in which its end is looked for: a long sentence.
const LANDING: usize = 40;
/// Added to the logit of its end there. Behind a sentence the end of a text is 2 to 11 below the likeliest token, elsewhere
/// mostly 13 and more (SmolLM2 135M, three answers read while working, not stored).
const EASE: f32 = 10.0;
/// Added besides at the end of a stretch, where it outweighs any other.
const FORCE: f32 = 64.0;
/// Tokens left at which endings are looked for, besides four times the shortest answer's.
pub(super) const WATCH: usize = 128;
/// Tokens that a JSON string may always have, and those kept for one that may still come.
const SHORTEST_STRING: usize = 12;
const STRING: usize = 32;
/// A passage of so many tokens at most, so often in a row, and so many tokens in all, is not written once more where something
/// must follow: a small model would never come to an end.
const LONGEST_ECHO: usize = 48;
const ROUNDS: usize = 3;
const LEAST_ECHO: usize = 24;

/// The form of one answer, as far as it is written.
pub(crate) struct Form {
    pub(super) matcher: Matcher,
    pub(super) closers: Arc<[Vec<u32>]>,
    /// Those that are brackets: the second and the third of [`CLOSERS`].
    pub(super) brackets: std::ops::Range<usize>,
    /// So many of them, the first, are exits.
    pub(super) exits: usize,
    /// The last exit, unless something was forced since: were it text, it would fit again and again.
    pub(super) left_by: Option<usize>,
    /// Tokens that the model should draw at most before an exit.
    pub(super) stretch: Option<usize>,
    /// Tokens drawn since something was forced.
    pub(super) run: usize,
    /// Those tokens.
    pub(super) said: Vec<u32>,
    /// JSON strings that may still come; none where they are left to themselves.
    pub(super) strings: usize,
    /// Tokens drawn in the string that is being written, and those it should have at most.
    pub(super) string: usize,
    pub(super) share: usize,
    pub(super) quotes: Arc<Option<Quotes>>,
    pub(super) fillers: Arc<[Vec<u32>]>,
    /// Tokens that end an answer; the rules know the first.
    pub(super) ends: Arc<[u32]>,
    /// Tokens that would bring the answer to its end from here, where some are known; looked for at the beginning, and at
    /// each token once `watch` are left.
    pub(super) ending: Option<Vec<u32>>,
    pub(super) watch: usize,
    pub(super) cut: bool,
    pub(super) shortened: usize,
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
        let in_character = !in_string && self.string > 0 && self.said.last().is_some_and(|&id| self.is_unfinished(id));
        if !(in_string || in_character) {
            (self.string, self.share) = (0, 0);
        }
        if let Some(id) = self.echo().filter(|_| early || in_string) {
            space.allowed[id as usize] = f32::NEG_INFINITY;
        }
        let pushed = in_string && self.push_string(logits, &mask, left, &mut space.allowed);
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
        if in_string && self.is_mark(id) {
            let likelier =
                |other: usize| space.allowed[other] > f32::NEG_INFINITY && logits[other] > logits[id as usize];
            let pressed = pushed && (0..logits.len()).any(|other| likelier(other) && !self.is_mark(other as u32));
            self.shortened += usize::from(pressed);
            (self.string, self.share) = (0, 0);
        } else if in_string || in_character {
            self.string += 1;
        }
        self.said.push(id);
        let ids = self.advance(id, left)?;
        if ids[1..].iter().any(|&forced| self.is_mark(forced)) {
            (self.string, self.share) = (0, 0);
        }
        Ok((ids, 1))
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

    fn is_unfinished(&self, id: u32) -> bool {
        self.quotes.as_ref().as_ref().is_some_and(|quotes| quotes.unfinished[id as usize])
    }

    fn is_mark(&self, id: u32) -> bool {
        self.quotes.as_ref().as_ref().is_some_and(|quotes| quotes.marks[id as usize])
    }

    /// Within a JSON string, adds to the logits of its ends what its share asks for; whether that is anything. A share is of
    /// what is left beside the shortest way to the end.
    fn push_string(&mut self, logits: &[f32], mask: &SimpleVob, left: usize, allowed: &mut [f32]) -> bool {
        let Some(quotes) = self.quotes.as_ref().as_ref() else { return false };
        if self.string == 0 {
            return false; // a text of another kind may begin like one
        }
        if self.share == 0 {
            let rest = (self.watch - WATCH) / 4 + LANDING / 2;
            let others = STRING * (self.strings - 1);
            self.share = left.saturating_sub((rest + others).min(left / 2)).max(SHORTEST_STRING);
            self.strings = (self.strings - 1).max(1);
        }
        let pressure = pressure(self.string + 1, self.share, LANDING.min(self.share / 2).max(1));
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

    /// Whether an exit seems to fit here.
    pub(super) fn may_fit(&mut self, exit: usize) -> Result<bool> {
        let ids = &self.closers[exit];
        let known = ids.is_empty() || Some(exit) == self.left_by;
        Ok(!known && self.matcher.validate_tokens(ids).map_err(refused)? == ids.len())
    }

    /// Where something was forced, a stretch of the model's own begins anew.
    pub(super) fn went(&mut self, forced: &[u32]) {
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
}

/// What is added to the logit of an end after so many of the tokens that it should have at most.
fn pressure(run: usize, most: usize, landing: usize) -> f32 {
    let into = (run + landing).saturating_sub(most) as f32 / landing as f32;
    EASE * (4.0 * into).min(1.0) + FORCE * (4.0 * into - 3.0).max(0.0).powi(2)
}
