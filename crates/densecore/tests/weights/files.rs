//! Small GGUF and safetensors files, written by hand so that every field can lie.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use densecore::arch::ModelConfig;
use densecore::weights::Weights;
use densecore::{Limits, Result};
use serde_json::{Map, Value, json};

/// A metadata value; `Raw` is a type number and any bytes.
#[derive(Clone)]
pub enum Meta {
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(u8),
    Str(String),
    Strs(Vec<String>),
    I32s(Vec<i32>),
    Raw(u32, Vec<u8>),
}

impl Meta {
    /// An array that claims `count` elements and holds `bytes`.
    pub fn array(kind: u32, count: u64, bytes: &[u8]) -> Self {
        let mut raw = kind.to_le_bytes().to_vec();
        raw.extend_from_slice(&count.to_le_bytes());
        raw.extend_from_slice(bytes);
        Self::Raw(9, raw)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u32, bytes: &[u8]| {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::U32(v) => put(4, &v.to_le_bytes()),
            Self::I32(v) => put(5, &v.to_le_bytes()),
            Self::F32(v) => put(6, &v.to_le_bytes()),
            Self::Bool(v) => put(7, &[*v]),
            Self::Str(v) => {
                let mut bytes = vec![];
                text(&mut bytes, v);
                put(8, &bytes);
            }
            Self::Strs(list) => {
                let mut bytes = vec![];
                for v in list {
                    text(&mut bytes, v);
                }
                Self::array(8, list.len() as u64, &bytes).write(out);
            }
            Self::I32s(list) => {
                let bytes: Vec<u8> = list.iter().flat_map(|v| v.to_le_bytes()).collect();
                Self::array(5, list.len() as u64, &bytes).write(out);
            }
            Self::Raw(kind, bytes) => put(*kind, bytes),
        }
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// One tensor: dimensions innermost first, `offset` a shift from its honest place.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
    size: usize,
}

#[derive(Clone, Default)]
pub struct Tensors(pub Vec<Tensor>);

impl Tensors {
    /// Adds a tensor; the honest offset is set as if `alignment` were 64.
    pub fn f32(&mut self, name: &str, dims: &[u64]) {
        let offset = self.0.last().map_or(0, |t| (t.offset + t.size as u64).next_multiple_of(64));
        self.0.push(Tensor {
            name: name.into(),
            dims: dims.to_vec(),
            kind: 0,
            offset,
            size: 4 * dims.iter().product::<u64>() as usize,
        });
    }

    pub fn get(&mut self, name: &str) -> &mut Tensor {
        self.0.iter_mut().find(|t| t.name == name).unwrap()
    }

    fn model(arch: &str, gguf: bool) -> Self {
        let mut all = Self::default();
        let pick = |g: &'static str, h: &'static str| if gguf { g } else { h };
        let mut add = |g: &'static str, h: &'static str, dims: &[u64]| all.f32(pick(g, h), dims);
        add("token_embd.weight", "model.embed_tokens.weight", &[8, 6]);
        add("blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight", &[8]);
        add("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight", &[8, 8]);
        add("blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj.weight", &[8, 4]);
        add("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", &[8, 4]);
        add("blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight", &[8, 8]);
        add("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight", &[8]);
        add("blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight", &[8, 12]);
        add("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight", &[8, 12]);
        add("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", &[12, 8]);
        if arch == "qwen2" {
            add("blk.0.attn_q.bias", "model.layers.0.self_attn.q_proj.bias", &[8]);
            add("blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias", &[4]);
            add("blk.0.attn_v.bias", "model.layers.0.self_attn.v_proj.bias", &[4]);
        }
        if arch == "qwen3" {
            add("blk.0.attn_q_norm.weight", "model.layers.0.self_attn.q_norm.weight", &[4]);
            add("blk.0.attn_k_norm.weight", "model.layers.0.self_attn.k_norm.weight", &[4]);
        }
        add("output_norm.weight", "model.norm.weight", &[8]);
        if !gguf {
            all.f32("lm_head.weight", &[8, 6]);
        }
        all
    }

    /// The tensors of a one-layer model under Hugging Face names.
    pub fn hf(arch: &str) -> Self {
        Self::model(arch, false)
    }
}

/// A GGUF file to be.
#[derive(Clone)]
pub struct Gguf {
    pub version: u32,
    pub alignment: usize,
    pub metadata: Vec<(String, Meta)>,
    pub tensors: Tensors,
}

impl Gguf {
    /// A valid one-layer model: vocabulary 6, width 8, 2 heads of 4 sharing one key-value head, MLP 12.
    pub fn model(arch: &str) -> Self {
        let tokens = (0..6).map(|i| format!("t{i}")).collect();
        let mut metadata = vec![
            ("general.architecture".into(), Meta::Str(arch.into())),
            ("tokenizer.ggml.tokens".into(), Meta::Strs(tokens)),
            ("tokenizer.ggml.bos_token_id".into(), Meta::U32(1)),
            ("tokenizer.ggml.eos_token_id".into(), Meta::U32(2)),
            (format!("{arch}.attention.layer_norm_rms_epsilon"), Meta::F32(1e-6)),
            (format!("{arch}.rope.freq_base"), Meta::F32(1e4)),
        ];
        for (key, value) in [
            ("block_count", 1),
            ("context_length", 64),
            ("embedding_length", 8),
            ("feed_forward_length", 12),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
        ] {
            metadata.push((format!("{arch}.{key}"), Meta::U32(value)));
        }
        Self { version: 3, alignment: 32, metadata, tensors: Tensors::model(arch, true) }
    }

    /// Sets or replaces a metadata value.
    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(k, _)| k != key);
        self.metadata.push((key.into(), value));
    }

    fn front(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.tensors.0.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            value.write(&mut out);
        }
        out
    }

    /// Where the first tensor record starts.
    pub fn tensor_start(&self) -> usize {
        self.front().len()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.front();
        for tensor in &self.tensors.0 {
            text(&mut out, &tensor.name);
            out.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|d| out.extend_from_slice(&d.to_le_bytes()));
            out.extend_from_slice(&tensor.kind.to_le_bytes());
            out.extend_from_slice(&tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        // Lies about offsets leave the data where it honestly is: the end follows from the sizes alone.
        let data = self.tensors.0.iter().fold(0, |at: usize, t| at.next_multiple_of(64) + t.size);
        out.extend((0..data).map(|i| (i % 251) as u8));
        out
    }
}

/// A safetensors file of these tensors, in F32.
pub fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let mut header = Map::new();
    let mut at = 0;
    for tensor in &tensors.0 {
        let shape: Vec<_> = tensor.dims.iter().rev().collect();
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [at, at + tensor.size]});
        header.insert(tensor.name.clone(), entry);
        at += tensor.size;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.resize(out.len() + at, 7);
    out
}

/// A folder of its own under the system's temporary one, removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("densecore-weights-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Hugging Face folder on disk.
pub struct Folder {
    scratch: Scratch,
    pub config: Map<String, Value>,
    pub tensors: Tensors,
}

impl Folder {
    /// A valid one-layer model with a head of its own.
    pub fn model(arch: &str) -> Self {
        let class = match arch {
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ => "LlamaForCausalLM",
        };
        let config = json!({
            "architectures": [class], "model_type": arch, "hidden_act": "silu", "hidden_size": 8,
            "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "vocab_size": 6,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "sliding_window": null,
            "attention_bias": false, "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2,
        });
        let Value::Object(config) = config else { unreachable!() };
        let folder = Self { scratch: Scratch::new(), config, tensors: Tensors::hf(arch) };
        folder.write();
        folder
    }

    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub fn set(&mut self, key: &str, value: Value) {
        self.config.insert(key.into(), value);
    }

    fn write(&self) {
        self.write_json("config.json", &Value::Object(self.config.clone()));
        std::fs::write(self.path().join("model.safetensors"), safetensors(&self.tensors)).unwrap();
    }

    pub fn write_json(&self, name: &str, value: &Value) {
        std::fs::write(self.path().join(name), value.to_string()).unwrap();
    }

    /// Writes the folder as it now stands and loads it.
    pub fn load(&self) -> Result<ModelConfig> {
        self.write();
        Weights::open(self.path(), &Limits::default())?.config(&Limits::default())
    }

    /// Replaces the one file by two shards and their index.
    pub fn shard(&self) {
        std::fs::remove_file(self.path().join("model.safetensors")).unwrap();
        let (first, second) = self.tensors.0.split_at(self.tensors.0.len() / 2);
        let mut places = Map::new();
        for (i, part) in [first, second].into_iter().enumerate() {
            let name = format!("part-{i}.safetensors");
            for tensor in part {
                places.insert(tensor.name.clone(), json!(name));
            }
            std::fs::write(self.path().join(name), safetensors(&Tensors(part.to_vec()))).unwrap();
        }
        self.write_json("model.safetensors.index.json", &json!({"metadata": {"total_size": 1}, "weight_map": places}));
    }

    pub fn read_index(&self) -> Value {
        let text = std::fs::read(self.path().join("model.safetensors.index.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}
