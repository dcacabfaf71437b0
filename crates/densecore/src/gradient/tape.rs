//! The way there: a forward pass that keeps what the way back needs.

use crate::error::Result;
use crate::generate::Cancel;
use crate::generate::rows::Rows;
use crate::generate::sequence::Sequence;
use crate::hardware;
use crate::model::attention::Stretch;
use crate::model::cache::Cache;
use crate::model::layer::Moment;
use crate::model::workspace::{Work, Workspace, no_room};
use crate::pool::call::Call;
use crate::vertex::Model;
use half::bf16;
use half::slice::HalfFloatSliceExt;
use std::collections::HashMap;
use std::ops::Range;

/// Rows taken through a layer at a time: enough for the products, few enough for the widest activations.
pub(super) const CHUNK: usize = 512;
/// Default of [`super::GradOptions::memory`].
const MEMORY: u64 = 512 << 20;

/// Numbers kept between the passes: bf16 where the way there was rounded more than that anyway.
enum Kept {
    Single(Vec<f32>),
    Brain(Vec<bf16>),
}

impl Kept {
    fn new(x: &[f32], exact: bool) -> Self {
        if exact {
            return Self::Single(x.to_vec());
        }
        let mut brain = vec![bf16::ZERO; x.len()];
        brain.convert_from_f32_slice(x);
        Self::Brain(brain)
    }

    /// Back to floats.
    pub fn read(&self, out: &mut [f32]) {
        match self {
            Self::Single(x) => out.copy_from_slice(x),
            Self::Brain(x) => x.convert_to_f32_slice(out),
        }
    }
}

/// The two projections of a perceptron, for one chunk of rows of one layer.
pub(super) struct Opened {
    gate: Kept,
    up: Kept,
}

impl Opened {
    /// To `ws.gate` and `ws.up`.
    pub fn read(&self, ws: &mut Workspace, width: usize) {
        let size = ws.rows * width;
        self.gate.read(&mut ws.gate[..size]);
        self.up.read(&mut ws.up[..size]);
    }
}

/// Live rows of one sequence: those behind its constant prefix.
#[derive(Debug)]
pub(super) struct Live {
    /// Keys and values of prefix and live rows.
    pub cache: Cache,
    /// First row in the batch.
    pub row: usize,
    /// Rows.
    pub rows: usize,
    /// Positions before them.
    pub prefix: usize,
    /// Of those, positions that were computed for this tape, and found among kept prefixes.
    pub computed: usize,
    pub found: usize,
    /// Time its sequence waited for room (seconds).
    pub waited: f64,
}

/// A batch of sequences that went through some layers, and what is needed to go back.
pub(super) struct Tape {
    pub model: Model,
    pub lives: Vec<Live>,
    /// Rows of all sequences.
    pub rows: usize,
    /// Input of every layer, `(N, d)` each.
    pub inputs: Vec<Vec<f32>>,
    /// By layer and chunk.
    pub opened: HashMap<(usize, usize), Opened>,
    /// Residual states after the last layer of the pass, `(N, d)`.
    pub out: Vec<f32>,
    /// Whose room the blocks of `lives` are, while the call goes on: who waits for room waits for them. Declared after
    /// the blocks, which go first.
    pub callers: Vec<Sequence>,
}

/// What a tape keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// No way back is wanted.
    Nothing,
    /// The layers' inputs, and so many bytes of activations, see [`super::GradOptions::memory`].
    UpTo(Option<u64>),
}

impl Keep {
    /// Floats that a row takes until the way back is done.
    fn components(self, model: &Model, layers: usize) -> usize {
        let config = model.config();
        let both_ways = 2 * config.width;
        let Self::UpTo(memory) = self else { return both_ways };
        // Rotated queries, what attention made of them, the gradients of both; with head norms, what they normed.
        let attention = 5 * config.q_width() + 2 * config.kv_width();
        let kept = if memory.is_some_and(|m| m > MEMORY) { 2 * layers * config.mlp_width } else { 0 };
        layers * config.width + both_ways + attention + kept
    }
}

/// What one sequence brings: its prefix, which will be read without gradients, and its live rows.
pub(super) struct Begun {
    pub sequence: Sequence,
    pub live: Rows,
}

impl Tape {
    /// Reads the prefixes, then takes the live rows through the first `layers` layers.
    pub fn record(model: &Model, mut call: Call<'_>, begun: Vec<Begun>, layers: usize, keep: Keep) -> Result<Self> {
        let (width, cancel) = (model.config().width, call.cancel().clone());
        let (mut sequences, mut lives) = (Vec::with_capacity(begun.len()), Vec::with_capacity(begun.len()));
        for Begun { mut sequence, live } in begun {
            model.expect(&mut sequence, live.len())?;
            sequences.push(sequence);
            lives.push(live);
        }
        let rows: usize = lives.iter().map(Rows::len).sum();
        let needed = (rows * size_of::<f32>() * keep.components(model, layers)) as u64;
        let remedy = "give fewer or shorter sequences at once";
        hardware::require("the layers' inputs, kept for the gradient,", needed, remedy)?;
        model.finish(&mut call, &mut sequences, usize::MAX, &mut |_, _, _| Ok(()))?;
        // Nobody needs to wait for this call to bring rows to a common step.
        drop(call);
        let mut x = vec![0.0; rows * width];
        let (mut row, mut all) = (0, Vec::with_capacity(lives.len()));
        for (s, live) in sequences.iter_mut().zip(&lives) {
            s.reserve(live.len())?;
            live.fill(&model.decoder().embedding, width, 0, &mut x[row * width..(row + live.len()) * width])?;
            let cache = std::mem::replace(&mut s.cache, model.cache());
            let (computed, found, waited) = (s.computed, s.found, s.waited());
            all.push(Live { prefix: cache.len(), cache, row, rows: live.len(), computed, found, waited });
            row += live.len();
        }
        let kept = if keep == Keep::Nothing { 0 } else { rows * width };
        let inputs = (0..layers).map(|_| Vec::with_capacity(kept)).collect();
        let opened = HashMap::new();
        let mut tape = Self { model: model.clone(), lives: all, rows, inputs, opened, out: x, callers: sequences };
        tape.forward(layers, keep, &cancel)?;
        Ok(tape)
    }

    /// Chunks of rows, in order.
    pub fn chunks(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let rows = self.rows;
        (0..rows.div_ceil(CHUNK)).map(move |c| c * CHUNK..rows.min((c + 1) * CHUNK))
    }

    /// The sequences' parts of a chunk of rows.
    pub fn stretches(&self, chunk: &Range<usize>) -> Vec<Stretch<'_>> {
        let part = |live: &'_ Live| {
            let first = live.row.max(chunk.start);
            let rows = (live.row + live.rows).min(chunk.end).saturating_sub(first);
            (first, rows)
        };
        self.lives
            .iter()
            .filter(|live| part(live).1 > 0)
            .map(|live| {
                let (first, rows) = part(live);
                Stretch { cache: &live.cache, position: live.prefix + first - live.row, rows }
            })
            .collect()
    }

    fn forward(&mut self, layers: usize, keep: Keep, cancel: &Cancel) -> Result<()> {
        let model = self.model.clone();
        let (decoder, width) = (model.decoder(), model.config().width);
        // Inputs of quantised matrices are rounded more than bf16 rounds.
        let exact = !decoder.layers.first().is_some_and(|layer| layer.mlp.down.matrix.is_quant());
        let each = model.config().mlp_width * 2 * if exact { 4 } else { 2 };
        // Chunks kept: any will do, for all take the same time to compute again.
        let mut left = match keep {
            Keep::Nothing => 0,
            Keep::UpTo(memory) => {
                let memory = memory.unwrap_or_else(|| MEMORY.min(hardware::memory().available / 8));
                usize::try_from(memory).unwrap_or(usize::MAX)
            }
        };
        let mut ws = Workspace::default();
        for chunk in self.chunks() {
            prepare(&mut ws, &model, chunk.len())?;
            ws.x.copy_from_slice(&self.out[chunk.start * width..chunk.end * width]);
            let (inputs, opened) = (&mut self.inputs, &mut self.opened);
            let mut watch = |layer: usize, moment: Moment, ws: &Workspace| match moment {
                _ if keep == Keep::Nothing => {}
                Moment::Entered => inputs[layer].extend_from_slice(&ws.x),
                Moment::Opened if left >= each * ws.rows => {
                    left -= each * ws.rows;
                    let size = ws.rows * model.config().mlp_width;
                    let (gate, up) = (Kept::new(&ws.gate[..size], exact), Kept::new(&ws.up[..size], exact));
                    opened.insert((layer, chunk.start / CHUNK), Opened { gate, up });
                }
                Moment::Opened => {}
            };
            let mut works: Vec<Work<'_>> = self
                .lives
                .iter_mut()
                .filter_map(|live| {
                    let rows = (live.row + live.rows).min(chunk.end).saturating_sub(live.row.max(chunk.start));
                    (rows > 0).then_some(Work { cache: &mut live.cache, rows })
                })
                .collect();
            decoder.forward(&mut ws, &mut works, layers, cancel, &mut watch)?;
            self.out[chunk.start * width..chunk.end * width].copy_from_slice(&ws.x);
        }
        Ok(())
    }
}

/// Room for some rows in a workspace, all of which are computed precisely: the loss of a short answer moves by a percent
/// when inputs have 8 bits.
pub(super) fn prepare(ws: &mut Workspace, model: &Model, rows: usize) -> Result<()> {
    ws.careful = true;
    ws.resize(model.config(), rows).map_err(|error| no_room(model.config(), rows, &error))
}
