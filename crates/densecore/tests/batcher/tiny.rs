//! A tiny Qwen2 with random weights, written to a folder and loaded, and the numbers it is made of.

use densecore::{Limits, LoadOptions, Model};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

pub const VOCAB: u32 = 64;
/// Longest sequence: 8 blocks of 64 positions.
pub const CONTEXT: usize = 512;
/// Bytes of a block: 2 layers, 1 head of 16, keys and values of 64 positions in float32.
pub const BLOCK: u64 = 2 * 2 * 16 * 64 * 4;
const WIDTH: usize = 64;
const MLP: usize = 96;

/// Numbers that repeat with their seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `least` to `most`, both included.
    pub fn between(&mut self, least: usize, most: usize) -> usize {
        least + (self.next() % (most - least + 1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.between(1, n) == 1
    }

    pub fn ids(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| (self.next() % u64::from(VOCAB)) as u32).collect()
    }

    /// About normal, of deviation 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
    }
}

/// The model's folder, removed when dropped.
pub struct Tiny(PathBuf);

impl Tiny {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("densecore-batcher-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        folder.write("config.json", &json!({
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": WIDTH,
            "intermediate_size": MLP, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1,
            "head_dim": 16, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "vocab_size": VOCAB,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "tie_word_embeddings": false,
            "eos_token_id": 2,
        }));
        let vocab: Map<String, Value> =
            (0..VOCAB).map(|id| (char::from(b'!' + id as u8).to_string(), json!(id))).collect();
        folder.write("tokenizer.json", &json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
        }));
        std::fs::write(folder.0.join("model.safetensors"), weights()).unwrap();
        folder
    }

    fn write(&self, name: &str, value: &Value) {
        std::fs::write(self.0.join(name), value.to_string()).unwrap();
    }

    /// Loads it with room for `blocks` blocks, `kept` of which prefixes may take.
    pub fn load(&self, blocks: u64, kept: u64, limits: Limits) -> Model {
        let options = LoadOptions {
            threads: Some(2),
            cache_budget: Some(blocks * BLOCK),
            prefix_bytes: Some(kept * BLOCK),
            limits,
            ..LoadOptions::default()
        };
        Model::load(&self.0, &options).unwrap()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A safetensors file of random matrices, norms around one and small biases.
fn weights() -> Vec<u8> {
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB as usize, WIDTH])];
    for layer in 0..2 {
        for (name, shape) in [
            ("input_layernorm.weight", vec![WIDTH]),
            ("self_attn.q_proj.weight", vec![64, WIDTH]),
            ("self_attn.k_proj.weight", vec![16, WIDTH]),
            ("self_attn.v_proj.weight", vec![16, WIDTH]),
            ("self_attn.q_proj.bias", vec![64]),
            ("self_attn.k_proj.bias", vec![16]),
            ("self_attn.v_proj.bias", vec![16]),
            ("self_attn.o_proj.weight", vec![WIDTH, 64]),
            ("post_attention_layernorm.weight", vec![WIDTH]),
            ("mlp.gate_proj.weight", vec![MLP, WIDTH]),
            ("mlp.up_proj.weight", vec![MLP, WIDTH]),
            ("mlp.down_proj.weight", vec![WIDTH, MLP]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}"), shape));
        }
    }
    tensors.push(("model.norm.weight".into(), vec![WIDTH]));
    tensors.push(("lm_head.weight".into(), vec![VOCAB as usize, WIDTH]));
    let (mut random, mut header, mut data) = (Random::new(7), Map::new(), Vec::new());
    for (name, shape) in tensors {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            let value = match shape[..] {
                [_, columns] => 1.6 * random.normal() / (columns as f32).sqrt(),
                _ if name.ends_with("bias") => 0.3 * random.normal(),
                _ => 1.0 + 0.2 * random.normal(),
            };
            data.extend_from_slice(&value.to_le_bytes());
        }
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    let header = Value::Object(header).to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&data);
    out
}
