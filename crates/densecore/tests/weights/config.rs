//! config.json files that the engine must refuse.

use serde_json::{Value, json};

use crate::files::Folder;
use crate::refused;

#[test]
fn config_features_that_would_be_ignored_are_refused() {
    let with = |arch: &str, key: &str, value: Value| {
        let mut folder = Folder::model(arch);
        folder.set(key, value);
        folder.load()
    };
    for kind in ["dynamic", "longrope", "mrope"] {
        let value = json!({"rope_type": kind, "factor": 4.0, "rope_theta": 10000.0});
        refused(with("qwen2", "rope_parameters", value), "unsupported", &["RoPE scaling", kind]);
        let value = json!({"type": kind, "factor": 4.0});
        refused(with("llama", "rope_scaling", value), "unsupported", &["RoPE scaling", kind]);
    }
    // A known kind that lacks a number, has one that makes no sense, or one that is not computed.
    for (value, kind, said) in [
        (json!({"type": "linear"}), "format", "factor is missing"),
        (json!({"type": "linear", "factor": "x"}), "format", "factor"),
        (json!({"type": "linear", "factor": 0.0}), "format", "makes no sense"),
        (json!({"type": "llama3", "factor": 8.0}), "format", "low_freq_factor is missing"),
        (
            json!({"type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}),
            "format",
            "no sense",
        ),
        (json!({"type": "yarn", "factor": 4.0, "mscale": 0.7}), "unsupported", "mscale"),
        (json!({"type": "yarn", "factor": 4.0, "beta_fast": 1.0, "beta_slow": 2.0}), "format", "no sense"),
        (json!({"type": "yarn", "factor": 4.0, "truncate": false}), "unsupported", "truncate"),
    ] {
        refused(with("llama", "rope_scaling", value), kind, &[said]);
    }
    refused(with("llama", "rope_scaling", json!({"factor": 2.0})), "unsupported", &["RoPE scaling", "2"]);
    refused(with("llama", "rope_scaling", json!({"other_attention": {}})), "unsupported", &["RoPE scaling"]);
    refused(with("llama", "rope_scaling", json!(2.0)), "format", &["rope_scaling"]);
    refused(with("llama", "rope_theta", json!(77.0)), "format", &["rope_theta", "agree"]);
    refused(with("llama", "partial_rotary_factor", json!(0.75)), "format", &["even part"]);
    refused(with("llama", "partial_rotary_factor", json!(2)), "format", &["8 of the 4"]);
    refused(with("qwen2", "layer_types", json!(["sliding_attention"])), "unsupported", &["sliding-window"]);
    refused(with("qwen2", "layer_types", json!(["full_attention", "full_attention"])), "format", &["layer_types"]);
    refused(with("llama", "sliding_window", json!(1024)), "unsupported", &["sliding-window", "1024"]);
    let mut folder = Folder::model("qwen2");
    for (key, value) in
        [("use_sliding_window", json!(true)), ("sliding_window", json!(64)), ("max_window_layers", json!(0))]
    {
        folder.set(key, value);
    }
    // A list of full layers contradicts the window that is switched on.
    folder.set("layer_types", json!(["full_attention"]));
    refused(folder.load(), "unsupported", &["sliding-window", "64"]);
    folder.config.remove("layer_types");
    refused(folder.load(), "unsupported", &["sliding-window", "64"]);
    refused(with("llama", "hidden_act", json!("gelu")), "unsupported", &["gelu"]);
    refused(with("llama", "attention_bias", json!(true)), "unsupported", &["attention_bias"]);
    refused(with("llama", "mlp_bias", json!(true)), "unsupported", &["mlp_bias"]);
    refused(with("qwen3", "attention_bias", json!(true)), "unsupported", &["attention_bias"]);
    refused(with("qwen3", "num_experts", json!(64)), "unsupported", &["experts", "64"]);
    refused(with("llama", "quantization_config", json!({"bits": 4})), "unsupported", &["quantised"]);
    refused(
        with("llama", "architectures", json!(["GPT2LMHeadModel"])),
        "unsupported",
        &["GPT2LMHeadModel", "LlamaForCausalLM"],
    );
    refused(with("llama", "architectures", json!([])), "unsupported", &["architecture"]);
    refused(with("llama", "architectures", json!(7)), "format", &["architectures"]);
}

#[test]
fn config_numbers_out_of_bounds_or_at_odds_are_refused() {
    let with = |key: &str, value: Value| {
        let mut folder = Folder::model("llama");
        folder.set(key, value);
        folder.load()
    };
    refused(with("num_hidden_layers", json!(-1)), "format", &["num_hidden_layers", "-1"]);
    refused(with("num_hidden_layers", json!(1.5)), "format", &["num_hidden_layers", "1.5"]);
    refused(with("num_hidden_layers", json!(1e30)), "format", &["num_hidden_layers"]);
    refused(with("num_hidden_layers", json!(100_000)), "limit", &["layers", "100000"]);
    refused(with("hidden_size", Value::Null), "format", &["hidden_size is missing"]);
    refused(with("head_dim", json!(3)), "format", &["odd"]);
    refused(with("head_dim", json!(1 << 18)), "limit", &["attention width"]);
    refused(with("num_key_value_heads", json!(3)), "format", &["evenly"]);
    refused(with("vocab_size", json!(7)), "format", &["embed_tokens", "[6, 8]", "[7, 8]"]);
    refused(with("rms_norm_eps", json!(0)), "format", &["epsilon"]);
    refused(with("rms_norm_eps", json!("small")), "format", &["rms_norm_eps"]);
    refused(with("eos_token_id", json!(600)), "format", &["600"]);
    refused(with("eos_token_id", json!([1, "x"])), "format", &["eos_token_id"]);
    refused(with("tie_word_embeddings", json!("yes")), "format", &["tie_word_embeddings"]);
    let mut folder = Folder::model("llama");
    folder.tensors.0.retain(|t| t.name != "lm_head.weight");
    refused(folder.load(), "format", &["lm_head.weight", "tie_word_embeddings"]);
    folder.set("tie_word_embeddings", json!(true));
    assert!(folder.load().unwrap().tied);
    let mut folder = Folder::model("llama");
    folder.tensors.f32("model.layers.0.mlp.up_proj.bias", &[12]);
    refused(folder.load(), "unsupported", &["up_proj.bias"]);
}
