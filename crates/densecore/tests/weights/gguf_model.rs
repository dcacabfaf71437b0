//! GGUF models that the engine must refuse.

use crate::files::{Gguf, Meta};
use crate::{load_gguf, refused};
use densecore::arch::Scaling;

#[test]
fn gguf_features_that_would_be_ignored_are_refused() {
    let with = |key: &str, meta: Meta| {
        let mut file = Gguf::model("llama");
        file.set(key, meta);
        load_gguf(file.bytes())
    };
    for kind in ["longrope", "llama3", "dynamic"] {
        refused(with("llama.rope.scaling.type", Meta::Str(kind.into())), "unsupported", &["RoPE scaling", kind]);
    }
    assert!(with("llama.rope.scaling.type", Meta::Str("none".into())).is_ok());
    refused(with("llama.rope.scaling.factor", Meta::F32(8.0)), "unsupported", &["RoPE scaling", "8"]);
    refused(with("llama.rope.scale_linear", Meta::F32(2.0)), "unsupported", &["RoPE scaling", "2"]);
    refused(
        with("llama.rope.scaling.yarn_log_multiplier", Meta::F32(0.1)),
        "unsupported",
        &["RoPE scaling", "yarn_log"],
    );
    refused(with("llama.attention.sliding_window", Meta::U32(4096)), "unsupported", &["sliding-window", "4096"]);
    assert!(with("llama.attention.sliding_window", Meta::U32(0)).is_ok());
    refused(with("llama.expert_count", Meta::U32(8)), "unsupported", &["experts", "8"]);
    refused(with("llama.final_logit_softcapping", Meta::F32(30.0)), "unsupported", &["soft-capping", "30"]);
    refused(with("llama.logit_scale", Meta::F32(0.5)), "unsupported", &["logit_scale"]);
    refused(with("llama.attention.causal", Meta::Bool(0)), "unsupported", &["causal"]);
    refused(with("llama.rope.dimension_count", Meta::U32(3)), "format", &["3 of the 4", "even part"]);
    refused(with("llama.rope.dimension_count", Meta::U32(6)), "format", &["6 of the 4"]);
    refused(with("llama.attention.key_length", Meta::U32(8)), "unsupported", &["different widths"]);
    refused(with("split.count", Meta::U32(4)), "unsupported", &["split", "4 parts"]);
    refused(with("general.architecture", Meta::Str("gemma2".into())), "unsupported", &["gemma2", "Qwen3ForCausalLM"]);
    let mut file = Gguf::model("llama");
    file.tensors.f32("rope_freqs.weight", &[3]);
    refused(load_gguf(file.bytes()), "format", &["rope_freqs", "[3]", "[2]"]);
    let mut file = Gguf::model("llama");
    file.tensors.f32("rope_freqs.weight", &[2]);
    file.set("llama.rope.scaling.type", Meta::Str("yarn".into()));
    refused(load_gguf(file.bytes()), "unsupported", &["RoPE scaling", "rope_freqs"]);
    let mut file = Gguf::model("llama");
    file.tensors.f32("blk.0.attn_q.bias", &[8]);
    refused(load_gguf(file.bytes()), "unsupported", &["blk.0.attn_q.bias"]);
}

#[test]
fn gguf_scaling_is_read() {
    let with = |list: &[(&str, Meta)]| {
        let mut file = Gguf::model("llama");
        for (key, meta) in list {
            file.set(key, meta.clone());
        }
        load_gguf(file.bytes()).unwrap().rotary
    };
    let named = |name: &str| ("llama.rope.scaling.type", Meta::Str(name.into()));
    let factor = ("llama.rope.scaling.factor", Meta::F32(4.0));
    assert_eq!(with(&[named("linear"), factor.clone()]).scaling, Scaling::Linear { factor: 4.0 });
    let attention = Scaling::yarn_attention(4.0);
    let yarn = Scaling::Yarn { factor: 4.0, fast: 32.0, slow: 1.0, original: 16, attention };
    let original = ("llama.rope.scaling.original_context_length", Meta::U32(16));
    assert_eq!(with(&[named("yarn"), factor, original]).scaling, yarn);
    assert_eq!(with(&[("llama.rope.dimension_count", Meta::U32(2))]).dims, 2);
    let mut file = Gguf::model("llama");
    file.tensors.f32("rope_freqs.weight", &[2]);
    let listed = load_gguf(file.bytes()).unwrap().rotary.scaling;
    assert!(matches!(listed, Scaling::Listed(divisors) if divisors.len() == 2));
}

#[test]
fn gguf_numbers_out_of_bounds_or_at_odds_are_refused() {
    let with = |key: &str, meta: Meta| {
        let mut file = Gguf::model("llama");
        file.set(key, meta);
        load_gguf(file.bytes())
    };
    refused(with("llama.block_count", Meta::U32(0)), "format", &["layers is 0"]);
    refused(with("llama.block_count", Meta::U32(2)), "format", &["blk.1.attn_norm.weight", "missing"]);
    refused(with("llama.block_count", Meta::U32(u32::MAX)), "limit", &["layers", "4294967295"]);
    refused(with("llama.block_count", Meta::I32(-1)), "format", &["block_count", "-1"]);
    refused(with("llama.block_count", Meta::Str("1".into())), "format", &["block_count", "integer"]);
    refused(with("llama.attention.head_count", Meta::U32(0)), "format", &["0 heads"]);
    refused(with("llama.attention.head_count", Meta::U32(3)), "format", &["3 heads"]);
    refused(with("llama.attention.head_count_kv", Meta::U32(0)), "format", &["key-value heads is 0"]);
    refused(with("llama.attention.head_count_kv", Meta::U32(3)), "format", &["evenly"]);
    refused(with("llama.attention.head_count", Meta::U32(8)), "format", &["odd"]);
    refused(with("llama.embedding_length", Meta::U32(16)), "format", &["shape"]);
    refused(with("llama.embedding_length", Meta::U32(1 << 30)), "limit", &["hidden width"]);
    refused(with("llama.feed_forward_length", Meta::U32(13)), "format", &["ffn_gate", "[12, 8]", "[13, 8]"]);
    refused(with("llama.context_length", Meta::U32(1 << 30)), "limit", &["context"]);
    refused(with("llama.vocab_size", Meta::U32(7)), "format", &["vocab_size", "7", "6 rows"]);
    for eps in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(with("llama.attention.layer_norm_rms_epsilon", Meta::F32(eps)), "format", &["epsilon"]);
    }
    for base in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refused(with("llama.rope.freq_base", Meta::F32(base)), "format", &["rotary base"]);
    }
    refused(with("tokenizer.ggml.eos_token_id", Meta::U32(6)), "format", &["id 6", "6 tokens"]);
    refused(with("tokenizer.ggml.tokens", Meta::Strs(vec!["a".into(); 5])), "format", &["5 tokens", "6 rows"]);
    let without = |key: &str| {
        let mut file = Gguf::model("llama");
        file.metadata.retain(|(k, _)| k != key);
        load_gguf(file.bytes())
    };
    for key in ["general.architecture", "llama.block_count", "llama.context_length", "llama.attention.head_count"] {
        refused(without(key), "format", &[key, "missing"]);
    }
    let mut file = Gguf::model("qwen2");
    file.tensors.get("blk.0.attn_k.bias").name = "blk.0.attn_x.bias".into();
    refused(load_gguf(file.bytes()), "format", &["blk.0.attn_k.bias", "missing"]);
    let mut file = Gguf::model("llama");
    file.tensors.0.clear();
    refused(load_gguf(file.bytes()), "format", &["token_embd.weight"]);
}
