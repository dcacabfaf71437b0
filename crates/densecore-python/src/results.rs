//! Results as tuples; the Python front gives them names.

use crate::error::to_python;
use densecore::generate::{Generation, Score, TokenLogprob, Usage};
use pyo3::prelude::*;

pub type UsageTuple = (usize, usize, usize, usize, usize, usize, f64, f64);
pub type LogprobTuple = (u32, f32, Vec<(u32, f32)>);
pub type GenerationTuple = (String, Vec<u32>, &'static str, Vec<LogprobTuple>, UsageTuple, usize, Option<PyErr>);
pub type ScoreTuple = (Vec<LogprobTuple>, UsageTuple);

pub fn usage(u: Usage) -> UsageTuple {
    (
        u.prompt_tokens,
        u.prompt_vectors,
        u.emitted_tokens,
        u.latent_steps,
        u.positions,
        u.cached_positions,
        u.seconds,
        u.waited_seconds,
    )
}

pub fn logprobs(list: Vec<TokenLogprob>) -> Vec<LogprobTuple> {
    list.into_iter().map(|t| (t.id, t.logprob, t.top)).collect()
}

pub fn generation(py: Python<'_>, g: Generation) -> GenerationTuple {
    let error = g.error.map(|error| to_python(py, &error));
    (g.text, g.ids, g.finish.name(), logprobs(g.logprobs), usage(g.usage), g.shortened, error)
}

pub fn score(s: Score) -> ScoreTuple {
    (logprobs(s.tokens), usage(s.usage))
}
