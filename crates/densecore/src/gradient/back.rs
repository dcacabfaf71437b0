//! The way back: from the gradient by the states after the last layer to that by the first layer's input.

use super::tape::{CHUNK, Tape, prepare};
use crate::error::Result;
use crate::generate::Cancel;
use crate::model::attention::with_spans;
use crate::model::layer::Layer;
use crate::model::products::through;
use crate::model::rope::Angles;
use crate::model::workspace::{Workspace, no_room};
use densecore_kernels::{Attended, Floats, KvGradients, Panels, Pool, attend_batch_back};
use std::ops::Range;

/// Buffers of the way back.
#[derive(Default)]
struct Room {
    ws: Workspace,
    panels: Panels,
    /// Gradient by the perceptron's activation, of one chunk.
    d_act: Floats,
    /// What attention gave before its norm, and the gradient by what was normed, of one chunk; for models that norm what
    /// attention and perceptron give.
    attended: Floats,
    d_out: Floats,
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
        if config.blueprint().head_norms {
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
            let part = chunk.start * width..chunk.end * width;
            let d = &mut d[part.clone()];
            self.grow(&mut room.d_act, chunk.len() * decoder.config.mlp_width)?;
            self.grow(&mut room.d_out, chunk.len() * width)?;
            let qw = layer.attention.q.rows();
            let mixed = chunk.start * qw..chunk.end * qw;
            if layer.mlp_norm.is_none() {
                // Side by side: both have the gradient by the layer's result.
                output_back(room, layer, pool, mixed, d)?;
                perceptron_back(room, layer, pool, &self.inputs[l][part], d)?;
            } else {
                perceptron_back(room, layer, pool, &[], d)?;
                output_back(room, layer, pool, mixed, d)?;
            }
        }
        // Keys of one chunk have gradients from queries of all that follow: the whole batch at once.
        let stretches = self.stretches(&(0..self.rows));
        let from: Vec<usize> = self.lives.iter().map(|live| if kv { 0 } else { live.prefix }).collect();
        let x = Attended { queries: &room.q, out: &room.mixed, d_out: &room.d_mixed };
        let d_q = &mut room.d_q;
        let mut d_kv =
            with_spans(l, &stretches, |spans| attend_batch_back(pool, layer.attention.heads, x, spans, &from, d_q));
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
        let stretches = self.stretches(chunk);
        ws.x.copy_from_slice(&self.inputs[l][chunk.start * width..chunk.end * width]);
        ws.place(&decoder.ropes, stretches.iter().flat_map(|s| s.position..s.position + s.rows));
        layer.begin(pool, ws);
        layer.attention.project(pool, ws);
        let all = |width: usize| chunk.start * width..chunk.end * width;
        if config.blueprint().head_norms {
            room.raw_q[all(qw)].copy_from_slice(&ws.q[..chunk.len() * qw]);
            room.raw_k[all(kw)].copy_from_slice(&ws.k[..chunk.len() * kw]);
        }
        layer.attention.place(pool, ws);
        room.q[all(qw)].copy_from_slice(&ws.q[..chunk.len() * qw]);
        layer.attention.mix(pool, l, ws, &stretches);
        room.mixed[all(qw)].copy_from_slice(&ws.mixed[..chunk.len() * qw]);
        if layer.after_attention.is_some() {
            self.grow(&mut room.attended, chunk.len() * width)?;
            room.attended[..chunk.len() * width].copy_from_slice(&room.ws.out[..chunk.len() * width]);
        }
        let ws = &mut room.ws;
        layer.join_attention(pool, ws);
        match self.opened.get(&(l, chunk.start / CHUNK)) {
            Some(opened) => opened.read(ws, config.mlp_width),
            None => layer.mlp.open(pool, ws),
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
        ws.place(&decoder.ropes, stretches.iter().flat_map(|s| s.position..s.position + s.rows));
        ws.angles.iter_mut().for_each(Angles::reverse);
        let d_q = &mut room.d_q[chunk.start * qw..chunk.end * qw];
        let (d_k, d_v) = (&mut room.d_k[..rows * kw], &room.d_v[..rows * kw]);
        let raw = if attention.head_norms.is_some() {
            (&room.raw_q[chunk.start * qw..], &room.raw_k[chunk.start * kw..])
        } else {
            (&[][..], &[][..])
        };
        attention.place_back(pool, ws, raw, d_q, d_k);
        let d_normed = &mut ws.normed[..rows * width];
        let terms = [(&attention.q, &*d_q), (&attention.k, &*d_k), (&attention.v, d_v)];
        through(pool, &mut room.panels, rows, &terms, d_normed)?;
        let part = chunk.start * width..chunk.end * width;
        decoder.layers[l].attention_norm.rows_back(pool, &self.inputs[l][part.clone()], d_normed, &mut d[part]);
        Ok(())
    }
}

/// From the gradient by what attention adds to that by its mixed values, which goes to `room.d_mixed[mixed]`.
fn output_back(room: &mut Room, layer: &Layer, pool: &Pool, mixed: Range<usize>, d: &[f32]) -> Result<()> {
    let Room { ws, panels, attended, d_out, d_mixed, .. } = room;
    let d = match &layer.after_attention {
        None => d,
        Some(norm) => {
            let d_out = &mut d_out[..d.len()];
            d_out.fill(0.0);
            norm.rows_back(pool, attended, d, d_out);
            d_out
        }
    };
    through(pool, panels, ws.rows, &[(&layer.attention.o, d)], &mut d_mixed[mixed])
}

/// From the gradient by a layer's result to that by what the perceptron's norm read, in place: the layer's `input` where it
/// stands beside attention, else `ws.x`. Needs [`Tape::again`].
fn perceptron_back(room: &mut Room, layer: &Layer, pool: &Pool, input: &[f32], d: &mut [f32]) -> Result<()> {
    let Room { ws, panels, d_act, d_out, .. } = room;
    let by_out = match &layer.after_mlp {
        None => &*d,
        Some(norm) => {
            // Its result is made again; the projections that this consumes are kept meanwhile.
            let size = ws.rows * layer.mlp.up.rows();
            d_act[..size].copy_from_slice(&ws.gate[..size]);
            layer.mlp.close(pool, ws);
            ws.gate[..size].copy_from_slice(&d_act[..size]);
            let d_out = &mut d_out[..d.len()];
            d_out.fill(0.0);
            norm.rows_back(pool, &ws.out, d, d_out);
            d_out
        }
    };
    layer.mlp.back(pool, panels, ws, by_out, d_act)?;
    match &layer.mlp_norm {
        Some(norm) => norm.rows_back(pool, &ws.x, &ws.normed, d),
        None => layer.attention_norm.rows_back(pool, input, &ws.normed, d),
    }
    Ok(())
}
