//! Any bytes as a tokenizer.json: a tokenizer whose own output decodes, or an error.
#![no_main]

use std::sync::LazyLock;

use densecore::Limits;
use densecore::text::{Special, Tokenizer};
use libfuzzer_sys::fuzz_target;

/// The reader takes a path; one file for each process, rewritten for each input.
static FILE: LazyLock<std::path::PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("densecore-fuzz-{}.json", std::process::id())));

fuzz_target!(|data: &[u8]| {
    std::fs::write(&*FILE, data).expect("the temporary folder is writable");
    let Ok(tokenizer) = Tokenizer::from_json(&FILE, &Limits::default()) else {
        return;
    };
    for text in ["", "Hello, wörld! 12345", "<|im_start|>user\n  a\u{301}\u{1f600}"] {
        for special in [Special::AsText, Special::Parse] {
            if let Ok(ids) = tokenizer.encode(text, special) {
                let _ = tokenizer.decode(&ids, true);
            }
        }
    }
});
