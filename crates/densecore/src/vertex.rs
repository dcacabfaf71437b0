//! A loaded model: text and vectors in, text and vectors out. A vertex of a dense program.

use crate::arch::{Part, Role};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::generate::forms::Forms;
use crate::generate::grammar::Grammars;
use crate::generate::sequence::Sequence;
use crate::generate::{Cancel, Prompt, Salt, Thinking, Thought};
use crate::hardware;
use crate::hidden::{Hidden, Space};
use crate::limits::Limits;
use crate::model::ModelConfig;
use crate::model::budget::Budget;
use crate::model::cache::{Cache, Geometry};
use crate::model::decoder::Decoder;
use crate::model::prefix::Prefixes;
use crate::model::room::Room;
use crate::pool::call::Call;
use crate::pool::pass::Meeting;
use crate::text::{Templates, Tokenizer, files};
use crate::weights::Weights;
use densecore_kernels::Pool;
pub use densecore_kernels::attention::CacheFormat;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Compute threads; what the machine has by default.
    pub threads: Option<usize>,
    /// Longest sequence (positions); the model's own by default.
    pub context: Option<usize>,
    /// Storage of keys and values; by default as exact as the weights (f32 for f32 weights, else f16).
    pub cache: Option<CacheFormat>,
    /// Compute with float32 weights and, unless `cache` says otherwise, keys and values: the reference path. Quantised
    /// tensors are unpacked, which takes several times their memory.
    pub exact: bool,
    /// Refuse to load what needs more than this (bytes), however much the machine has.
    pub max_memory: Option<u64>,
    /// Memory for all caches together (bytes); by default three quarters of what is available after loading. Calls that
    /// find no room wait for it, see [`Limits::queue`].
    pub cache_budget: Option<u64>,
    /// Share of that memory for prefixes kept for reuse (bytes, 0 for none); by default a quarter of it,
    /// at most 1 GiB.
    pub prefix_bytes: Option<u64>,
    /// Caps.
    pub limits: Limits,
}

/// Kept prefixes take no more than this by default (bytes): enough for tens of thousands of positions of a small model.
const PREFIX_BYTES: u64 = 1 << 30;

struct Inner {
    decoder: Arc<Decoder>,
    tokenizer: Tokenizer,
    templates: Templates,
    ends: Vec<u32>,
    fingerprint: Arc<str>,
    file_bytes: u64,
    limits: Limits,
    process: u32,
    geometry: Arc<Geometry>,
    meeting: Meeting,
    forms: Arc<Forms>,
    keeps_prefixes: bool,
    exact: bool,
    closed: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Kept blocks know their geometry, which keeps them: the circle is cut here. Not in a forked child, where a lock
        // may have been held by a thread that no longer exists.
        if std::process::id() == self.process {
            self.geometry.prefixes.clear();
            self.geometry.room.budget().leave(self.geometry.room.counts());
        }
    }
}

/// A frozen model. Immutable; clones share the weights, and any number of threads may call one.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

impl Model {
    /// Loads a GGUF file or a Hugging Face folder.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self> {
        let _span = tracing::info_span!("load", path = %path.display()).entered();
        let limits = options.limits.clone();
        let weights = Arc::new(Weights::open(path, &limits)?);
        let config = weights.config(&limits)?;
        // Packed weights are little larger than the file; the eighth is for tables and working memory.
        let bytes = if options.exact { weights.numbers() * size_of::<f32>() as u64 } else { weights.file_bytes() };
        let needed = bytes + bytes / 8;
        let budget = Budget::process();
        let loading = budget.load(needed, options.max_memory)?;
        let context = options.context.unwrap_or(config.context);
        if context == 0 || context > config.context {
            return Err(Error::argument(
                "context",
                context,
                format!("it must be from 1 to {}, the positions this model was made for", config.context),
            ));
        }
        let threads = options
            .threads
            .unwrap_or_else(|| hardware::cores().unwrap_or_else(hardware::threads).min(hardware::threads()));
        if threads == 0 || threads > 1024 {
            return Err(Error::argument("threads", threads, "it must be from 1 to 1024"));
        }
        let format = match options.cache {
            Some(format) => format,
            None if options.exact => CacheFormat::F32,
            None if weights.role(&config, Role::new(Part::Q, 0))?.format == densecore_kernels::Format::F32 => {
                CacheFormat::F32
            }
            None => CacheFormat::F16,
        };
        let pool = Arc::new(Pool::new(threads));
        // The vocabulary's tables and the weights are made at the same time.
        let (decoder, text) = std::thread::scope(|scope| {
            let read = || -> Result<_> {
                let tokenizer = files::tokenizer(&weights, &limits)?;
                let templates = files::chat_templates(&weights, &tokenizer, &limits)?;
                Ok((tokenizer, templates))
            };
            let text = std::thread::Builder::new().spawn_scoped(scope, read);
            let text = text.map_err(|error| Error::thread("reading the tokenizer", &error))?;
            let decoder = Decoder::load(Arc::clone(&weights), config, pool, format, options.exact);
            Ok((decoder, text.join().map_err(|_| Error::Internal("reading the tokenizer panicked".into()))))
        })?;
        let (decoder, (tokenizer, templates)) = (decoder?, text??);
        let decoder = Arc::new(decoder);
        let known = Arc::downgrade(&decoder);
        let to_come = Box::new(move || known.upgrade().map_or(0, |decoder| decoder.bytes_to_come() as u64));
        let (kv_heads, head_dim, layers) = (decoder.config.kv_heads, decoder.config.head_dim, decoder.config.layers);
        let mut keeps_prefixes = false;
        let geometry = budget.join(loading, options.cache_budget, to_come, |bytes| {
            let mut geometry = Geometry {
                layers,
                kv_heads,
                head_dim,
                format,
                context,
                budget: bytes,
                room: Room::new(Arc::clone(budget), 0),
                prefixes: Prefixes::default(),
            };
            let blocks = |bytes: u64| usize::try_from(bytes / geometry.block() as u64).unwrap_or(usize::MAX);
            let kept = blocks(options.prefix_bytes.unwrap_or(PREFIX_BYTES.min(bytes / 4)));
            let room = Room::new(Arc::clone(budget), blocks(bytes));
            keeps_prefixes = kept > 0;
            (geometry.room, geometry.prefixes) = (room, Prefixes::new(kept));
            geometry
        })?;
        let ends = files::ends(&weights, &tokenizer, &decoder.config)?;
        let forms = {
            let (tokenizer, vocab, ends) = (tokenizer.clone(), decoder.config.vocab, ends.clone());
            Forms::new(limits.forms, Box::new(move || Grammars::new(&tokenizer, vocab, &ends)))
        };
        Ok(Self(Arc::new(Inner {
            tokenizer,
            templates,
            ends,
            fingerprint: weights.fingerprint().into(),
            file_bytes: weights.file_bytes(),
            limits,
            process: std::process::id(),
            geometry,
            meeting: Meeting::default(),
            forms,
            keeps_prefixes,
            exact: options.exact,
            closed: AtomicBool::new(false),
            decoder,
        })))
    }

    /// Shape and settings.
    pub fn config(&self) -> &ModelConfig {
        &self.0.decoder.config
    }

    /// Identity of the weights.
    pub fn fingerprint(&self) -> &Arc<str> {
        &self.0.fingerprint
    }

    /// Whether quantised weights are computed with as float32.
    pub fn is_exact(&self) -> bool {
        self.0.exact
    }

    /// Text to tokens and back.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The chat templates.
    pub fn templates(&self) -> &Templates {
        &self.0.templates
    }

    /// Tokens that end an answer.
    pub fn ends(&self) -> &[u32] {
        &self.0.ends
    }

    /// Longest sequence (positions).
    pub fn context(&self) -> usize {
        self.0.geometry.context
    }

    /// Storage of keys and values.
    pub fn cache_format(&self) -> CacheFormat {
        self.0.geometry.format
    }

    /// Bytes of (packed weights, weight files, caches in use, caches allowed).
    pub fn memory(&self) -> (u64, u64, u64, u64) {
        let g = &self.0.geometry;
        let used = g.room.used() * g.block();
        // A budget of its own is told as it was given; what models share, in the blocks that are left of it.
        let (limit, block) = (g.room.limit() as u64, g.block() as u64);
        let allowed = if limit >= g.budget / block { g.budget } else { limit * block };
        (self.0.decoder.bytes() as u64, self.0.file_bytes, used as u64, allowed)
    }

    /// Compute threads.
    pub fn threads(&self) -> usize {
        self.0.decoder.pool.threads()
    }

    /// Caps in force.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The text of ids. Embedding rows past the tokenizer's vocabulary are padding: they stand for no text.
    pub fn detokenize(&self, ids: &[u32], keep_special: bool) -> Result<String> {
        self.check_ids(ids)?;
        let spelled = self.tokenizer().vocab_size();
        let ids: Vec<u32> = ids.iter().copied().filter(|&id| (id as usize) < spelled).collect();
        self.tokenizer().decode(&ids, keep_special)
    }

    pub(crate) fn decoder(&self) -> &Decoder {
        &self.0.decoder
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::new(Arc::clone(&self.0.geometry))
    }

    pub(crate) fn geometry(&self) -> &Arc<Geometry> {
        &self.0.geometry
    }

    pub(crate) fn hidden(&self, data: Vec<f32>, space: Space) -> Hidden {
        Hidden::new(data, self.config().width, space, Arc::clone(&self.0.fingerprint))
    }

    pub(crate) fn meeting(&self) -> &Meeting {
        &self.0.meeting
    }

    pub(crate) fn forms(&self) -> &Arc<Forms> {
        &self.0.forms
    }

    pub(crate) fn keeps_prefixes(&self) -> bool {
        self.0.keeps_prefixes
    }

    /// Ends the model's use: calls that run come to their end, later ones are refused, its contexts' too. Kept prefixes go
    /// now, the weights with the last clone, context and stream.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        if std::process::id() == self.0.process {
            self.0.geometry.prefixes.clear();
        }
    }

    /// Every call's first step: the right process, a bounded batch.
    pub(crate) fn check_call(&self, batch: usize) -> Result<()> {
        let child = std::process::id();
        if child != self.0.process {
            return Err(Error::Fork { parent: self.0.process, child });
        }
        if self.0.closed.load(Ordering::SeqCst) {
            return Err(Error::State("the model was closed; load it again".into()));
        }
        if batch > self.0.limits.batch {
            return Err(Error::Limit {
                what: "the number of prompts in one call".into(),
                value: batch as u64,
                cap: self.0.limits.batch as u64,
                remedy: "split the list".into(),
            });
        }
        Ok(())
    }

    /// The first step of every call that runs layers.
    pub(crate) fn enter(&self, batch: usize, cancel: &Cancel) -> Result<Call<'_>> {
        self.check_call(batch)?;
        Ok(Call::new(self, cancel))
    }

    /// Runs a prompt and keeps its context; calls of the same `salt` share what is kept of the prompt.
    pub fn prefill(&self, prompts: &[Prompt], salt: &Salt, raw: bool, cancel: &Cancel) -> Result<Vec<Context>> {
        salt.check(self.limits())?;
        let mut call = self.enter(prompts.len(), cancel)?.together();
        let mut contexts = Vec::new();
        let rows = self.all_rows(prompts, raw, cancel)?;
        rows.iter().try_for_each(|r| self.check_room(0, r.len(), 0))?;
        let mut sequences: Vec<Sequence> = rows.into_iter().map(|r| self.begin(r, salt)).collect();
        self.finish(&mut call, &mut sequences, usize::MAX, &mut |_, _, _| Ok(()))?;
        for s in sequences {
            s.remember();
            contexts.push(Context::new(self.clone(), s.cache, s.last, s.rows, salt.clone()));
        }
        Ok(contexts)
    }

    /// Latent steps after each prompt.
    pub fn think(&self, prompts: &[Prompt], thinking: &Thinking, raw: bool, cancel: &Cancel) -> Result<Vec<Thought>> {
        let call = self.enter(prompts.len(), cancel)?;
        let rows = self.all_rows(prompts, raw, cancel)?;
        self.think_after(call, rows.into_iter().map(|r| self.begin(r, &thinking.cache_salt)).collect(), thinking)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({}, {})", self.config().name, self.fingerprint())
    }
}
