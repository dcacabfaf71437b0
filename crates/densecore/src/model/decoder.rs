//! The frozen model: layers in order, and how they are loaded.

use super::attention::{Attention, Biases};
use super::config::ModelConfig;
use super::embed::Embedding;
use super::head::Head;
use super::layer::{Layer, Watch};
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::rope::Rope;
use super::workspace::{Work, Workspace};
use crate::error::{Error, Result};
use crate::generate::cancel::Cancel;
use crate::weights::{Role, TensorView, Weights};
use densecore_kernels::attention::CacheFormat;
use densecore_kernels::{Arena, Format, Heads, Matrix, Pool, Source};
use std::sync::Arc;

/// All weights of a model, immutable and shared by threads.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub config: ModelConfig,
    pub embedding: Embedding,
    pub layers: Vec<Layer>,
    pub head: Head,
    pub rope: Rope,
    pub pool: Arc<Pool>,
    /// How keys and values are stored.
    pub format: CacheFormat,
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
        let loader = Loader { weights: &weights, pool: &pool, arena: Arc::default(), exact, eps: config.norm_eps };
        // The head is the largest tensor: dense ones, packed here, begin while the least is resident.
        let head = Head {
            norm: loader.norm(Role::OutputNorm)?,
            matrix: loader.matrix(if config.tied { Role::Embedding } else { Role::Head })?,
        };
        let layers = (0..config.layers).map(|l| loader.layer(&config, l)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            embedding: Embedding::new(weights, config.vocab, config.width),
            rope: Rope::new(config.head_dim, config.rope_theta, config.rope_interleaved),
            layers,
            head,
            pool,
            format,
            config,
        })
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        std::iter::once(&self.head.matrix).chain(self.layers.iter().flat_map(|l| {
            let a = &l.attention;
            [&a.q, &a.k, &a.v, &a.o, &l.mlp.gate, &l.mlp.up, &l.mlp.down]
        }))
    }

    /// Bytes of the matrices, packed.
    pub fn bytes(&self) -> usize {
        self.matrices().map(Matrix::bytes).sum()
    }

    /// Of these, bytes that are still to be taken: matrices are packed when they are used again.
    pub fn bytes_to_come(&self) -> usize {
        self.matrices().map(Matrix::bytes_to_come).sum()
    }

    /// The shape of attention.
    pub fn heads(&self) -> Heads {
        let config = &self.config;
        let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
        Heads { heads, kv_heads, head_dim, format: self.format }
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
        ws.place(&self.rope, positions);
        let heads = self.heads();
        for (l, layer) in self.layers.iter().take(layers).enumerate() {
            cancel.check()?;
            layer.forward(&self.pool, &self.rope, heads, l, ws, works, watch)?;
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
    role: Role,
}

impl Source for Tensor {
    fn bytes(&self) -> &[u8] {
        self.weights.role(self.role).map_or(&[], |view| view.data)
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if let Ok(view) = self.weights.role(self.role) {
            self.weights.release(&view);
        }
    }
}

/// Reads tensors by role.
struct Loader<'a> {
    weights: &'a Arc<Weights>,
    pool: &'a Pool,
    arena: Arc<Arena>,
    exact: bool,
    eps: f32,
}

impl Loader<'_> {
    fn matrix(&self, role: Role) -> Result<Matrix> {
        let view = self.weights.role(role)?;
        let [rows, cols] = view.shape[..] else {
            return Err(Error::Internal(format!("tensor {} is not a matrix", view.name)));
        };
        let failed = |e| Error::io("packing a tensor of", self.weights.path(), e);
        if self.exact && view.format != Format::F32 {
            let bytes: Vec<u8> = Self::floats(&view)?.into_iter().flat_map(f32::to_le_bytes).collect();
            self.weights.release(&view);
            return Matrix::pack(self.pool, &self.arena, Format::F32, rows, cols, &bytes).map_err(failed);
        }
        let source = Box::new(Tensor { weights: Arc::clone(self.weights), role });
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
        Self::floats(&self.weights.role(role)?)
    }

    fn norm(&self, role: Role) -> Result<RmsNorm> {
        Ok(RmsNorm { weight: self.vector(role)?, eps: self.eps })
    }

    fn layer(&self, config: &ModelConfig, l: usize) -> Result<Layer> {
        let biases = if config.qkv_bias {
            Some(Biases {
                q: self.vector(Role::QBias(l))?,
                k: self.vector(Role::KBias(l))?,
                v: self.vector(Role::VBias(l))?,
            })
        } else {
            None
        };
        let head_norms =
            if config.qk_norm { Some((self.norm(Role::QNorm(l))?, self.norm(Role::KNorm(l))?)) } else { None };
        Ok(Layer {
            attention_norm: self.norm(Role::AttnNorm(l))?,
            attention: Attention {
                q: self.matrix(Role::Q(l))?,
                k: self.matrix(Role::K(l))?,
                v: self.matrix(Role::V(l))?,
                o: self.matrix(Role::O(l))?,
                biases,
                head_norms,
            },
            mlp_norm: self.norm(Role::MlpNorm(l))?,
            mlp: Mlp {
                gate: self.matrix(Role::Gate(l))?,
                up: self.matrix(Role::Up(l))?,
                down: self.matrix(Role::Down(l))?,
            },
        })
    }
}
