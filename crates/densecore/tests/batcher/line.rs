//! The line for room: order, bounds, refusals, and what begins alike.

use crate::tiny::{BLOCK, Random, Tiny};
use crate::{prompt, tokens, watched};
use densecore::generate::{Cancel, Finish, GenerateOptions, Generation, Prompt, Salt, Tap};
use densecore::{Error, Limits, Model, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// An answer of 2 tokens after `ids`, which stops after its first until told to go on.
struct Held {
    go: Sender<()>,
    thread: std::thread::JoinHandle<Result<Vec<Generation>>>,
}

impl Held {
    fn start(model: &Model, ids: Vec<u32>) -> Self {
        let (go, wait): (Sender<()>, Receiver<()>) = channel();
        let (started, begun): (Sender<()>, Receiver<()>) = channel();
        let model = model.clone();
        let thread = std::thread::spawn(move || {
            let mut first = true;
            model.generate(&[prompt(&ids)], &tokens(2), false, &mut |_| {
                if std::mem::take(&mut first) {
                    started.send(()).unwrap();
                    let _ = wait.recv();
                }
            })
        });
        begun.recv().unwrap();
        Self { go, thread }
    }

    fn end(self) -> Generation {
        self.go.send(()).unwrap();
        self.thread.join().unwrap().unwrap().pop().unwrap()
    }
}

fn overloaded<T>(result: Result<T>, parts: &[&str]) {
    match result {
        Err(error @ Error::Overloaded { .. }) => {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} are not all in: {text}");
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted; expected a refusal about {parts:?}"),
    }
}

fn one(model: &Model, ids: &[u32], options: &GenerateOptions) -> Result<Generation> {
    Ok(model.generate(&[prompt(ids)], options, false, &mut |_| {})?.pop().unwrap())
}

#[test]
fn past_the_bounds_of_the_line_a_call_is_refused() {
    watched("bounds".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(1));
        let ids = random.ids(300);
        // Nobody may wait.
        let model = tiny.load(8, 0, Limits { queue: 0, ..Limits::default() });
        let held = Held::start(&model, ids.clone());
        overloaded(one(&model, &ids, &tokens(2)), &["320 positions", "192 of 512", "0 callers", "queue"]);
        // What fits, fits.
        assert_eq!(one(&model, &ids[..100], &tokens(2)).unwrap().ids.len(), 2);
        let expected = held.end();
        assert_eq!(one(&model, &ids, &tokens(2)).unwrap().ids, expected.ids);
        // Nobody may wait for long.
        let model = tiny.load(8, 0, Limits { queue_wait: Duration::from_millis(50), ..Limits::default() });
        let held = Held::start(&model, ids.clone());
        overloaded(one(&model, &ids, &tokens(2)), &["320 positions", "waited 0.1 seconds", "queue_seconds"]);
        let prompts = [prompt(&ids[..10]), prompt(&ids)];
        overloaded(model.generate(&prompts, &tokens(2), false, &mut |_| {}), &["320 positions", "192 of 512"]);
        assert_eq!(held.end().ids, expected.ids);
        // One may wait, and may be cancelled meanwhile.
        let model = tiny.load(8, 0, Limits { queue: 1, ..Limits::default() });
        let held = Held::start(&model, ids.clone());
        let (cancel, (tell, told)) = (Cancel::default(), channel());
        for _ in 0..2 {
            let (model, ids, cancel, tell) = (model.clone(), ids.clone(), cancel.clone(), tell.clone());
            std::thread::spawn(move || {
                let _ = tell.send(one(&model, &ids, &GenerateOptions { cancel, ..tokens(2) }));
            });
        }
        overloaded(told.recv().unwrap(), &["1 callers wait already", "queue"]);
        cancel.cancel();
        let answer = told.recv().unwrap().unwrap();
        assert_eq!((answer.finish, answer.ids), (Finish::Cancelled, Vec::new()));
        assert_eq!(held.end().ids, expected.ids);
        assert_eq!(model.memory().2, 0);
    });
}

#[test]
fn a_large_call_is_not_overtaken_by_small_ones() {
    watched("order".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(2));
        let ids = random.ids(450);
        let model = tiny.load(8, 0, Limits::default());
        let held = Held::start(&model, ids[..250].to_vec()); // 4 blocks
        let overtook = Arc::new(AtomicBool::new(false));
        let large = std::thread::spawn({
            let (model, ids) = (model.clone(), ids.clone());
            move || one(&model, &ids, &tokens(2)).unwrap() // 8 blocks
        });
        std::thread::sleep(Duration::from_millis(100));
        let small = std::thread::spawn({
            let (model, ids, overtook) = (model.clone(), ids[..20].to_vec(), Arc::clone(&overtook));
            move || {
                let answer = one(&model, &ids, &tokens(2)).unwrap(); // 1 block, of 4 that are free
                overtook.store(true, Ordering::SeqCst);
                answer
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        // However long one waits here: the large one cannot enter, so the small one must not.
        assert!(!overtook.load(Ordering::SeqCst), "a small call went before a large one that had come first");
        assert!(!large.is_finished());
        held.end();
        assert_eq!(large.join().unwrap().ids.len(), 2);
        assert_eq!(small.join().unwrap().ids.len(), 2);
    });
}

#[test]
fn a_list_of_many_goes_through_little_room() {
    watched("list".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(3));
        let trunk = random.ids(200);
        let prompts: Vec<Prompt> = (0..60)
            .map(|i| {
                let tail = 1 + i * 37 % 200;
                prompt(&[&trunk[..i * 13 % 150], &random.ids(tail)[..]].concat())
            })
            .collect();
        let options = tokens(9);
        let wide = tiny.load(4_096, 0, Limits::default());
        for kept in [0, 8] {
            let model = tiny.load(8, kept, Limits { queue: 0, ..Limits::default() });
            let answers = model.generate(&prompts, &options, false, &mut |_| {}).unwrap();
            for (prompt, answer) in prompts.iter().zip(&answers) {
                let alone = wide.generate(std::slice::from_ref(prompt), &options, false, &mut |_| {}).unwrap();
                assert_eq!(answer.ids, alone[0].ids);
                let (a, b) = (answer.usage, alone[0].usage);
                assert_eq!(a.positions + a.cached_positions, b.positions);
            }
            // The last waited for the first, and says so.
            assert!(answers[59].usage.waited_seconds > answers[0].usage.waited_seconds);
            assert!(model.memory().2 <= kept * BLOCK);
            let cancel = Cancel::default();
            assert_eq!(model.encode(&prompts, Tap::default(), false, &cancel).unwrap().len(), 60);
            // Contexts stay, so all of them would have to fit at once.
            let refused = model.prefill(&prompts, &Salt::default(), false, &cancel);
            assert!(matches!(refused, Err(Error::Memory { .. })), "{refused:?}");
            assert_eq!(model.prefill(&prompts[..4], &Salt::default(), false, &cancel).unwrap().len(), 4);
        }
    });
}

#[test]
fn contexts_in_hand_are_not_waited_for() {
    watched("contexts".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(4));
        let model = tiny.load(8, 8, Limits::default());
        let cancel = Cancel::default();
        let mut contexts = model
            .prefill(&[prompt(&random.ids(250)), prompt(&random.ids(200))], &Salt::default(), false, &cancel)
            .unwrap();
        let ids = random.ids(20);
        overloaded(one(&model, &ids, &tokens(2)), &["64 positions", "0 of 512", "drop contexts"]);
        overloaded(contexts[0].clone().extend(&prompt(&ids), false, &cancel), &["128 positions", "drop contexts"]);
        let bytes = contexts[1].export().unwrap();
        overloaded(model.import(&bytes, &cancel), &["256 positions"]);
        // What never fits is another matter.
        let never = contexts[0].generate(None, &tokens(262), false, &mut |_| {});
        assert!(matches!(never, Err(Error::Memory { .. })), "{never:?}");
        // The first block of both forks' end is copied, and one more is there for what follows.
        contexts.pop();
        let answer = contexts[0].generate(Some(&prompt(&ids)), &tokens(60), false, &mut |_| {}).unwrap();
        assert_eq!(answer[0].ids.len(), 60);
        assert_eq!(model.import(&bytes, &cancel).unwrap().len(), 200);
        contexts.clear();
        assert_eq!(one(&model, &ids, &tokens(400)).unwrap().ids.len(), 400);
    });
}

#[test]
fn callers_that_begin_alike_compute_the_beginning_once() {
    watched("claims".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(5));
        let trunk = random.ids(400);
        let model = tiny.load(4_096, 4_096, Limits::default());
        let wide = tiny.load(4_096, 0, Limits::default());
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let (model, barrier) = (model.clone(), Arc::clone(&barrier));
                let ids = [&trunk[..], &random.ids(10 + i)].concat();
                std::thread::spawn(move || {
                    barrier.wait();
                    (one(&model, &ids, &tokens(5)).unwrap(), ids)
                })
            })
            .collect();
        let mut computed = 0;
        for thread in threads {
            let (answer, ids) = thread.join().unwrap();
            let alone = one(&wide, &ids, &tokens(5)).unwrap();
            assert_eq!(answer.ids, alone.ids);
            assert_eq!(answer.usage.positions + answer.usage.cached_positions, alone.usage.positions);
            computed += answer.usage.positions;
        }
        // The common 6 blocks once (twice if one just missed the other), and the rest of each.
        assert!(computed <= 2 * 384 + 8 * (16 + 17 + 4), "{computed} positions were computed");
        // Whoever computes may be stopped: another takes over.
        let cancel = Cancel::default();
        cancel.cancel();
        let fresh = random.ids(400);
        assert_eq!(one(&model, &fresh, &GenerateOptions { cancel, ..tokens(5) }).unwrap().finish, Finish::Cancelled);
        assert_eq!(one(&model, &fresh, &tokens(5)).unwrap().ids, one(&wide, &fresh, &tokens(5)).unwrap().ids);
    });
}

#[test]
fn a_list_whose_beginning_a_context_holds_is_refused_before_it_begins() {
    watched("shared beginning".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(8));
        let (ids, other) = (random.ids(258), random.ids(440));
        let limits = Limits { queue_wait: Duration::from_millis(100), ..Limits::default() };
        let model = tiny.load(8, 4, limits);
        let held = model.prefill(&[prompt(&ids[..257])], &Salt::default(), false, &Cancel::default()).unwrap();
        // The first prompt finds 4 blocks that the context keeps; the second needs 7 of the 3 that are left.
        let mut events = 0;
        let prompts = [prompt(&ids), prompt(&other)];
        overloaded(model.generate(&prompts, &tokens(2), false, &mut |_| events += 1), &["drop contexts"]);
        assert_eq!(events, 0);
        drop(held);
        assert_eq!(model.generate(&prompts, &tokens(2), false, &mut |_| {}).unwrap().len(), 2);
    });
}

#[test]
fn where_there_is_room_nobody_waits() {
    watched("room for all".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(9));
        let model = tiny.load(8, 0, Limits { queue: 0, queue_wait: Duration::ZERO, ..Limits::default() });
        let barrier = Barrier::new(4);
        let prompts: Vec<Vec<u32>> = (0..4).map(|_| random.ids(20)).collect();
        std::thread::scope(|scope| {
            for ids in &prompts {
                let (model, barrier) = (&model, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..40 {
                        assert_eq!(one(model, ids, &tokens(2)).unwrap().ids.len(), 2);
                    }
                });
            }
        });
    });
}

#[test]
fn a_small_call_need_not_wait_for_the_end_of_a_long_list() {
    watched("a list and a small call".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(10));
        // Two of the list's sequences at a time; nothing is free for a third caller until one ends.
        let model = tiny.load(8, 0, Limits::default());
        let list: Vec<Prompt> = (0..40).map(|_| prompt(&random.ids(200))).collect();
        let ids = random.ids(20);
        let ended = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (begun, wait) = channel();
        let small = std::thread::spawn({
            let (model, ended) = (model.clone(), Arc::clone(&ended));
            move || {
                wait.recv().unwrap();
                let before = ended.load(Ordering::SeqCst);
                assert_eq!(one(&model, &ids, &tokens(2)).unwrap().ids.len(), 2);
                (before, ended.load(Ordering::SeqCst))
            }
        });
        let answers = model.generate(&list, &tokens(12), false, &mut |event| {
            let _ = begun.send(());
            std::thread::sleep(Duration::from_millis(2));
            if event.finish.is_some() {
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
        assert_eq!(answers.unwrap().len(), 40);
        let (before, after) = small.join().unwrap();
        assert!(after < before + 12, "a small call waited for {} sequences of a list", after - before);
    });
}

#[test]
fn a_list_at_work_takes_no_place_from_those_who_wait() {
    watched("a list and the bounds of the line".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(12));
        // One caller may wait: the list, which stands in the line between its prompts, is none of those.
        let model = tiny.load(8, 0, Limits { queue: 1, ..Limits::default() });
        let list: Vec<Prompt> = (0..60).map(|_| prompt(&random.ids(200))).collect();
        let over = Arc::new(AtomicBool::new(false));
        let (begun, wait) = channel();
        let small = std::thread::spawn({
            let (model, over) = (model.clone(), Arc::clone(&over));
            move || {
                wait.recv().unwrap();
                let mut served = 0;
                while served == 0 || !over.load(Ordering::SeqCst) {
                    let length = random.between(1, 60);
                    assert_eq!(one(&model, &random.ids(length), &tokens(2)).unwrap().ids.len(), 2);
                    served += 1;
                }
            }
        });
        let answers = model.generate(&list, &tokens(12), false, &mut |_| {
            let _ = begun.send(());
        });
        over.store(true, Ordering::SeqCst);
        assert_eq!(answers.unwrap().len(), 60);
        small.join().unwrap();
        assert_eq!(model.memory().2, 0);
    });
}

#[test]
fn what_has_begun_ends_whatever_contexts_others_want() {
    watched("a list and contexts".into(), || {
        let (tiny, mut random) = (Tiny::new(), Random::new(11));
        let model = tiny.load(8, 0, Limits { queue_wait: Duration::from_secs(30), ..Limits::default() });
        for _ in 0..10 {
            let list: Vec<Prompt> = (0..12).map(|i| prompt(&random.ids(if i == 11 { 300 } else { 100 }))).collect();
            let wanted: Vec<Vec<u32>> = (0..3).map(|_| random.ids(120)).collect();
            let (begun, wait) = channel();
            let contexts = std::thread::spawn({
                let model = model.clone();
                move || {
                    wait.recv().unwrap();
                    // Held until the list has ended or each was refused: the list's largest needs 5 of 8 blocks.
                    wanted
                        .iter()
                        .map(|ids| model.prefill(&[prompt(ids)], &Salt::default(), false, &Cancel::default()))
                        .collect::<Vec<_>>()
                }
            });
            let answers = model.generate(&list, &tokens(6), false, &mut |_| {
                let _ = begun.send(());
            });
            assert_eq!(answers.unwrap().len(), 12);
            drop(contexts.join().unwrap());
        }
        assert_eq!(model.memory().2, 0);
    });
}
