//! Tokenizer, streams and chat templates on a tiny vocabulary.
#![allow(clippy::unwrap_used)]

mod chat;
mod special;
mod stop;
mod template;
mod tokenizer;

use densecore::text::{ChatTemplate, Tokenizer, Vocabulary};
use densecore::{Error, Limits};

/// Spelling of one byte in byte-level vocabularies.
fn spell(byte: u8) -> char {
    let own = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if own(byte) {
        return byte as char;
    }
    let before = (0..byte).filter(|b| !own(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

/// All bytes, a few merges, two control tokens and a user-defined one.
fn tokenizer(pre: &str) -> Tokenizer {
    let mut tokens: Vec<String> = (0..=255).map(|b| spell(b).to_string()).collect();
    let merges = ["a a", "aa aa", "h e", "l l", "he ll", "hell o", "Ġ hello", "Ġ a", "1 2"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut kinds = vec![1; tokens.len()];
    for (name, kind) in [("<|im_start|>", 3), ("<|im_end|>", 3), ("<tool>", 4), ("[PAD]", 5)] {
        tokens.push(name.into());
        kinds.push(kind);
    }
    let vocabulary = Vocabulary {
        tokens: tokens.iter().map(String::as_str).collect(),
        kinds,
        merges: merges.to_vec(),
        pre,
        bos: None,
        add_bos: None,
        eos: vec![266],
    };
    Tokenizer::from_vocabulary(&vocabulary, &Limits::default()).unwrap()
}

/// A small generator of numbers, so that cases repeat.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

const CHAT: &str = "{% for m in messages %}{{'<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n'}}{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn template(source: &str) -> Result<ChatTemplate, Error> {
    ChatTemplate::from_source(source, Some("<s>".into()), None, &Limits::default())
}
