//! Vectors to hidden states, and gradients by the states back to gradients by the vectors.

use super::GradOptions;
use super::loss::Prefix;
use super::tape::{Begun, Keep, Tape};
use crate::error::{Error, Result};
use crate::generate::rows::require_copies;
use crate::generate::{Cancel, Tap};
use crate::hidden::{Hidden, Space};
use crate::vertex::Model;
use densecore_kernels::KvGradients;

/// A forward pass that can be gone back, any number of times.
pub struct Recording {
    tape: Tape,
    normed: bool,
    kv: bool,
}

/// Gradients of one sequence.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// By the vectors, `(T, d)`.
    pub grad: Vec<f32>,
    /// By keys and values of the prefix, a layer each, if they were wanted.
    pub kv: Vec<KvGradients>,
}

impl Model {
    /// Takes vectors, each sequence behind its prefix, to the states of a layer.
    pub fn record(
        &self,
        items: &[(Prefix, Hidden)],
        tap: Tap,
        options: GradOptions,
        cancel: &Cancel,
    ) -> Result<Recording> {
        let _span = tracing::info_span!("record", sequences = items.len()).entered();
        let call = self.enter(items.len(), cancel)?.together();
        let (layer, normed) = tap.resolve(self)?;
        require_copies(items.iter().map(|(_, vectors)| vectors))?;
        let begun = items
            .iter()
            .map(|(prefix, vectors)| {
                let live = self.live_rows(vectors, options.raw)?;
                Ok(Begun { sequence: self.after_prefix(prefix, options.raw, cancel)?, live })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut tape = Tape::record(self, call, begun, layer, Keep::UpTo(options.memory))?;
        // A recording is a thing in hand, as a context is: nobody can wait for it to end.
        tape.callers.clear();
        Ok(Recording { tape, normed, kv: options.kv })
    }
}

impl Recording {
    /// The states of each sequence's vectors.
    pub fn states(&self) -> Result<Vec<Hidden>> {
        self.tape.model.check_call(self.tape.lives.len())?;
        let (model, width) = (&self.tape.model, self.tape.model.config().width);
        let space = Space::Layer { layer: self.tape.inputs.len(), normed: self.normed };
        let finals;
        let states = if self.normed {
            finals = model.decoder().head.finish(&model.decoder().pool, &self.tape.out);
            &finals
        } else {
            &self.tape.out
        };
        let part = |row: usize, rows: usize| states[row * width..(row + rows) * width].to_vec();
        Ok(self.tape.lives.iter().map(|live| model.hidden(part(live.row, live.rows), space)).collect())
    }

    /// From gradients by the states, in the shape of [`Recording::states`], to those by the vectors.
    pub fn pull(&self, gradients: &[Hidden], cancel: &Cancel) -> Result<Vec<Pulled>> {
        let (tape, model) = (&self.tape, &self.tape.model);
        model.check_call(gradients.len())?;
        let width = model.config().width;
        if gradients.len() != tape.lives.len() {
            let remedy = format!("give one for each of the {} sequences", tape.lives.len());
            return Err(Error::argument("gradients", format!("{} of them", gradients.len()), remedy));
        }
        let mut by_states = vec![0.0; tape.rows * width];
        for (gradient, live) in gradients.iter().zip(&tape.lives) {
            let data = gradient.read(width, model.fingerprint(), &[], true)?;
            if gradient.rows() != live.rows {
                let remedy = format!("it must have one for each of the {} states", live.rows);
                return Err(Error::argument("gradient", format!("{} rows", gradient.rows()), remedy));
            }
            by_states[live.row * width..(live.row + live.rows) * width].copy_from_slice(&data);
        }
        let mut d = by_states;
        if self.normed {
            let by_finals = d;
            d = vec![0.0; by_finals.len()];
            let decoder = model.decoder();
            decoder.head.norm.rows_back(&decoder.pool, &tape.out, &by_finals, &mut d);
        }
        let mut prefixes = tape.back(&mut d, self.kv, cancel)?;
        Ok(tape
            .lives
            .iter()
            .zip(&mut prefixes)
            .map(|(live, kv)| Pulled {
                grad: d[live.row * width..(live.row + live.rows) * width].to_vec(),
                kv: std::mem::take(kv),
            })
            .collect())
    }
}
