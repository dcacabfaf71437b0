//! A prefix the model has read: keys, values and the state it ended in.

use crate::error::{Error, Result};
use crate::generate::rows::Rows;
use crate::generate::sequence::Sequence;
use crate::generate::twins;
use crate::generate::{Cancel, Event, GenerateOptions, Generation, Prompt, Salt, Score, Thinking, Thought};
use crate::model::cache::Cache;
use crate::vertex::Model;

/// A prefilled prefix. Forks share memory until they differ.
#[derive(Debug, Clone)]
pub struct Context {
    model: Model,
    cache: Cache,
    /// Residual state of the last position; empty right after a truncation.
    last: Vec<f32>,
    /// What was read, so that a truncated context can compute its last state again; an imported one does not know.
    history: Option<Rows>,
    /// Who shares what is kept of its prompt, should it be read from the beginning again.
    salt: Salt,
}

impl Context {
    pub(crate) fn new(model: Model, cache: Cache, last: Vec<f32>, history: Rows, salt: Salt) -> Self {
        Self { model, cache, last, history: Some(history), salt }
    }

    pub(crate) fn imported(model: Model, cache: Cache, last: Vec<f32>) -> Self {
        Self { model, cache, last, history: None, salt: Salt::default() }
    }

    /// The model it belongs to.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Memory of the cache (bytes), shared blocks included.
    pub fn bytes(&self) -> usize {
        self.cache.bytes()
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn last(&self) -> &[f32] {
        &self.last
    }

    /// Reads more. A failed or cancelled call leaves the context as it was.
    pub fn extend(&mut self, prompt: &Prompt, raw: bool, cancel: &Cancel) -> Result<()> {
        let mut call = self.model.enter(1, cancel)?.together();
        let rows = self.model.more_rows(prompt, raw, cancel)?;
        self.model.check_room(self.cache.len(), rows.len(), 0)?;
        let mut history = self.history.clone();
        if let Some(history) = &mut history {
            history.append(&rows);
        }
        let mut sequence = [Sequence::after(self.cache.clone(), rows, self.last.clone())];
        self.model.finish(&mut call, &mut sequence, usize::MAX, &mut |_, _, _| Ok(()))?;
        let [sequence] = sequence;
        (self.cache, self.last, self.history) = (sequence.cache, sequence.last, history);
        Ok(())
    }

    /// Forgets positions from `len` on.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.cache.len() {
            return Err(Error::argument(
                "length",
                len,
                format!("it must be at most {}, the positions held", self.cache.len()),
            ));
        }
        if len < self.cache.len() {
            self.cache.truncate(len);
            self.last.clear();
            if let Some(history) = &mut self.history {
                history.truncate(len);
            }
        }
        Ok(())
    }

    /// A sequence that goes on from here, after `prompt` if one is given.
    fn sequence(&self, prompt: Option<&Prompt>, salt: &Salt, raw: bool, cancel: &Cancel) -> Result<Sequence> {
        let (cache, rows) = self.next(prompt, raw, cancel)?;
        Ok(self.begin(cache, rows, salt))
    }

    fn begin(&self, cache: Cache, rows: Rows, salt: &Salt) -> Sequence {
        if cache.is_empty() { self.model.begin(rows, salt) } else { Sequence::after(cache, rows, self.last.clone()) }
    }

    /// What is held and what comes next: the rows of `prompt`, if one is given.
    fn next(&self, prompt: Option<&Prompt>, raw: bool, cancel: &Cancel) -> Result<(Cache, Rows)> {
        let mut cache = self.cache.clone();
        let rows = match prompt {
            Some(prompt) => self.model.more_rows(prompt, raw, cancel)?,
            None if !self.last.is_empty() => Rows::default(),
            // Truncated: the last position is computed again, for its state.
            None => match &self.history {
                Some(history) if history.len() > 0 => {
                    cache.truncate(history.len() - 1);
                    history.last()
                }
                _ => {
                    return Err(Error::context(
                        "its last state is not known after the truncation; extend the context first",
                    ));
                }
            },
        };
        Ok((cache, rows))
    }

    /// Continues `options.n` times, leaving this context as it is.
    pub fn generate(
        &self,
        prompt: Option<&Prompt>,
        options: &GenerateOptions,
        raw: bool,
        each: &mut dyn FnMut(&Event),
    ) -> Result<Vec<Generation>> {
        options.check_for(&self.model, 1)?;
        let call = self.model.enter(options.n, &options.cancel)?;
        let (cache, rows) = match self.next(prompt, raw, &options.cancel) {
            // Nothing more will be read.
            Err(Error::Cancelled) if !options.cancel.is_interrupted() => (self.cache.clone(), Rows::default()),
            other => other?,
        };
        let first = self.begin(cache, rows, options.cache_salt.or(&self.salt));
        let sequences = twins::of(first, options.n, 0).collect();
        let past = match &self.history {
            Some(history) => history.clone(),
            None if options.penalties.looks_back() => {
                return Err(Error::context(
                    "repetition_penalty counts the tokens read so far, which an imported context does not know; leave it out",
                ));
            }
            None => Rows::default(),
        };
        self.model.answer(call, sequences, &past, options, each)
    }

    /// Scores a continuation, leaving this context as it is.
    pub fn score(&self, target: &[u32], alternatives: usize, cancel: &Cancel) -> Result<Score> {
        let call = self.model.enter(1, cancel)?;
        let pair = (self.sequence(None, &self.salt, false, cancel)?, target.to_vec());
        let mut all = self.model.score_after(call, vec![pair], alternatives)?;
        all.pop().ok_or_else(|| Error::Internal("no score came back".into()))
    }

    /// Latent steps from here; the thought brings its own context.
    pub fn think(&self, prompt: Option<&Prompt>, thinking: &Thinking, raw: bool, cancel: &Cancel) -> Result<Thought> {
        let call = self.model.enter(1, cancel)?;
        let thinking = Thinking { cache_salt: thinking.cache_salt.or(&self.salt).clone(), ..thinking.clone() };
        let sequence = self.sequence(prompt, &thinking.cache_salt, raw, cancel)?;
        let base = self.history.clone().map(|mut history| {
            history.truncate(sequence.cache.len());
            history
        });
        let mut all = self.model.think_after(call, vec![sequence], &thinking)?;
        let mut thought = all.pop().ok_or_else(|| Error::Internal("no thought came back".into()))?;
        // The thought knows what it read itself; what this context had read comes before.
        thought.context.history = base.zip(thought.context.history.take()).map(|(mut base, read)| {
            base.append(&read);
            base
        });
        Ok(thought)
    }
}
