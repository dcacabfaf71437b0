//! The frozen model: layers in order, and how they are loaded.

use super::attention::Attention;
use super::embed::Embedding;
use super::head::Head;
use super::layer::{Layer, Watch};
use super::mlp::Mlp;
use super::norm::Norm;
use super::products::Biased;
use super::rope::Rope;
use super::workspace::{Work, Workspace};
use crate::arch::blueprint::{Norm as Kind, Residual};
use crate::arch::{FileKind, ModelConfig, Part, Role};
use crate::error::{Error, Result};
use crate::generate::cancel::Cancel;
use crate::weights::{TensorView, Weights};
use densecore_kernels::attention::CacheFormat;
use densecore_kernels::{Arena, Format, Heads, Matrix, Pool, Source};
use std::sync::Arc;

/// All weights of a model, immutable and shared by threads.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: Arc<ModelConfig>,
    pub embedding: Embedding,
    pub layers: Vec<Layer>,
    pub head: Head,
    pub ropes: Vec<Arc<Rope>>,
    pub pool: Arc<Pool>,
}

impl Decoder {
    /// Checks every tensor; quantised ones are packed when they are used, see [`Matrix::open`].
    /// With `exact`, quantised ones are unpacked to f32 at once.
    pub fn load(
        weights: Arc<Weights>,
        config: ModelConfig,
        pool: Arc<Pool>,
        format: CacheFormat,
        exact: bool,
    ) -> Result<Self> {
        let config = Arc::new(config);
        let rotaries = std::iter::once(&config.rotary).chain(config.local.as_ref().map(|local| &local.rotary));
        let ropes: Vec<Arc<Rope>> = rotaries
            .enumerate()
            .map(|(i, rotary)| Arc::new(Rope::new(i, rotary, config.head_dim, config.pairs)))
            .collect();
        let loader = Loader {
            weights: &weights,
            config: &config,
            pool: &pool,
            arena: Arc::default(),
            exact,
            format,
            ropes: &ropes,
        };
        // The head is the largest tensor: dense ones, packed here, begin while the least is resident.
        let part = if config.tied { Part::Embedding } else { Part::Head };
        let head = Head { norm: loader.norm(Part::OutputNorm.into())?, output: loader.product(part.into())? };
        let layers = (0..config.layers).map(|l| loader.layer(l)).collect::<Result<Vec<_>>>()?;
        Ok(Self { embedding: Embedding::new(weights, &config), ropes, layers, head, pool, config })
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let all = std::iter::once(&self.head.output).chain(self.layers.iter().flat_map(|l| {
            let (a, m) = (&l.attention, &l.mlp);
            [&a.q, &a.k, &a.v, &a.o, &m.up, &m.down].into_iter().chain(&m.gate)
        }));
        all.map(|biased| &biased.matrix)
    }

    /// Bytes of the matrices, packed.
    pub fn bytes(&self) -> usize {
        self.matrices().map(Matrix::bytes).sum()
    }

    /// Of these, bytes that are still to be taken: matrices are packed when they are used again.
    pub fn bytes_to_come(&self) -> usize {
        self.matrices().map(Matrix::bytes_to_come).sum()
    }

    /// Runs `ws.x` `(N, d)` through the first `layers` layers (a cache filled by fewer than all serves no other call).
    /// Needs `Cache::reserve` for every work. The caches gain the rows only if nothing failed; a cancelled pass leaves
    /// them as they were.
    pub fn forward(
        &self,
        ws: &mut Workspace,
        works: &mut [Work<'_>],
        layers: usize,
        cancel: &Cancel,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        debug_assert_eq!(ws.rows, works.iter().map(|w| w.rows).sum::<usize>());
        let positions = works.iter().flat_map(|w| w.cache.len()..w.cache.len() + w.rows);
        ws.place(&self.ropes, positions);
        for (l, layer) in self.layers.iter().take(layers).enumerate() {
            cancel.check()?;
            layer.forward(&self.pool, l, ws, works, watch)?;
        }
        for work in works {
            work.cache.advance(work.rows);
        }
        Ok(())
    }
}

/// A tensor of the file until it is packed; then its pages of the map are given back.
#[derive(Debug)]
struct Tensor {
    weights: Arc<Weights>,
    config: Arc<ModelConfig>,
    role: Role,
}

impl Source for Tensor {
    fn bytes(&self) -> &[u8] {
        self.weights.role(&self.config, self.role).map_or(&[], |view| view.data)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if let Ok(view) = self.weights.role(&self.config, self.role) {
            self.weights.release(&view);
        }
    }
}

/// Reads tensors by role.
struct Loader<'a> {
    weights: &'a Arc<Weights>,
    config: &'a Arc<ModelConfig>,
    pool: &'a Pool,
    arena: Arc<Arena>,
    exact: bool,
    format: CacheFormat,
    ropes: &'a [Arc<Rope>],
}

impl Loader<'_> {
    fn matrix(&self, role: Role) -> Result<Matrix> {
        let view = self.weights.role(self.config, role)?;
        let [rows, cols] = view.shape[..] else {
            return Err(Error::Internal(format!("tensor {} is not a matrix", view.name)));
        };
        let failed = |e| Error::io("packing a tensor of", self.weights.path(), e);
        if self.exact && view.format != Format::F32 {
            let bytes: Vec<u8> = Self::floats(&view)?.into_iter().flat_map(f32::to_le_bytes).collect();
            self.weights.release(&view);
            return Matrix::pack(self.pool, &self.arena, Format::F32, rows, cols, &bytes).map_err(failed);
        }
        let source = Box::new(Tensor { weights: Arc::clone(self.weights), config: Arc::clone(self.config), role });
        Matrix::open(self.pool, &self.arena, view.format, rows, cols, source).map_err(failed)
    }

    fn floats(view: &TensorView<'_>) -> Result<Vec<f32>> {
        let len = view.shape.iter().product();
        if view.format.row_bytes(len) != Some(view.data.len()) {
            return Err(Error::Internal(format!("tensor {} has a ragged length", view.name)));
        }
        let mut out = vec![0.0; len];
        view.format.dequantize_row(view.data, &mut out);
        Ok(out)
    }

    fn vector(&self, role: Role) -> Result<Vec<f32>> {
        Self::floats(&self.weights.role(self.config, role)?)
    }

    /// A matrix and, if it has one, its bias.
    fn product(&self, role: Role) -> Result<Biased> {
        let bias =
            if self.config.blueprint().biases.contains(&role.part) { Some(self.vector(role.bias())?) } else { None };
        Ok(Biased { matrix: self.matrix(role)?, bias })
    }

    fn norm(&self, role: Role) -> Result<Norm> {
        let kind = self.config.blueprint().norm;
        let mut weight = self.vector(role)?;
        if kind == Kind::RmsLessOne && self.weights.kind() == FileKind::Folder {
            for w in &mut weight {
                *w += 1.0;
            }
        }
        let of_heads = matches!(role.part, Part::QNorm | Part::KNorm);
        let bias = if kind == Kind::Layer && !of_heads { Some(self.vector(role.bias())?) } else { None };
        Ok(Norm { weight, bias, eps: self.config.norm_eps })
    }

    fn layer(&self, l: usize) -> Result<Layer> {
        let config = self.config;
        let (plan, role) = (config.blueprint(), |part| Role::new(part, l));
        let norm_if = |wanted: bool, part| if wanted { self.norm(role(part)).map(Some) } else { Ok(None) };
        let head_norms =
            if plan.head_norms { Some((self.norm(role(Part::QNorm))?, self.norm(role(Part::KNorm))?)) } else { None };
        let sandwich = plan.residual == Residual::Sandwich;
        let window = config.window(l);
        let rope = if window == usize::MAX { self.ropes.first() } else { self.ropes.last() };
        Ok(Layer {
            attention_norm: self.norm(role(Part::AttnNorm))?,
            attention: Attention {
                q: self.product(role(Part::Q))?,
                k: self.product(role(Part::K))?,
                v: self.product(role(Part::V))?,
                o: self.product(role(Part::O))?,
                head_norms,
                rope: Arc::clone(rope.ok_or_else(|| Error::Internal("a model without a rotation".into()))?),
                heads: Heads {
                    heads: config.heads,
                    kv_heads: config.kv_heads,
                    head_dim: config.head_dim,
                    format: self.format,
                    scale: config.attention_scale,
                    window,
                },
            },
            after_attention: norm_if(sandwich, Part::AfterAttn)?,
            mlp_norm: norm_if(plan.residual != Residual::Parallel, Part::MlpNorm)?,
            mlp: Mlp {
                gate: if plan.mlp.is_gated() { Some(self.product(role(Part::Gate))?) } else { None },
                up: self.product(role(Part::Up))?,
                down: self.product(role(Part::Down))?,
                activation: plan.mlp.activation(),
            },
            after_mlp: norm_if(sandwich, Part::AfterMlp)?,
        })
    }
}
