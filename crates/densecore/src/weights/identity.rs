//! A cheap, stable identity of a model's content.

use sha2::{Digest, Sha256};

use super::mmap::Map;
use super::source::Weights;

/// Payload blocks sampled over all files.
const SAMPLES: u64 = 64;
/// Bytes of one sample: a page.
const SAMPLE: u64 = 4096;

/// See [`Weights::fingerprint`].
pub(super) fn fingerprint(weights: &Weights) -> String {
    let mut hash = Sha256::new();
    let arch = match weights {
        Weights::Gguf(file) => {
            hash.update(file.header());
            sample(&mut hash, file.map(), file.header().len());
            file.meta_str("general.architecture").ok().flatten().unwrap_or_default()
        }
        Weights::Safetensors(dir) => {
            hash.update(dir.config_source());
            for file in dir.files() {
                hash.update(file.header());
                sample(&mut hash, file.map(), file.header().len());
            }
            dir.config().get("model_type").and_then(|v| v.as_str()).unwrap_or_default()
        }
    };
    let mut id: String = arch.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    if id.is_empty() {
        id.push_str("model");
    }
    id.push('-');
    let digest = hash.finalize();
    let digits = digest.iter().take(8).flat_map(|byte| [byte >> 4, byte & 15]);
    id.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
    id
}

/// Length and evenly spread blocks of the bytes after the header.
fn sample(hash: &mut Sha256, map: &Map, header: usize) {
    let file = map.bytes();
    hash.update((file.len() as u64).to_le_bytes());
    let payload = &file[header..];
    let len = payload.len() as u64;
    if len <= SAMPLES * SAMPLE {
        hash.update(payload);
        return;
    }
    for i in 0..SAMPLES {
        let start = (u128::from(len - SAMPLE) * u128::from(i) / u128::from(SAMPLES - 1)) as usize;
        hash.update(&payload[start..start + SAMPLE as usize]);
    }
    // Each touched page brings neighbours with it; none of them is needed yet.
    map.release(header, payload.len());
}
