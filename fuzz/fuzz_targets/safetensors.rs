//! Any bytes as a safetensors file: opened and every tensor named, or refused.
#![no_main]

use densecore::Limits;
use densecore::weights::SafetensorsFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = SafetensorsFile::from_bytes("fuzz.safetensors", data, &Limits::default()) {
        assert!(file.header().len() <= data.len());
        assert!(file.names().all(|name| !name.is_empty()));
    }
});
