//! GGUF headers that lie.

use densecore::Limits;
use densecore::weights::GgufFile;

use crate::files::{Gguf, Meta, Tensors};
use crate::{load_gguf, read_gguf, refused};

#[test]
fn every_truncation_of_a_gguf_is_refused() {
    let bytes = Gguf::model("qwen2").bytes();
    for len in 0..bytes.len() {
        refused(read_gguf(bytes[..len].to_vec()), "format", &["model.gguf"]);
    }
}

#[test]
fn every_flipped_header_bit_of_a_gguf_is_an_error_or_a_valid_load() {
    let good = Gguf::model("qwen3").bytes();
    let header = read_gguf(good.clone()).unwrap().header().len();
    for bit in 0..header * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(config) = load_gguf(bytes) {
            assert!(config.layers > 0 && config.vocab == 6, "bit {bit}");
        }
    }
}

#[test]
fn wrong_magic_version_and_byte_order_are_named() {
    let edit = |at: usize, with: &[u8]| {
        let mut bytes = Gguf::model("llama").bytes();
        bytes[at..at + with.len()].copy_from_slice(with);
        read_gguf(bytes)
    };
    refused(edit(0, b"PK\x03\x04"), "format", &["GGUF", r"PK\x03\x04"]);
    refused(edit(4, &1u32.to_le_bytes()), "unsupported", &["version", "1"]);
    refused(edit(4, &4u32.to_le_bytes()), "unsupported", &["version", "4"]);
    refused(edit(4, &3u32.to_be_bytes()), "unsupported", &["big-endian"]);
    refused(read_gguf(vec![]), "format", &["magic"]);
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
    for (at, what) in [(8, "tensors"), (16, "metadata entries")] {
        for count in [u64::MAX, u64::MAX / 16, 1 << 40, 100_000] {
            let mut bytes = Gguf::model("llama").bytes();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            refused(read_gguf(bytes), "format", &[what, &count.to_string()]);
        }
    }
}

#[test]
fn counts_over_their_caps_are_refused() {
    let limits = Limits { tensors: 3, ..Limits::default() };
    let bytes = Gguf::model("llama").bytes();
    refused(GgufFile::from_bytes("m", bytes.clone(), &limits), "limit", &["tensors", "3"]);
    let limits = Limits { metadata_entries: 2, ..Limits::default() };
    refused(GgufFile::from_bytes("m", bytes.clone(), &limits), "limit", &["metadata", "2"]);
    let limits = Limits { metadata_array: 5, ..Limits::default() };
    refused(GgufFile::from_bytes("m", bytes.clone(), &limits), "limit", &["tokens", "6", "5"]);
    let limits = Limits { metadata_string: 1, ..Limits::default() };
    refused(GgufFile::from_bytes("m", bytes.clone(), &limits), "limit", &["architecture"]);
    let limits = Limits { metadata_key: 5, ..Limits::default() };
    refused(GgufFile::from_bytes("m", bytes, &limits), "limit", &["key"]);
}

#[test]
fn lying_metadata_is_named() {
    let with = |key: &str, meta: Meta| {
        let mut file = Gguf::model("llama");
        file.metadata.push((key.into(), meta));
        read_gguf(file.bytes())
    };
    refused(with("x", Meta::Raw(99, vec![0; 8])), "format", &["\"x\"", "99"]);
    refused(with("x", Meta::Raw(13, vec![])), "format", &["\"x\"", "13"]);
    refused(with("x", Meta::Bool(2)), "format", &["\"x\"", "2"]);
    refused(with("", Meta::U32(1)), "format", &["empty key"]);
    refused(with("llama.block_count", Meta::U32(1)), "format", &["block_count", "twice"]);
    refused(with("x", Meta::Raw(8, u64::MAX.to_le_bytes().to_vec())), "format", &["x", "left"]);
    let text = [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    refused(with("x", Meta::Raw(8, text)), "format", &["UTF-8"]);
    refused(with("x", Meta::array(9, 1, &[])), "format", &["array of type 9"]);
    refused(with("x", Meta::array(77, 1, &[])), "format", &["array of type 77"]);
    refused(with("x", Meta::array(10, u64::MAX / 8, &[])), "format", &["claims"]);
    refused(with("x", Meta::array(8, u64::MAX, &[])), "format", &["claims"]);
    refused(with("x", Meta::array(5, 1 << 62, &[])), "format", &["claims"]);
    refused(with("x", Meta::array(8, 1, &1_000_000u64.to_le_bytes())), "format", &["1000000"]);
    for bad in [0u32, 1, 3, 33, 1 << 20, u32::MAX] {
        refused(with("general.alignment", Meta::U32(bad)), "format", &["alignment", &bad.to_string()]);
    }
    refused(with("general.alignment", Meta::Str("32".into())), "format", &["alignment"]);
}

#[test]
fn keys_that_are_not_utf8_are_refused() {
    let mut bytes = Gguf::model("llama").bytes();
    bytes[24 + 8] = 0xc0;
    refused(read_gguf(bytes), "format", &["metadata entry 0", "UTF-8"]);
}

#[test]
fn a_larger_alignment_is_obeyed() {
    let mut file = Gguf::model("llama");
    file.alignment = 64;
    file.set("general.alignment", Meta::U32(64));
    assert!(load_gguf(file.bytes()).is_ok());
    file.alignment = 128;
    file.set("general.alignment", Meta::U32(128));
    refused(read_gguf(file.bytes()), "format", &["alignment 128"]);
}

#[test]
fn lying_tensor_records_are_named() {
    let edit = |change: &dyn Fn(&mut Tensors)| {
        let mut file = Gguf::model("llama");
        change(&mut file.tensors);
        read_gguf(file.bytes())
    };
    let refuse = |kind: &str, parts: &[&str], change: &dyn Fn(&mut Tensors)| {
        refused(edit(change), kind, parts);
    };
    refuse("unsupported", &["blk.0.attn_q.weight", "GGML type 10", "Q4_K"], &|t| {
        t.get("blk.0.attn_q.weight").kind = 10;
    });
    refuse("unsupported", &["GGML type 4294967295"], &|t| {
        t.get("output_norm.weight").kind = u32::MAX;
    });
    refuse("format", &["dimension of 0"], &|t| {
        t.get("token_embd.weight").dims = vec![8, 0];
    });
    refuse("format", &["0 dimensions"], &|t| {
        t.get("token_embd.weight").dims = vec![];
    });
    refuse("format", &["5 dimensions"], &|t| {
        t.get("token_embd.weight").dims = vec![1; 5];
    });
    refuse("format", &["impossible"], &|t| {
        t.get("token_embd.weight").dims = vec![1 << 40, 1 << 40];
    });
    refuse("format", &["impossible"], &|t| {
        t.get("token_embd.weight").dims = vec![u64::MAX];
    });
    refuse("format", &["impossible", "32"], &|t| {
        t.get("token_embd.weight").kind = 8;
    });
    refuse("format", &["cut short"], &|t| {
        t.get("token_embd.weight").dims = vec![8, 1 << 50];
    });
    refuse("format", &["multiple of the alignment"], &|t| {
        t.get("output_norm.weight").offset += 4;
    });
    refuse("format", &["cut short"], &|t| {
        t.get("output_norm.weight").offset = 1 << 40;
    });
    refuse("format", &["cut short"], &|t| {
        t.get("output_norm.weight").offset = u64::MAX - 31;
    });
    refuse("format", &["share bytes"], &|t| {
        t.get("output_norm.weight").offset = 0;
    });
    refuse("format", &["share bytes"], &|t| {
        t.get("token_embd.weight").dims = vec![8, 20];
    });
    refuse("format", &["output_norm.weight", "twice"], &|t| {
        t.get("blk.0.ffn_norm.weight").name = "output_norm.weight".into();
    });
    refuse("format", &["empty name"], &|t| {
        t.get("output_norm.weight").name = String::new();
    });
}

#[test]
fn a_tensor_name_beyond_the_file_is_refused() {
    let file = Gguf::model("llama");
    let mut bytes = file.bytes();
    let at = file.tensor_start();
    bytes[at..at + 8].copy_from_slice(&(1u64 << 33).to_le_bytes());
    refused(read_gguf(bytes.clone()), "format", &["tensor 0", "8589934592"]);
    bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(read_gguf(bytes), "format", &["tensor 0"]);
}
