//! Special tokens in a text: found as by trying all of them everywhere, in one pass.

use densecore::text::{Special, Tokenizer, Vocabulary};
use densecore::{Error, Limits};

use crate::{random, spell};

/// All bytes, and these control tokens.
fn with_tokens(names: &[String], limits: &Limits) -> Result<Tokenizer, Error> {
    let bytes: Vec<String> = (0..=255).map(|byte| spell(byte).to_string()).collect();
    let tokens: Vec<&str> = bytes.iter().chain(names).map(String::as_str).collect();
    let mut kinds = vec![1; 256];
    kinds.resize(tokens.len(), 3);
    let vocabulary =
        Vocabulary { tokens, kinds, merges: Vec::new(), pre: "qwen2", bos: None, add_bos: None, eos: Vec::new() };
    Tokenizer::from_vocabulary(&vocabulary, limits)
}

/// What is to come out: every token tried at every place, the longest first, then the lowest id, then the leftmost.
fn expected(names: &[String], text: &str) -> Vec<u32> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|number| (std::cmp::Reverse(names[*number].len()), *number));
    let mut taken = vec![None; text.len()];
    for number in order {
        let name = &names[number];
        for start in 0..text.len() {
            let range = start..start + name.len();
            if text[start..].starts_with(name.as_str()) && taken[range.clone()].iter().all(Option::is_none) {
                taken[range].fill(Some((start, number)));
            }
        }
    }
    let mut ids = Vec::new();
    let mut last = None;
    for (place, token) in taken.into_iter().enumerate() {
        match token {
            None => ids.push(u32::from(text.as_bytes()[place])),
            Some(token) if last != Some(token) => ids.push(256 + token.1 as u32),
            Some(_) => {}
        }
        last = token;
    }
    ids
}

fn word(state: &mut u64, longest: u64, letters: u64) -> String {
    (0..=random(state) % longest).map(|_| char::from(b'a' + (random(state) % letters) as u8)).collect()
}

#[test]
fn they_are_found_as_by_trying_all_everywhere() {
    let mut state = 3;
    for round in 0..4_000_u64 {
        let (letters, longest) = (1 + round % 3, 1 + round % 9);
        let mut names: Vec<String> =
            (0..=random(&mut state) % 12).map(|_| word(&mut state, longest, letters) + "a").collect();
        names.sort_unstable();
        names.dedup();
        // Single letters are ordinary tokens already; then in an order that is not that of the alphabet.
        names.retain(|name| name.len() > 1);
        names.sort_by_key(|name| name.bytes().map(u64::from).fold(round, |hash, byte| hash.wrapping_mul(31) ^ byte));
        let t = with_tokens(&names, &Limits::default()).unwrap();
        let text = word(&mut state, 60, letters);
        assert_eq!(t.encode(&text, Special::Parse).unwrap(), expected(&names, &text), "{names:?} in {text}");
    }
}

#[test]
fn a_longer_one_further_right_takes_its_part_first() {
    let names = ["aab", "bcdef", "ba"].map(String::from);
    let t = with_tokens(&names, &Limits::default()).unwrap();
    let ids = |text: &str| t.encode(text, Special::Parse).unwrap();
    assert_eq!(ids("aabcdef"), [97, 97, 257]);
    assert_eq!(ids("aaba"), [256, 97]);
    assert_eq!(ids("baab"), [98, 256]);
}

/// Trying all of these everywhere gives some 10^9 candidates, which take 16 GB.
#[test]
fn many_that_begin_and_end_alike_take_one_pass() {
    let names: Vec<String> = (2..=1_000).map(|length| "a".repeat(length)).collect();
    let t = with_tokens(&names, &Limits::default()).unwrap();
    let ids = t.encode(&"a".repeat(1_000_003), Special::Parse).unwrap();
    assert_eq!(ids.len(), 1_001);
    assert!(ids[..1_000].iter().all(|id| *id == 256 + 998) && ids[1_000] == 256 + 1);
    let text = format!("{}b", "a".repeat(999)).repeat(1_000);
    assert_eq!(t.encode(&text, Special::Parse).unwrap().len(), 2_000);
}

#[test]
fn a_hundred_thousand_are_found_or_refused_by_name() {
    let names: Vec<String> = (0..100_000).map(|number| format!("<|a{number}|>")).collect();
    let limits = Limits::default();
    let t = with_tokens(&names, &limits).unwrap();
    let text = names[77_000..77_100].concat() + "<|a7";
    let ids = t.encode(&text, Special::Parse).unwrap();
    assert_eq!(ids[..100], (256 + 77_000..256 + 77_100).collect::<Vec<u32>>());
    let long: Vec<String> = (0..100_000).map(|number| format!("{number}{}", "a".repeat(100))).collect();
    let error = with_tokens(&long, &limits).unwrap_err();
    assert!(matches!(&error, Error::Limit { cap, .. } if *cap == limits.special_names as u64), "{error}");
}
