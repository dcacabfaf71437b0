//! Any bytes as a tokenizer.json: a tokenizer whose own output decodes to what went in, or an error.
#![no_main]

use std::sync::LazyLock;

use densecore::Limits;
use densecore::text::{Special, Tokenizer};
use libfuzzer_sys::fuzz_target;

/// The reader takes a path; one file for each process, in memory where the system has such a folder.
static FILE: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("densecore-fuzz-{}.json", std::process::id()))
});

fuzz_target!(|data: &[u8]| {
    std::fs::write(&*FILE, data).expect("the temporary folder is writable");
    let Ok(tokenizer) = Tokenizer::from_json(&FILE, &Limits::default()) else {
        return;
    };
    for text in ["", "Hello, wörld! 12345", "<|im_start|>user\n  a\u{301}\u{1f600}", "aaaa<s>aaaa</s>"] {
        for special in [Special::AsText, Special::Parse] {
            if let Ok(ids) = tokenizer.encode(text, special) {
                assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
                tokenizer.decode(&ids, true).expect("ids of the tokenizer decode");
            }
        }
    }
});
