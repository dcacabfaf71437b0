//! Contexts as bytes: keys, values and the last state, bound to their model and guarded by a checksum.
//!
//! Layout: 20 bytes of magic, 32 bytes SHA-256 of the rest, then a safetensors file. Its tensors `keys.L` and `values.L` are `(kv_heads, T, head_dim)`, `state` is `(d)`, all float32. The metadata names
//! the model's fingerprint, so a context cannot be put into another model.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::generate::Cancel;
use crate::generate::rows::Rows;
use crate::generate::sequence::Sequence;
use crate::vertex::Model;
use crate::weights::SafetensorsFile;
use densecore_kernels::Format;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 20] = b"densecore-context-1\n";
const DIGEST: usize = 32;

impl Context {
    /// The context as bytes, for [`Model::import`].
    pub fn export(&self) -> Result<Vec<u8>> {
        let (model, cache) = (self.model(), self.cache());
        if self.is_empty() || self.last().is_empty() {
            return Err(Error::context("it was truncated and holds no last state; extend it first"));
        }
        let c = model.config();
        let (t, layer) = (cache.len(), c.kv_heads * cache.len() * c.head_dim * 4);
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"fingerprint": &**model.fingerprint()}));
        let mut at = 0;
        let mut tensor = |name: String, shape: Value, bytes: usize| {
            header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [at, at + bytes]}));
            at += bytes;
        };
        for l in 0..c.layers {
            tensor(format!("keys.{l}"), json!([c.kv_heads, t, c.head_dim]), layer);
            tensor(format!("values.{l}"), json!([c.kv_heads, t, c.head_dim]), layer);
        }
        tensor("state".into(), json!([c.width]), c.width * 4);
        let mut text = serde_json::to_string(&header).map_err(|e| Error::Internal(e.to_string()))?;
        // The format wants data aligned to 8 bytes; spaces after the header are allowed for that.
        text.push_str(&" ".repeat((8 - text.len() % 8) % 8));
        let head = MAGIC.len() + DIGEST;
        let mut out = Vec::with_capacity(head + 8 + text.len() + at);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; DIGEST]);
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        let mut put = |data: &[f32]| data.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
        for l in 0..c.layers {
            let (keys, values) = cache.read_layer(l);
            put(&keys);
            put(&values);
        }
        put(self.last());
        let digest = Sha256::digest(&out[head..]);
        out[MAGIC.len()..head].copy_from_slice(&digest);
        Ok(out)
    }
}

impl Model {
    /// Reads what [`Context::export`] wrote, checking everything it claims.
    pub fn import(&self, bytes: &[u8], cancel: &Cancel) -> Result<Context> {
        let mut call = self.enter(1, cancel)?.together();
        let bad = |detail: String| Error::context(detail);
        let body = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(DIGEST));
        let Some((digest, body)) = body else {
            return Err(bad(format!(
                "its {} bytes do not begin as one; it must come from Context.export()",
                bytes.len()
            )));
        };
        if Sha256::digest(body)[..] != *digest {
            return Err(bad(
                "its bytes do not have the checksum they carry: it was damaged or cut; export it again".into()
            ));
        }
        let file = SafetensorsFile::from_bytes("exported context", body, self.limits())
            .map_err(|e| bad(format!("{e}; it must come from Context.export()")))?;
        let header: Value = serde_json::from_slice(&file.header()[8..]).map_err(|e| bad(e.to_string()))?;
        let meta = &header["__metadata__"];
        if meta["fingerprint"] != **self.fingerprint() {
            return Err(Error::Fingerprint {
                expected: self.fingerprint().to_string(),
                got: meta["fingerprint"].as_str().unwrap_or("unknown").to_owned(),
            });
        }
        let c = self.config();
        let floats = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let view = file.tensor(name).ok_or_else(|| bad(format!("tensor {name} is missing")))?;
            if view.format != Format::F32 || view.shape != shape {
                return Err(bad(format!(
                    "tensor {name} is {:?} {:?} but {shape:?} float32 is needed",
                    view.format, view.shape
                )));
            }
            let mut out = vec![0f32; shape.iter().product()];
            view.format.dequantize_row(view.data, &mut out);
            match out.iter().find(|v| !v.is_finite()) {
                Some(v) => Err(bad(format!("tensor {name} holds {v}"))),
                None => Ok(out),
            }
        };
        let t = file.tensor("keys.0").and_then(|v| v.shape.get(1).copied()).unwrap_or(0);
        if t == 0 {
            return Err(bad("it holds no positions; it must come from Context.export()".into()));
        }
        self.check_room(t, 0, 0)?;
        let last = floats("state", &[c.width])?;
        let mut sequence = Sequence::new(self.cache(), Rows::default());
        sequence.expect(t);
        call.admit(std::slice::from_mut(&mut sequence))?;
        sequence.reserve(t)?;
        let cache = &mut sequence.cache;
        let shape = [c.kv_heads, t, c.head_dim];
        for l in 0..c.layers {
            let (keys, values) = (floats(&format!("keys.{l}"), &shape)?, floats(&format!("values.{l}"), &shape)?);
            cache.write(l, &by_position(&keys, shape), &by_position(&values, shape))?;
            if let Some((layer, position)) = cache.damage() {
                return Err(bad(format!(
                    "a key or value of position {position} in layer {layer} is beyond what f16 holds; load the model with kv=\"f32\""
                )));
            }
        }
        cache.advance(t);
        Ok(Context::imported(self.clone(), sequence.cache, last))
    }
}

/// `(heads, T, head_dim)` to `(T, heads * head_dim)`.
fn by_position(data: &[f32], [heads, t, d]: [usize; 3]) -> Vec<f32> {
    let mut out = vec![0.0; data.len()];
    for h in 0..heads {
        for p in 0..t {
            out[(p * heads + h) * d..][..d].copy_from_slice(&data[(h * t + p) * d..][..d]);
        }
    }
    out
}
