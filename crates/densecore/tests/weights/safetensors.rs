//! Safetensors files, folders and shard indexes that lie.

use densecore::Limits;
use densecore::weights::SafetensorsFile;
use serde_json::{Value, json};

use crate::files::{Folder, Scratch, Tensors, safetensors};
use crate::{load, read_safetensors, refused};

#[test]
fn every_truncation_of_a_safetensors_file_is_refused() {
    let bytes = safetensors(&Tensors::hf("llama"));
    assert!(read_safetensors(bytes.clone()).is_ok());
    for len in 0..bytes.len() {
        refused(read_safetensors(bytes[..len].to_vec()), "format", &["model.safetensors"]);
    }
    let mut longer = bytes;
    longer.push(0);
    refused(read_safetensors(longer), "format", &["1 bytes follow"]);
}

#[test]
fn every_flipped_header_bit_of_a_safetensors_file_is_an_error_or_a_valid_load() {
    let good = safetensors(&Tensors::hf("qwen2"));
    let header = read_safetensors(good.clone()).unwrap().header().len();
    let mut valid = 0;
    for bit in 0..header * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        valid += usize::from(read_safetensors(bytes).is_ok());
    }
    // A flip inside a name gives another valid file; the model check then misses the tensor.
    assert!(valid < header * 8);
}

#[test]
fn lying_safetensors_headers_are_named() {
    let file = |header: &str, payload: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + payload, 0);
        read_safetensors(bytes)
    };
    let one = |dtype: &str, shape: &str, offsets: &str, payload: usize| {
        file(&format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), payload)
    };
    assert!(one("F32", "[2,2]", "[0,16]", 16).is_ok());
    assert!(one("BF16", "[]", "[0,2]", 2).is_ok());
    refused(one("I32", "[2,2]", "[0,16]", 16), "unsupported", &["\"w\"", "I32", "BF16"]);
    refused(one("F8_E4M3", "[16]", "[0,16]", 16), "unsupported", &["F8_E4M3"]);
    refused(one("F32", "[2,0]", "[0,0]", 0), "format", &["dimension of 0"]);
    refused(one("F32", "[2,2]", "[0,12]", 16), "format", &["does not fill"]);
    refused(one("F32", "[2,2]", "[16,0]", 16), "format", &["does not fill"]);
    refused(one("F32", "[2,2]", "[4,20]", 20), "format", &["hole"]);
    refused(one("F32", "[2,2]", "[0,16]", 12), "format", &["cut short"]);
    refused(one("F32", "[2,2]", "[0,16]", 20), "format", &["4 bytes follow"]);
    refused(one("F32", "[4294967296,4294967296,4294967296]", "[0,16]", 16), "format", &["does not fill"]);
    refused(one("F32", "[18446744073709551615]", "[0,18446744073709551615]", 16), "format", &["does not fill"]);
    refused(one("F32", "[4611686018427387903]", "[0,18446744073709551612]", 16), "format", &["cut short"]);
    refused(one("F32", "[-2,2]", "[0,16]", 16), "format", &["header"]);
    refused(one("F32", "[2.5]", "[0,10]", 16), "format", &["header"]);
    refused(one("F32", "[1,1,1,1,4]", "[0,16]", 16), "format", &["dimensions"]);
    let deep = format!("[{}4]", "1,".repeat(100_000));
    refused(one("F32", &deep, "[0,16]", 16), "format", &["dimensions"]);
    refused(one("F32", "[4]", "[0,16,3]", 16), "format", &["header"]);
    refused(file("[]", 0), "format", &["'{'"]);
    refused(file("{", 0), "format", &["header"]);
    refused(file("{} x", 0), "format", &["header"]);
    refused(file(r#"{"__metadata__":{"a":1}}"#, 0), "format", &["header"]);
    refused(file(r#"{"w":{"dtype":"F32","shape":[1]}}"#, 4), "format", &["data_offsets"]);
    let twice = r#""w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    refused(file(&format!("{{{twice},{twice}}}"), 4), "format", &["\"w\"", "twice"]);
    let other = r#""v":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    refused(file(&format!("{{{twice},{other}}}"), 4), "format", &["overlaps"]);
    let partly = r#""v":{"dtype":"F16","shape":[3],"data_offsets":[2,8]}"#;
    refused(file(&format!("{{{twice},{partly}}}"), 8), "format", &["overlaps"]);
    let nested = format!(r#"{{"w":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    refused(file(&nested, 0), "format", &["header"]);
    let mut raw = 8u64.to_le_bytes().to_vec();
    raw.extend_from_slice(b"{\"\xff\xfe\":1");
    refused(read_safetensors(raw), "format", &["header"]);
    refused(read_safetensors(vec![255; 64]), "limit", &["header length", "100000000"]);
    let limits = Limits { tensors: 2, ..Limits::default() };
    let bytes = safetensors(&Tensors::hf("llama"));
    refused(SafetensorsFile::from_bytes("m", bytes, &limits), "format", &["more than 2 tensors"]);
}

#[test]
fn folders_without_their_files_are_named() {
    let empty = Scratch::new();
    refused(load(empty.path()), "missing", &["model.safetensors"]);
    refused(load(&empty.path().join("none.gguf")), "missing", &["none.gguf"]);
    let folder = Folder::model("llama");
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    refused(load(folder.path()), "missing", &["config.json"]);
    for text in ["", "[]", "{", "{\"a\":NaN}", "\u{0}"] {
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        refused(load(folder.path()), "format", &["config.json"]);
    }
    std::fs::write(folder.path().join("config.json"), vec![b' '; (4 << 20) + 1]).unwrap();
    refused(load(folder.path()), "limit", &["config.json"]);
}

#[test]
fn lying_shard_indexes_are_named() {
    let folder = Folder::model("llama");
    folder.shard();
    let good = folder.read_index();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut index = good.clone();
        change(&mut index);
        folder.write_json("model.safetensors.index.json", &index);
        load(folder.path())
    };
    for escape in [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "..",
        ".",
        "",
        "x.bin",
        "a\\b.safetensors",
        "C:x.safetensors",
    ] {
        refused(with(&|i| i["weight_map"]["model.norm.weight"] = json!(escape)), "format", &["shard", "same folder"]);
    }
    refused(
        with(&|i| i["weight_map"]["model.norm.weight"] = json!("gone.safetensors")),
        "missing",
        &["gone.safetensors"],
    );
    refused(with(&|i| i["weight_map"]["extra"] = json!("part-0.safetensors")), "format", &["part-0.safetensors"]);
    let moved = json!("part-1.safetensors");
    refused(
        with(&|i| i["weight_map"]["model.embed_tokens.weight"] = moved.clone()),
        "format",
        &["model.embed_tokens.weight"],
    );
    refused(with(&|i| i["weight_map"]["model.norm.weight"] = json!(3)), "format", &["index"]);
    refused(with(&|i| i["weight_map"] = json!({})), "format", &["empty"]);
    refused(with(&|i| *i = json!({})), "format", &["weight_map"]);
    let twice = r#"{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}"#;
    std::fs::write(folder.path().join("model.safetensors.index.json"), twice).unwrap();
    refused(load(folder.path()), "format", &["twice"]);
    let twice = r#"{"weight_map":{},"weight_map":{}}"#;
    std::fs::write(folder.path().join("model.safetensors.index.json"), twice).unwrap();
    refused(load(folder.path()), "format", &["weight_map"]);
}

#[cfg(unix)]
#[test]
fn pipes_are_refused_without_waiting() {
    let scratch = Scratch::new();
    let pipe = scratch.path().join("pipe.gguf");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        refused(load(&pipe), "missing", &["regular file"]);
    }
}
