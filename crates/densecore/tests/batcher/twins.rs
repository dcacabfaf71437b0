//! Several answers to one prompt: it is read once, and each answer is what it would be alone.

use crate::tiny::{Random, Tiny};
use crate::{prompt, tokens, watched};
use densecore::generate::{Cancel, GenerateOptions, Generation, Prompt, Salt, Sampling};
use densecore::{Limits, Model};

/// `n` answers to each prompt, drawn, so that they differ.
fn options(n: usize, max_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature: 1.5, ..Sampling::default() };
    GenerateOptions { n, seeds: vec![7], sampling, ..tokens(max_tokens) }
}

fn answers(model: &Model, prompts: &[Prompt], n: usize, max_tokens: usize) -> Vec<Generation> {
    model.generate(prompts, &options(n, max_tokens), false, &mut |_| {}).unwrap()
}

#[test]
fn a_prompt_is_read_once_for_all_its_answers() {
    let (tiny, mut random) = (Tiny::new(), Random::new(31));
    let plain = tiny.load(4_096, 0, Limits::default());
    for kept in [0, 4_096] {
        let model = tiny.load(4_096, kept, Limits::default());
        for length in [1, 63, 64, 65, 128, 200, 450] {
            for max_tokens in [1, 2, 60] {
                let one = prompt(&random.ids(length));
                let found = answers(&model, std::slice::from_ref(&one), 5, max_tokens);
                // The same draws, each of a prompt of its own.
                let alone = answers(&plain, &vec![one; 5], 1, max_tokens);
                for (i, (answer, alone)) in found.iter().zip(&alone).enumerate() {
                    assert_eq!(answer.ids, alone.ids);
                    let usage = answer.usage;
                    assert_eq!(usage.prompt_tokens, length);
                    assert_eq!(usage.cached_positions, if i == 0 { 0 } else { length }, "answer {i} of {length} ids");
                    assert_eq!(usage.positions + usage.cached_positions, alone.usage.positions);
                }
                assert!(max_tokens < 60 || found[0].ids != found[1].ids, "they are drawn from one stream");
            }
        }
        assert!(kept > 0 || model.memory().2 == 0, "blocks are left over");
    }
}

#[test]
fn answers_that_find_no_room_together_come_one_after_the_other() {
    watched("answers and little room".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(32));
        let plain = tiny.load(4_096, 0, Limits::default());
        // Room for one answer to the longest, and for several to the others.
        for kept in [0, 8] {
            let model = tiny.load(8, kept, Limits::default());
            for length in [30, 100, 200, 300, 400] {
                let prompts = [prompt(&random.ids(length)), prompt(&random.ids(length / 2))];
                let found = answers(&model, &prompts, 6, 70);
                let twice: Vec<Prompt> = prompts.iter().flat_map(|one| vec![one.clone(); 6]).collect();
                for (answer, alone) in found.iter().zip(answers(&plain, &twice, 1, 70)) {
                    assert_eq!(answer.ids, alone.ids);
                    assert_eq!(answer.usage.positions + answer.usage.cached_positions, alone.usage.positions);
                }
            }
        }
    });
}

#[test]
fn answers_after_a_context_read_what_follows_it_once() {
    let (tiny, mut random) = (Tiny::new(), Random::new(33));
    let model = tiny.load(4_096, 0, Limits::default());
    for (held, more) in [(1, 1), (63, 1), (64, 30), (100, 28), (100, 90)] {
        let ids = random.ids(held);
        let context =
            model.prefill(&[prompt(&ids)], &Salt::default(), false, &Cancel::default()).unwrap().pop().unwrap();
        let next = prompt(&random.ids(more));
        let found = context.generate(Some(&next), &options(4, 40), false, &mut |_| {}).unwrap();
        for (i, answer) in found.iter().enumerate() {
            let usage = answer.usage;
            assert_eq!(usage.cached_positions, held + if i == 0 { 0 } else { more });
            assert_eq!(usage.positions + usage.cached_positions, held + more + 39);
        }
        // Nothing that one wrote reached another, or the context.
        for (i, answer) in found.iter().enumerate() {
            let fork = context.clone().generate(Some(&next), &options(i + 1, 40), false, &mut |_| {}).unwrap();
            assert_eq!(fork[i].ids, answer.ids);
        }
        let bare = context.generate(None, &options(3, 40), false, &mut |_| {}).unwrap();
        assert!(bare.iter().all(|answer| answer.usage.cached_positions == held && answer.usage.positions == 39));
    }
}
