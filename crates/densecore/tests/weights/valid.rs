//! Valid files give their numbers.

use densecore::Limits;
use densecore::arch::blueprint::Pairs;
use densecore::arch::{Part, Role, Rotary, Scaling};
use densecore::weights::Weights;
use serde_json::{Value, json};

use crate::files::{Folder, Gguf, Meta, Scratch};
use crate::{load, load_gguf, read_gguf, refused};

#[test]
fn a_gguf_model_of_each_architecture_loads() {
    for name in ["qwen2", "qwen3", "llama"] {
        let config = load_gguf(Gguf::model(name).bytes()).unwrap();
        assert_eq!(config.arch.name(), name);
        assert_eq!((config.vocab, config.width, config.layers), (6, 8, 1));
        assert_eq!((config.heads, config.kv_heads, config.head_dim, config.mlp_width), (2, 1, 4, 12));
        assert_eq!(config.pairs == Pairs::Neighbours, name == "llama");
        assert_eq!(config.blueprint().biases.is_empty(), name != "qwen2");
        assert_eq!(config.blueprint().head_norms, name == "qwen3");
        assert_eq!((config.eos, config.bos, config.tied), (vec![2], Some(1), true));
    }
}

#[test]
fn gguf_version_2_and_a_head_of_its_own_load() {
    let mut file = Gguf::model("llama");
    file.version = 2;
    file.tensors.f32("output.weight", &[8, 6]);
    assert!(!load_gguf(file.bytes()).unwrap().tied);
}

#[test]
fn gguf_shapes_are_row_major_and_data_is_the_stored_bytes() {
    let file = read_gguf(Gguf::model("llama").bytes()).unwrap();
    let view = file.tensor("blk.0.ffn_gate.weight").unwrap();
    assert_eq!(view.shape, [12, 8]);
    assert_eq!(view.data.len(), 12 * 8 * 4);
    let weights = Weights::Gguf(file);
    let config = weights.config(&Limits::default()).unwrap();
    assert_eq!(weights.role(&config, Role::new(Part::Gate, 0)).unwrap().name, "blk.0.ffn_gate.weight");
    assert!(weights.role_opt(&config, Role::new(Part::Q, 0).bias()).unwrap().is_none());
    refused(weights.tensor("blk.0.ffn_gat.weight"), "format", &["blk.0.ffn_gate.weight", "missing"]);
}

#[test]
fn gguf_metadata_reads_by_type() {
    let mut file = Gguf::model("llama");
    file.set("a.text", Meta::Str("äö".into()));
    file.set("a.flag", Meta::Bool(1));
    file.set("a.ints", Meta::I32s(vec![-1, 7]));
    let file = read_gguf(file.bytes()).unwrap();
    assert_eq!(file.meta_str("a.text").unwrap(), Some("äö"));
    assert_eq!(file.meta_bool("a.flag").unwrap(), Some(true));
    assert_eq!(file.meta_u64("llama.block_count").unwrap(), Some(1));
    assert_eq!(file.meta_f32("llama.block_count").unwrap(), Some(1.0));
    assert_eq!(file.meta_i32_array("a.ints").unwrap().collect::<Vec<_>>(), [-1, 7]);
    assert_eq!(file.meta_f32_array("a.ints").unwrap().collect::<Vec<_>>(), [-1.0, 7.0]);
    let tokens = file.meta_str_array("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.len(), 6);
    assert_eq!(tokens.collect::<Vec<_>>(), ["t0", "t1", "t2", "t3", "t4", "t5"]);
    assert_eq!(file.meta_str("absent").unwrap(), None);
    refused(file.meta_str("a.flag"), "format", &["a.flag", "must be a string"]);
    refused(file.meta_u64("a.text"), "format", &["a.text", "integer"]);
    refused(file.meta_str_array("a.ints"), "format", &["a.ints"]);
    refused(file.meta_str_array("absent"), "format", &["absent", "missing"]);
    refused(file.meta_i32_array("tokenizer.ggml.tokens").map(|_| ()), "format", &["tokens"]);
}

#[test]
fn a_folder_of_each_architecture_loads_whole_and_sharded() {
    for name in ["qwen2", "qwen3", "llama"] {
        let folder = Folder::model(name);
        let config = load(folder.path()).unwrap();
        assert_eq!((config.arch.name(), config.vocab, config.head_dim), (name, 6, 4));
        assert!(config.pairs == Pairs::Halves && !config.tied);
        assert_eq!(load(&folder.path().join("model.safetensors")).unwrap(), config);
        folder.shard();
        assert_eq!(load(folder.path()).unwrap(), config);
    }
}

#[test]
fn old_and_new_rope_settings_and_both_end_lists_are_read() {
    let mut folder = Folder::model("llama");
    folder.config.remove("rope_parameters");
    folder.set("rope_theta", json!(5000.0));
    folder.set("rope_scaling", Value::Null);
    folder.set("eos_token_id", json!([2, 3]));
    folder.write_json("generation_config.json", &json!({"eos_token_id": [3, 4]}));
    let config = folder.load().unwrap();
    assert_eq!((config.rotary.base, config.eos), (5000.0, vec![2, 3, 4]));
    folder.set("rope_scaling", json!({"type": "default"}));
    assert!(folder.load().is_ok());
}

#[test]
fn unused_windows_are_no_windows() {
    let mut folder = Folder::model("qwen2");
    folder.set("sliding_window", json!(4096));
    folder.set("use_sliding_window", json!(false));
    folder.set("layer_types", json!(["full_attention"]));
    assert!(folder.load().is_ok());
}

#[test]
fn released_pages_read_the_same_again() {
    let scratch = Scratch::new();
    let mut file = Gguf::model("llama");
    file.tensors.f32("big", &[4096, 16]);
    let path = scratch.path().join("model.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    let weights = Weights::open(&path, &Limits::default()).unwrap();
    let view = weights.tensor("big").unwrap();
    let before = view.data.to_vec();
    weights.release(&view);
    assert_eq!(view.data, before);
}

#[test]
fn fingerprints_follow_the_content_not_the_place() {
    let scratch = Scratch::new();
    let print = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Weights::open(&path, &Limits::default()).unwrap().fingerprint()
    };
    let mut bytes = Gguf::model("qwen2").bytes();
    let first = print("a.gguf", &bytes);
    assert_eq!(first, print("b.gguf", &bytes));
    assert!(first.starts_with("qwen2-") && first.len() == 22, "{first}");
    *bytes.last_mut().unwrap() ^= 1;
    assert_ne!(first, print("c.gguf", &bytes));
    let folder = Folder::model("qwen2");
    let open = |f: &Folder| Weights::open(f.path(), &Limits::default()).unwrap().fingerprint();
    assert_eq!(open(&folder), open(&Folder::model("qwen2")));
    assert_ne!(open(&folder), open(&Folder::model("qwen3")));
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        let before = open(&folder);
        std::fs::write(folder.path().join(name), "{}").unwrap();
        assert_ne!(before, open(&folder), "{name} decides what is computed");
    }
}

#[test]
fn fingerprints_see_every_tensor() {
    let scratch = Scratch::new();
    let print = |bytes: &[u8]| {
        let path = scratch.path().join("model.gguf");
        std::fs::write(&path, bytes).unwrap();
        Weights::open(&path, &Limits::default()).unwrap().fingerprint()
    };
    let mut file = Gguf::model("llama");
    // Far more bytes than are read: samples spread over the file alone would pass the small one by.
    file.tensors.f32("big", &[4096, 1024]);
    file.tensors.f32("small", &[64, 64]);
    let bytes = file.bytes();
    let first = print(&bytes);
    let place = scratch.path().join("whole.gguf");
    std::fs::write(&place, &bytes).unwrap();
    let weights = Weights::open(&place, &Limits::default()).unwrap();
    let Weights::Gguf(whole) = &weights else { unreachable!() };
    for name in weights.names() {
        let data = weights.tensor(name).unwrap().data;
        let start = whole.map().offset_of(data).unwrap();
        let mut changed = bytes.clone();
        changed[start..start + data.len()].iter_mut().for_each(|byte| *byte ^= 1);
        assert_ne!(first, print(&changed), "{name}");
    }
}

#[test]
fn rotary_scaling_and_windows_are_read() {
    let with = |arch: &str, key: &str, value: Value| {
        let mut folder = Folder::model(arch);
        folder.config.remove("rope_parameters");
        folder.set(key, value);
        folder.load().unwrap()
    };
    let scaled = with("llama", "rope_scaling", json!({"type": "linear", "factor": 4.0}));
    assert_eq!(scaled.rotary.scaling, Scaling::Linear { factor: 4.0 });
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32});
    let scaled = with("llama", "rope_scaling", llama3);
    assert_eq!(scaled.rotary.scaling, Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 32 });
    let scaled = with("qwen2", "rope_scaling", json!({"type": "yarn", "factor": 2.0}));
    let attention = Scaling::yarn_attention(2.0);
    assert_eq!(scaled.rotary.scaling, Scaling::Yarn { factor: 2.0, fast: 32.0, slow: 1.0, original: 64, attention });
    let part = with("llama", "partial_rotary_factor", json!(0.5)).rotary;
    assert_eq!(part, Rotary { dims: 2, base: 10_000.0, scaling: Scaling::None });
    let mut folder = Folder::model("llama");
    folder.set("architectures", json!(["MistralForCausalLM"]));
    folder.set("sliding_window", json!(16));
    let local = folder.load().unwrap().local.unwrap();
    assert_eq!((local.window, local.layers), (16, vec![true]));
    folder.set("sliding_window", Value::Null);
    assert!(folder.load().unwrap().local.is_none());
}
