//! Tokens to embeddings: rows decoded from the file's map, never a whole decoded table.

use crate::arch::{ModelConfig, Part};
use crate::error::{Error, Result};
use crate::weights::Weights;
use densecore_kernels::{Format, Pool, vector};
use std::sync::{Arc, OnceLock};

/// Rows one thread decodes at a time for their mean length.
const PART: usize = 1024;

/// The `(vocab, d)` embedding, read row by row.
#[derive(Debug)]
pub struct Embedding {
    weights: Arc<Weights>,
    config: ModelConfig,
    vocab: usize,
    width: usize,
    /// Multiplies every row, unless it is 1.
    scale: f32,
    mean_norm: OnceLock<f32>,
}

impl Embedding {
    /// Reads rows from `weights`, whose embedding has this shape (checked with the configuration).
    pub fn new(weights: Arc<Weights>, config: &ModelConfig) -> Self {
        let scale = if config.blueprint().scaled_embedding { (config.width as f32).sqrt() } else { 1.0 };
        let (vocab, width, config) = (config.vocab, config.width, config.clone());
        Self { weights, config, vocab, width, scale, mean_norm: OnceLock::new() }
    }

    fn table(&self) -> Result<(Format, usize, &[u8])> {
        let view = self.weights.role(&self.config, Part::Embedding.into())?;
        let bytes = view
            .format
            .row_bytes(self.width)
            .ok_or_else(|| Error::Internal("embedding rows are not whole blocks".into()))?;
        Ok((view.format, bytes, view.data))
    }

    /// Writes the embeddings of `ids` to `out`, `(ids, d)`.
    pub fn rows(&self, ids: &[u32], out: &mut [f32]) -> Result<()> {
        let (format, bytes, data) = self.table()?;
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(self.width)) {
            let id = id as usize;
            if id >= self.vocab {
                return Err(Error::argument(
                    "token id",
                    id,
                    format!("use ids of this model, from 0 to {}", self.vocab - 1),
                ));
            }
            format.dequantize_row(&data[id * bytes..][..bytes], out);
            if self.scale != 1.0 {
                vector::scale(out, self.scale);
            }
        }
        Ok(())
    }

    /// The mean length of an embedding, over the whole vocabulary; computed once, when first asked for.
    pub fn mean_norm(&self, pool: &Pool) -> Result<f32> {
        if let Some(&norm) = self.mean_norm.get() {
            return Ok(norm);
        }
        let (format, bytes, data) = self.table()?;
        let mut sums = vec![0f32; self.vocab.div_ceil(PART)];
        pool.rows(&mut sums, 1, 1, &|part, sum| {
            let mut row = vec![0.0; self.width];
            let mut total = 0f64;
            for id in part * PART..self.vocab.min((part + 1) * PART) {
                format.dequantize_row(&data[id * bytes..][..bytes], &mut row);
                total += f64::from(vector::norm(&row));
            }
            sum[0] = total as f32;
        });
        let mean = sums.iter().map(|&s| f64::from(s)).sum::<f64>() / self.vocab as f64 * f64::from(self.scale);
        Ok(*self.mean_norm.get_or_init(|| mean as f32))
    }
}
