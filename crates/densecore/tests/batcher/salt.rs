//! Kept prefixes of one salt are found by calls of that salt alone.

use crate::tiny::{Random, Tiny};
use crate::{prompt, tokens};
use densecore::generate::{Cancel, GenerateOptions, Mode, Salt, Thinking};
use densecore::{Error, Limits, Model};

fn found(model: &Model, ids: &[u32], salt: &Salt) -> usize {
    let options = GenerateOptions { cache_salt: salt.clone(), ..tokens(1) };
    model.generate(&[prompt(ids)], &options, false, &mut |_| {}).unwrap()[0].usage.cached_positions
}

#[test]
fn what_one_salt_keeps_no_other_finds() {
    let (tiny, mut random) = (Tiny::new(), Random::new(21));
    let model = tiny.load(4_096, 4_096, Limits::default());
    let ids = random.ids(200);
    let salts = [Salt::default(), Salt::of("a"), Salt::of("b"), Salt::of("\0".repeat(32)), Salt::of("a".repeat(256))];
    for salt in &salts {
        assert_eq!([found(&model, &ids, salt), found(&model, &ids, salt)], [0, 192]);
    }
    // A salt and the ids behind it are not taken for one another.
    assert_eq!(found(&model, &ids[1..], &Salt::of("a")), 0);
}

#[test]
fn every_call_keeps_and_finds_under_its_salt() {
    let (tiny, mut random) = (Tiny::new(), Random::new(22));
    let model = tiny.load(4_096, 4_096, Limits::default());
    let (ids, cancel) = (random.ids(200), Cancel::default());
    let [prefilled, scored, thought] = ["prefill", "score", "think"].map(Salt::of);
    let context = model.prefill(&[prompt(&ids)], &prefilled, false, &cancel).unwrap().pop().unwrap();
    let pairs = [(prompt(&ids), vec![3])];
    assert_eq!(model.score(&pairs, 0, &scored, false, &cancel).unwrap()[0].usage.cached_positions, 0);
    let thinking = Thinking {
        steps: 2,
        mode: Mode::Token,
        temperature: 1.0,
        top_k: 1,
        stop: Vec::new(),
        ignore_eos: true,
        cache_salt: thought.clone(),
    };
    assert_eq!(model.think(&[prompt(&ids)], &thinking, false, &cancel).unwrap()[0].usage.cached_positions, 0);
    for salt in [&prefilled, &scored, &thought] {
        assert_eq!(found(&model, &ids, salt), 192);
    }
    assert_eq!(found(&model, &ids, &Salt::default()), 0);
    // A context read again from its beginning finds what its prefill kept.
    let mut empty = context.clone();
    empty.truncate(0).unwrap();
    let again = empty.generate(Some(&prompt(&ids)), &tokens(1), false, &mut |_| {}).unwrap();
    assert_eq!(again[0].usage.cached_positions, 192);
}

#[test]
fn a_salt_is_bounded_and_not_shown() {
    let (tiny, mut random) = (Tiny::new(), Random::new(23));
    let (model, cancel) = (tiny.load(64, 64, Limits::default()), Cancel::default());
    let prompts = [prompt(&random.ids(3))];
    for salt in [Salt::of(""), Salt::of("secret".repeat(50))] {
        let refused = |error: Error| {
            let told = error.to_string();
            assert!(told.contains("cache_salt") && told.contains("256") && !told.contains("secret"), "{told}");
        };
        let options = GenerateOptions { cache_salt: salt.clone(), ..tokens(1) };
        refused(model.generate(&prompts, &options, false, &mut |_| {}).unwrap_err());
        refused(model.prefill(&prompts, &salt, false, &cancel).unwrap_err());
        refused(model.score(&[(prompts[0].clone(), vec![1])], 0, &salt, false, &cancel).unwrap_err());
        assert!(!format!("{options:?}").contains("secret"));
    }
}
