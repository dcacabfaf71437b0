//! Answers to one prompt: the first sequence reads it, and the others take over what it read.

use super::sequence::Sequence;
use crate::error::Result;

/// `n` sequences of the prompt of `first`, which stands at `place` in its call.
pub(crate) fn of(first: Sequence, n: usize, place: usize) -> impl Iterator<Item = Sequence> {
    // Where nothing is to be read there is nothing to wait for.
    let follows = Some(place).filter(|_| first.pending() > 0);
    let twins: Vec<Sequence> = (1..n).map(|_| first.twin(follows)).collect();
    std::iter::once(first).chain(twins)
}

/// The sequence at `first` has read its prompt: those that follow it and are at work take that over. Of those that are
/// still outside the first will read for the others.
pub(crate) fn hand_on(sequences: &mut [Sequence], first: usize) -> Result<()> {
    let mut next = None;
    for i in first + 1..sequences.len() {
        let (before, behind) = sequences.split_at_mut(i);
        let twin = &mut behind[0];
        if twin.follows != Some(first) {
            continue;
        }
        if twin.at_work() {
            twin.follows = None;
            twin.take_over(&before[first])?;
        } else {
            twin.follows = next;
            next = next.or(Some(i));
        }
    }
    Ok(())
}

/// Those whose first sequence failed before it had read the prompt read it themselves.
pub(crate) fn leave_the_failed(sequences: &mut [Sequence]) {
    for i in 0..sequences.len() {
        if sequences[i].follows.is_some_and(|first| sequences[first].is_over()) {
            sequences[i].follows = None;
        }
    }
}
