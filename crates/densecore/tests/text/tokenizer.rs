//! Words, merges, special tokens in text, streams and damaged vocabularies.

use std::time::{Duration, Instant};

use densecore::Limits;
use densecore::text::{PreTokenizer, Special, Tokenizer, Vocabulary};

use crate::{random, tokenizer};

fn pieces(pre: &str, text: &str) -> Vec<String> {
    let mut out = Vec::new();
    PreTokenizer::named(pre).unwrap().split(text, |word| out.push(word.to_string()));
    assert_eq!(out.concat(), text);
    out
}

#[test]
fn words_are_cut_as_the_families_do() {
    assert_eq!(
        pieces("qwen2", "I'LL go 123  x\r\n\n y!?\n"),
        ["I", "'LL", " go", " ", "1", "2", "3", " ", " x", "\r\n\n", " y", "!?\n"]
    );
    assert_eq!(pieces("llama-bpe", "12345 a"), ["123", "45", " a"]);
    assert_eq!(pieces("smollm", "I'LL 12 go  "), ["I", "'", "LL", " ", "1", "2", " go", "  "]);
    assert_eq!(pieces("gpt-2", "it's 12 go"), ["it", "'s", " 12", " go"]);
    assert_eq!(pieces("default", "a12345!b"), ["a", "123", "45", "!", "b"]);
    assert_eq!(pieces("qwen2", "e\u{301}x"), ["e", "\u{301}x"]);
    assert_eq!(pieces("qwen35", "e\u{301}x"), ["e\u{301}x"]);
    assert!(pieces("qwen2", "").is_empty());
}

#[test]
fn unknown_pre_tokenizer_is_refused_by_name() {
    let error = PreTokenizer::named("tekken").unwrap_err().to_string();
    assert!(error.contains("tekken") && error.contains("qwen2"), "{error}");
}

#[test]
fn merges_follow_their_rank() {
    let t = tokenizer("qwen2");
    let id = |name: &str| t.id_of(name).unwrap();
    assert_eq!(t.encode("hello hello", Special::AsText).unwrap(), [id("hello"), id("Ġhello")]);
    assert_eq!(t.encode("aaaaa", Special::AsText).unwrap(), [id("aaaa"), id("a")]);
    assert_eq!(t.encode("12", Special::AsText).unwrap(), [id("1"), id("2")]);
    assert!(t.encode("", Special::AsText).unwrap().is_empty());
    // Long words take the other algorithm: the same result.
    let long = t.encode(&"a".repeat(4_001), Special::AsText).unwrap();
    assert_eq!((long.len(), long[999], long[1000]), (1001, id("aaaa"), id("a")));
}

#[test]
fn special_tokens_in_text_stay_text() {
    let t = tokenizer("qwen2");
    let end = t.id_of("<|im_end|>").unwrap();
    let text = "a<|im_end|><tool>b";
    let plain = t.encode(text, Special::AsText).unwrap();
    assert!(!plain.contains(&end) && plain.contains(&t.id_of("<tool>").unwrap()));
    assert!(t.encode(text, Special::Parse).unwrap().contains(&end));
    assert_eq!(t.decode(&plain, true).unwrap(), text);
    assert_eq!(t.decode(&[end, 97], false).unwrap(), "a");
    assert_eq!(t.decode(&[end, 97], true).unwrap(), "<|im_end|>a");
    assert_eq!(t.eos(), [266]);
    assert_eq!(t.special_tokens().count(), 3);
}

#[test]
fn streams_join_to_the_whole() {
    let t = tokenizer("qwen2");
    let mut state = 7;
    for round in 0..3_000 {
        let mut ids: Vec<u32> = t.encode("é中👍 hello", Special::AsText).unwrap();
        if round > 0 {
            ids = (0..random(&mut state) % 40).map(|_| (random(&mut state) % t.vocab_size() as u64) as u32).collect();
        }
        let mut stream = t.stream_with_special();
        let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text += &stream.finish();
        assert_eq!(text, t.decode(&ids, true).unwrap());
    }
    let mut stream = t.stream();
    let parts: Vec<String> = "👍".bytes().map(|b| stream.push(u32::from(b))).collect();
    assert_eq!(parts, ["", "", "", "👍"]);
}

#[test]
fn every_id_has_bytes_and_others_are_refused() {
    let t = tokenizer("qwen2");
    assert!((0..t.vocab_size() as u32).all(|id| !t.token_bytes(id).unwrap().is_empty()));
    assert!(t.decode(&[99_999], true).unwrap_err().to_string().contains("99999"));
}

#[test]
fn a_megabyte_without_white_space_is_quick() {
    for pre in ["qwen2", "smollm", "llama-bpe", "default"] {
        for unit in ["a", "1", " ", "\n", "中", "!"] {
            let start = Instant::now();
            tokenizer(pre).encode(&unit.repeat(300_000), Special::AsText).unwrap();
            assert!(start.elapsed() < Duration::from_secs(5), "{pre} {unit:?}");
        }
    }
}

#[test]
fn damaged_vocabularies_are_refused() {
    let limits = Limits::default();
    let make = |tokens: Vec<&'static str>, merges, kinds, eos| {
        Tokenizer::from_vocabulary(
            &Vocabulary { tokens, merges, kinds, pre: "qwen2", bos: None, add_bos: None, eos },
            &limits,
        )
    };
    assert!(make(vec![], vec![], vec![], vec![]).is_err());
    assert!(make(vec!["a", "a"], vec![], vec![], vec![]).is_err());
    assert!(make(vec!["a"], vec!["ab"], vec![], vec![]).is_err());
    assert!(make(vec!["a"], vec![], vec![1, 1], vec![]).is_err());
    assert!(make(vec!["a"], vec![], vec![], vec![7]).is_err());
}
