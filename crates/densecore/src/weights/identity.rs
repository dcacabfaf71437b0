//! A cheap, stable identity of a model's content.

use sha2::{Digest, Sha256};

use super::regular;
use super::source::Weights;

/// Bytes of one sample: a page.
const SAMPLE: usize = 4096;
/// What the text of a safetensors model is made by.
const TEXT_FILES: [&str; 4] =
    ["generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];
/// Bytes such a file may have; tokenizers have some ten million.
const TEXT_FILE: u64 = 256 << 20;

/// See [`Weights::fingerprint`].
pub(super) fn fingerprint(weights: &Weights) -> String {
    let mut hash = Sha256::new();
    let arch = match weights {
        Weights::Gguf(file) => {
            hash.update(file.header());
            hash.update((file.map().bytes().len() as u64).to_le_bytes());
            file.meta_str("general.architecture").ok().flatten().unwrap_or_default()
        }
        Weights::Safetensors(dir) => {
            hash.update(dir.config_source());
            for file in dir.files() {
                hash.update(file.header());
                hash.update((file.map().bytes().len() as u64).to_le_bytes());
            }
            for name in TEXT_FILES {
                // What cannot be read now was refused when the tokenizer was made.
                let text = regular::read_if_there(&dir.path().join(name), TEXT_FILE).ok().flatten().unwrap_or_default();
                hash.update(Sha256::digest(&text));
            }
            dir.config().get("model_type").and_then(|v| v.as_str()).unwrap_or_default()
        }
    };
    for name in weights.names() {
        if let Some(view) = weights.find(name) {
            for part in samples(view.data) {
                hash.update(part);
            }
            // Each touched page brings neighbours with it; none of them is needed yet.
            weights.release(&view);
        }
    }
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

/// Both ends of a tensor and its middle. What trains a matrix moves all of its numbers; new rows of an embedding alone go
/// unseen unless they are among these.
fn samples(data: &[u8]) -> Vec<&[u8]> {
    if data.len() <= 3 * SAMPLE {
        return vec![data];
    }
    let middle = (data.len() - SAMPLE) / 2;
    vec![&data[..SAMPLE], &data[middle..middle + SAMPLE], &data[data.len() - SAMPLE..]]
}
