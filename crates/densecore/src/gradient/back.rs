//! The way back: from the gradient by the states after the last layer to that by the first layer's input.

use super::tape::{CHUNK, Tape, prepare};
use crate::error::{Error, Result};
use crate::generate::Cancel;
use crate::model::attention::with_spans;
use crate::model::layer::Layer;
use crate::model::norm::RmsNorm;
use crate::model::workspace::{Workspace, no_room};
use densecore_kernels::{
    Attended, Floats, KvGradients, Matrix, Output, Panels, Pool, attend_batch_back, gradient, transposed_products,
};
use std::ops::Range;

/// Buffers of the way back.
#[derive(Default)]
struct Room {
    ws: Workspace,
    panels: Panels,
    /// Gradient by the perceptron's activation, of one chunk.
    d_act: Floats,
    /// All rows: rotated queries, what attention made of them, and its gradient.
    q: Floats,
    mixed: Floats,
    d_mixed: Floats,
    d_q: Floats,
    /// Gradients by keys and values of one chunk.
    d_k: Floats,
    d_v: Floats,
    /// All rows: queries and keys before their norms, of models that have these.
    raw_q: Floats,
    raw_k: Floats,
}

impl Tape {
    /// `d`, `(N, d)`, is the gradient by [`Tape::out`] and becomes that by the first layer's input. With `kv`, returns
    /// the gradients by keys and values of the prefixes, by sequence and layer.
    pub fn back(&self, d: &mut [f32], kv: bool, cancel: &Cancel) -> Result<Vec<Vec<KvGradients>>> {
        let config = self.model.config();
        let mut room = Room::default();
        let (qw, kw, rows) = (config.q_width(), config.kv_width(), self.rows);
        for buffer in [&mut room.q, &mut room.mixed, &mut room.d_mixed, &mut room.d_q] {
            self.grow(buffer, rows * qw)?;
        }
        if config.qk_norm {
            self.grow(&mut room.raw_q, rows * qw)?;
            self.grow(&mut room.raw_k, rows * kw)?;
        }
        let mut prefixes = vec![Vec::new(); self.lives.len()];
        for l in (0..self.inputs.len()).rev() {
            for (s, gradients) in self.layer_back(&mut room, l, d, kv, cancel)?.into_iter().enumerate() {
                prefixes[s].push(gradients);
            }
        }
        for layers in &mut prefixes {
            layers.reverse();
        }
        Ok(prefixes)
    }

    fn layer_back(
        &self,
        room: &mut Room,
        l: usize,
        d: &mut [f32],
        kv: bool,
        cancel: &Cancel,
    ) -> Result<Vec<KvGradients>> {
        let decoder = self.model.decoder();
        let (layer, pool) = (&decoder.layers[l], &*decoder.pool);
        let width = decoder.config.width;
        for chunk in self.chunks() {
            cancel.check()?;
            self.again(room, l, &chunk)?;
            let d = &mut d[chunk.start * width..chunk.end * width];
            self.grow(&mut room.d_act, chunk.len() * decoder.config.mlp_width)?;
            perceptron_back(room, layer, pool, d)?;
            let qw = layer.attention.q.rows();
            let d_mixed = &mut room.d_mixed[chunk.start * qw..chunk.end * qw];
            through(pool, &mut room.panels, chunk.len(), &[(&layer.attention.o, d)], d_mixed)?;
        }
        // Keys of one chunk have gradients from queries of all that follow: the whole batch at once.
        let stretches = self.stretches(&(0..self.rows));
        let from: Vec<usize> = self.lives.iter().map(|live| if kv { 0 } else { live.prefix }).collect();
        let x = Attended { queries: &room.q, out: &room.mixed, d_out: &room.d_mixed };
        let d_q = &mut room.d_q;
        let mut d_kv =
            with_spans(l, &stretches, |spans| attend_batch_back(pool, decoder.heads(), x, spans, &from, d_q));
        for chunk in self.chunks() {
            cancel.check()?;
            self.projections_back(room, l, &chunk, &d_kv, &from, d)?;
        }
        if !kv {
            return Ok(Vec::new());
        }
        for (live, both) in self.lives.iter().zip(&mut d_kv) {
            let len = live.prefix * layer.attention.k.rows();
            for part in [&mut both.keys, &mut both.values] {
                part.truncate(len);
                part.shrink_to_fit();
            }
        }
        Ok(d_kv)
    }

    fn grow(&self, buffer: &mut Floats, len: usize) -> Result<()> {
        buffer.grow(len).map_err(|error| no_room(self.model.config(), self.rows, &error))
    }

    /// Computes again, for a chunk of rows, what the way back needs: queries and what attention made of them to the
    /// buffers of all rows; states after attention to `ws.x`; the perceptron's projections to `ws.gate` and `ws.up`.
    fn again(&self, room: &mut Room, l: usize, chunk: &Range<usize>) -> Result<()> {
        let decoder = self.model.decoder();
        let (layer, pool, config) = (&decoder.layers[l], &*decoder.pool, &decoder.config);
        let (width, qw, kw) = (config.width, config.q_width(), config.kv_width());
        let ws = &mut room.ws;
        prepare(ws, &self.model, chunk.len())?;
        let (size, stretches) = (chunk.len() * width, self.stretches(chunk));
        ws.x.copy_from_slice(&self.inputs[l][chunk.start * width..chunk.end * width]);
        ws.place(&decoder.rope, stretches.iter().flat_map(|s| s.position..s.position + s.rows));
        layer.attention_norm.rows(pool, &ws.x, &mut ws.normed[..size]);
        layer.attention.project(pool, ws);
        let all = |width: usize| chunk.start * width..chunk.end * width;
        if config.qk_norm {
            room.raw_q[all(qw)].copy_from_slice(&ws.q[..chunk.len() * qw]);
            room.raw_k[all(kw)].copy_from_slice(&ws.k[..chunk.len() * kw]);
        }
        layer.attention.place(pool, &decoder.rope, ws);
        room.q[all(qw)].copy_from_slice(&ws.q[..chunk.len() * qw]);
        layer.attention.mix(pool, decoder.heads(), l, ws, &stretches);
        room.mixed[all(qw)].copy_from_slice(&ws.mixed[..chunk.len() * qw]);
        ws.add_out(pool);
        if let Some(opened) = self.opened.get(&(l, chunk.start / CHUNK)) {
            opened.read(ws, config.mlp_width);
        } else {
            layer.mlp_norm.rows(pool, &ws.x, &mut ws.normed[..size]);
            layer.mlp.open(pool, ws);
        }
        Ok(())
    }

    /// From the gradients by rotated queries, keys and values of a chunk to that by the layer's input.
    fn projections_back(
        &self,
        room: &mut Room,
        l: usize,
        chunk: &Range<usize>,
        d_kv: &[KvGradients],
        from: &[usize],
        d: &mut [f32],
    ) -> Result<()> {
        let decoder = self.model.decoder();
        let (attention, pool, config) = (&decoder.layers[l].attention, &*decoder.pool, &decoder.config);
        let (width, qw, kw) = (config.width, config.q_width(), config.kv_width());
        let rows = chunk.len();
        self.grow(&mut room.d_k, rows * kw)?;
        self.grow(&mut room.d_v, rows * kw)?;
        let mut row = 0;
        for ((live, both), &from) in self.lives.iter().zip(d_kv).zip(from) {
            let first = live.row.max(chunk.start);
            let count = (live.row + live.rows).min(chunk.end).saturating_sub(first);
            if count == 0 {
                continue;
            }
            let at = (live.prefix + first - live.row - from) * kw;
            for (to, from) in [(&mut room.d_k, &both.keys), (&mut room.d_v, &both.values)] {
                to[row * kw..(row + count) * kw].copy_from_slice(&from[at..at + count * kw]);
            }
            row += count;
        }
        let ws = &mut room.ws;
        prepare(ws, &self.model, rows)?;
        let stretches = self.stretches(chunk);
        ws.place(&decoder.rope, stretches.iter().flat_map(|s| s.position..s.position + s.rows));
        ws.angles.reverse();
        let d_q = &mut room.d_q[chunk.start * qw..chunk.end * qw];
        let (d_k, d_v) = (&mut room.d_k[..rows * kw], &room.d_v[..rows * kw]);
        decoder.rope.rotate(pool, &ws.angles, d_q, qw);
        decoder.rope.rotate(pool, &ws.angles, d_k, kw);
        if let Some((q_norm, k_norm)) = &attention.head_norms {
            heads_back(pool, q_norm, &room.raw_q[chunk.start * qw..], d_q, qw);
            heads_back(pool, k_norm, &room.raw_k[chunk.start * kw..], d_k, kw);
        }
        let d_normed = &mut ws.normed[..rows * width];
        let terms = [(&attention.q, &*d_q), (&attention.k, &*d_k), (&attention.v, d_v)];
        through(pool, &mut room.panels, rows, &terms, d_normed)?;
        let part = chunk.start * width..chunk.end * width;
        norm_back(pool, &decoder.layers[l].attention_norm, &self.inputs[l][part.clone()], d_normed, &mut d[part]);
        Ok(())
    }
}

/// From the gradient by a layer's result to that by the states after its attention, in place; needs [`Tape::again`].
fn perceptron_back(room: &mut Room, layer: &Layer, pool: &Pool, d: &mut [f32]) -> Result<()> {
    let Room { ws, panels, d_act, .. } = room;
    let (n, m) = (ws.rows, layer.mlp.gate.rows());
    let d_act = &mut d_act[..n * m];
    through(pool, panels, n, &[(&layer.mlp.down, d)], d_act)?;
    let (gate, up) = (&mut ws.gate[..n * m], &mut ws.up[..n * m]);
    let parts: Vec<_> =
        gate.chunks_mut(m).zip(up.chunks_mut(m)).zip(d_act.chunks(m)).map(std::sync::Mutex::new).collect();
    pool.run(parts.len(), &|i| {
        if let Ok(mut part) = parts[i].lock() {
            let ((gate, up), d) = &mut *part;
            gradient::silu_mul(gate, up, d);
        }
    });
    drop(parts);
    let d_normed = &mut ws.normed[..d.len()];
    through(pool, panels, n, &[(&layer.mlp.gate, gate), (&layer.mlp.up, up)], d_normed)?;
    norm_back(pool, &layer.mlp_norm, &ws.x, d_normed, d);
    Ok(())
}

/// `out = Σ dy W`.
pub(super) fn through(
    pool: &Pool,
    panels: &mut Panels,
    n: usize,
    terms: &[(&Matrix, &[f32])],
    out: &mut [f32],
) -> Result<()> {
    let width = out.len() / n.max(1);
    transposed_products(pool, panels, n, terms, &mut Output::new(out, width)).map_err(|error| Error::Memory {
        what: format!("packed weights ({error})"),
        needed: terms.iter().map(|(matrix, _)| matrix.bytes() as u64).sum::<u64>().div_ceil(1 << 20),
        available: crate::hardware::memory().available >> 20,
        remedy: "free memory".into(),
    })
}

/// Adds to `dx` the gradient of a norm at `x`, all `(N, d)`.
pub(super) fn norm_back(pool: &Pool, norm: &RmsNorm, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let width = norm.weight.len();
    pool.rows(dx, width, 16, &|first, dx| {
        for (i, dx) in dx.chunks_exact_mut(width).enumerate() {
            let at = (first + i) * width..(first + i + 1) * width;
            gradient::rms_norm(&x[at.clone()], &norm.weight, norm.eps, &dy[at], dx);
        }
    });
}

/// The gradient by heads before their norm, in place.
fn heads_back(pool: &Pool, norm: &RmsNorm, raw: &[f32], d: &mut [f32], width: usize) {
    pool.rows(d, width, 16, &|first, d| {
        gradient::rms_norm_heads(&raw[first * width..][..d.len()], &norm.weight, norm.eps, d);
    });
}
