//! Any bytes as a GGUF file: opened, described, and every tensor and string touched, or refused.
#![no_main]

use densecore::Limits;
use densecore::weights::{GgufFile, Weights};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let Ok(file) = GgufFile::from_bytes("fuzz.gguf", data, &limits) else {
        return;
    };
    for key in file.meta_keys() {
        let _ = file.meta_u64(key);
        let _ = file.meta_f32(key);
        let _ = file.meta_bool(key);
        let _ = file.meta_str(key);
        let _ = file.meta_str_array(key).map(Iterator::count);
        let _ = file.meta_i32_array(key).map(Iterator::count);
        let _ = file.meta_f32_array(key).map(Iterator::count);
    }
    let weights = Weights::Gguf(file);
    for name in weights.names() {
        let view = weights.tensor(name).expect("a listed tensor is found");
        let row = *view.shape.last().expect("a tensor has dimensions");
        let rows: usize = view.shape.iter().rev().skip(1).product();
        assert_eq!(Some(view.data.len()), view.format.row_bytes(row).map(|bytes| bytes * rows));
    }
    if let Ok(config) = weights.config(&limits) {
        assert_eq!(config.heads % config.kv_heads, 0);
    }
    let _ = weights.fingerprint();
});
