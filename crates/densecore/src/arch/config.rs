//! The numbers of one model, all bounded and consistent.

use super::Arch;
use super::blueprint::{Blueprint, Norm, Pairs, Residual};
use super::role::{Part, Role};
use super::rotary::{Rotary, Scaling};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// The numbers of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Architecture.
    pub arch: Arch,
    /// Rows of the embedding (tokens).
    pub vocab: usize,
    /// Width of a hidden state, `d` (components).
    pub width: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head, even; not always `width / heads`.
    pub head_dim: usize,
    /// Width inside the MLP (components).
    pub mlp_width: usize,
    /// Added to the mean square, or the variance, in every norm.
    pub norm_eps: f32,
    /// Rotation of query and key heads.
    pub rotary: Rotary,
    /// Which components rotate together.
    pub pairs: Pairs,
    /// What scores of attention are multiplied by.
    pub attention_scale: f32,
    /// Layers that see a part of the sequence, if there are some.
    pub local: Option<Local>,
    /// Longest sequence the model was made for (positions).
    pub context: usize,
    /// The head is the embedding matrix.
    pub tied: bool,
    /// Ids that end a generation, as the model's own files name them.
    pub eos: Vec<u32>,
    /// Id that begins a text, if the files name one.
    pub bos: Option<u32>,
    /// The model's own name, or its folder's.
    pub name: String,
}

/// Layers with a sliding window.
#[derive(Debug, Clone, PartialEq)]
pub struct Local {
    /// Positions that a row sees, its own the last of them.
    pub window: usize,
    /// By layer, whether it has the window.
    pub layers: Vec<bool>,
    /// Rotation in these layers.
    pub rotary: Rotary,
}

/// What a file format calls each number, for messages.
pub(crate) struct Fields {
    pub vocab: &'static str,
    pub width: &'static str,
    pub layers: &'static str,
    pub heads: &'static str,
    pub kv_heads: &'static str,
    pub head_dim: &'static str,
    pub mlp_width: &'static str,
    pub norm_eps: &'static str,
    pub rope_theta: &'static str,
    pub context: &'static str,
}

impl ModelConfig {
    /// Width of all query heads together (components).
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together (components).
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// How its family computes.
    pub fn blueprint(&self) -> &'static Blueprint {
        &self.arch.family().blueprint
    }

    /// The window of a layer; the whole sequence without one.
    pub fn window(&self, layer: usize) -> usize {
        match &self.local {
            Some(local) if local.layers.get(layer) == Some(&true) => local.window,
            _ => usize::MAX,
        }
    }

    /// Rows of a part's weight that its file may join with others.
    pub(crate) fn rows(&self, part: Part) -> usize {
        match part {
            Part::Q => self.q_width(),
            Part::K | Part::V => self.kv_width(),
            Part::Gate | Part::Up => self.mlp_width,
            Part::Embedding | Part::Head => self.vocab,
            _ => self.width,
        }
    }

    /// Checks the numbers alone: bounded by `limits`, and consistent. `bad` makes the error of the file at hand, which
    /// calls its fields `fields`.
    pub(crate) fn validate(&self, limits: &Limits, fields: &Fields, bad: impl Fn(String) -> Error) -> Result<()> {
        let counts = [
            ("vocabulary", fields.vocab, self.vocab, limits.vocab),
            ("hidden width", fields.width, self.width, limits.width),
            ("number of layers", fields.layers, self.layers, limits.layers),
            ("number of heads", fields.heads, self.heads, limits.heads),
            ("number of key-value heads", fields.kv_heads, self.kv_heads, limits.heads),
            ("head width", fields.head_dim, self.head_dim, limits.width),
            ("MLP width", fields.mlp_width, self.mlp_width, limits.width),
            ("context", fields.context, self.context, limits.context),
        ];
        for (what, field, value, cap) in counts {
            if value == 0 {
                return Err(bad(format!("the {what} is 0 ({field}); it must be at least 1")));
            }
            if value > cap {
                return Err(Error::Limit {
                    what: format!("the {what} ({field})"),
                    value: value as u64,
                    cap: cap as u64,
                    remedy: "no model that this engine runs comes near it: check the file, or load another model"
                        .into(),
                });
            }
        }
        // Heads and head width are bounded above, so the product cannot overflow.
        if self.q_width() > limits.width {
            return Err(Error::Limit {
                what: "the attention width (heads times head width)".into(),
                value: self.q_width() as u64,
                cap: limits.width as u64,
                remedy: "no model that this engine runs comes near it: check the file, or load another model".into(),
            });
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(bad(format!(
                "{} query heads cannot share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(bad(format!("the head width {} is odd; rotary pairs need an even one", self.head_dim)));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps <= 0.1) {
            return Err(bad(format!(
                "the norm epsilon is {} ({}); it must be above 0 and at most 0.1",
                self.norm_eps, fields.norm_eps
            )));
        }
        for rotary in [&self.rotary].into_iter().chain(self.local.as_ref().map(|local| &local.rotary)) {
            self.check_rotary(rotary, fields, &bad)?;
        }
        if !(self.attention_scale > 0.0 && self.attention_scale <= 16.0) {
            return Err(bad(format!(
                "attention is scaled by {}; it must be above 0 and at most 16",
                self.attention_scale
            )));
        }
        if let Some(local) = &self.local
            && (local.window == 0 || local.layers.len() != self.layers)
        {
            return Err(bad(format!("a window of {} over {} layers", local.window, local.layers.len())));
        }
        if let Some(&id) = self.eos.iter().chain(&self.bos).find(|&&id| id as usize >= self.vocab) {
            return Err(bad(format!("a special token has id {id} but the vocabulary holds {} tokens", self.vocab)));
        }
        Ok(())
    }

    fn check_rotary(&self, rotary: &Rotary, fields: &Fields, bad: &impl Fn(String) -> Error) -> Result<()> {
        if !(rotary.base >= 1.0 && rotary.base <= 1e12) {
            return Err(bad(format!(
                "the rotary base is {} ({}); it must be from 1 to 1e12",
                rotary.base, fields.rope_theta
            )));
        }
        if rotary.dims == 0 || rotary.dims > self.head_dim || !rotary.dims.is_multiple_of(2) {
            return Err(bad(format!(
                "{} of the {} components of a head rotate; it must be an even part of them",
                rotary.dims, self.head_dim
            )));
        }
        let sound = |factor: f32| (1.0..=1e4).contains(&factor);
        let right = match &rotary.scaling {
            Scaling::None => true,
            Scaling::Linear { factor } => sound(*factor),
            Scaling::Llama3 { factor, low, high, original } => {
                sound(*factor) && *low > 0.0 && *high > *low && *high <= 1e4 && *original > 0
            }
            Scaling::Yarn { factor, fast, slow, original, attention } => {
                sound(*factor)
                    && *slow > 0.0
                    && *fast > *slow
                    && *fast <= 1e4
                    && *original > 0
                    && *attention > 0.0
                    && *attention <= 100.0
                    && rotary.base > 1.0
            }
            Scaling::Listed(divisors) => {
                divisors.len() == rotary.dims / 2 && divisors.iter().all(|d| *d > 0.0 && d.is_finite())
            }
        };
        if right { Ok(()) } else { Err(bad(format!("its rotary scaling makes no sense: {:?}", rotary.scaling))) }
    }

    /// Every tensor this model needs, with its shape.
    pub fn tensors(&self) -> Vec<(Role, Vec<usize>)> {
        let (d, q, kv, mlp) = (self.width, self.q_width(), self.kv_width(), self.mlp_width);
        let plan = self.blueprint();
        let mut list = vec![(Role::from(Part::Embedding), vec![self.vocab, d])];
        let norm = |list: &mut Vec<_>, role: Role| {
            list.push((role, vec![d]));
            if plan.norm == Norm::Layer {
                list.push((role.bias(), vec![d]));
            }
        };
        let product = |list: &mut Vec<_>, role: Role, rows: usize, cols: usize| {
            list.push((role, vec![rows, cols]));
            if plan.biases.contains(&role.part) {
                list.push((role.bias(), vec![rows]));
            }
        };
        norm(&mut list, Part::OutputNorm.into());
        if !self.tied {
            product(&mut list, Part::Head.into(), self.vocab, d);
        }
        for l in 0..self.layers {
            let role = |part| Role::new(part, l);
            norm(&mut list, role(Part::AttnNorm));
            product(&mut list, role(Part::Q), q, d);
            product(&mut list, role(Part::K), kv, d);
            product(&mut list, role(Part::V), kv, d);
            product(&mut list, role(Part::O), d, q);
            if plan.head_norms {
                list.extend([Part::QNorm, Part::KNorm].map(|part| (role(part), vec![self.head_dim])));
            }
            if plan.residual != Residual::Parallel {
                norm(&mut list, role(Part::MlpNorm));
            }
            if plan.residual == Residual::Sandwich {
                norm(&mut list, role(Part::AfterAttn));
                norm(&mut list, role(Part::AfterMlp));
            }
            if plan.mlp.is_gated() {
                product(&mut list, role(Part::Gate), mlp, d);
            }
            product(&mut list, role(Part::Up), mlp, d);
            product(&mut list, role(Part::Down), d, mlp);
        }
        list
    }
}
