//! Random calls from several threads: random lengths, lists, forks, latent steps and cancels, each compared with the
//! same call alone on a model with all the room it wants.

use crate::tiny::{BLOCK, CONTEXT, Random, Tiny};
use crate::{prompt, tokens, watched};
use densecore::generate::{
    Cancel, Event, Finish, GenerateOptions, Generation, Mode, Pooling, Prompt, Salt, Sampling, Tap, Thinking,
};
use densecore::{Error, Limits, Model, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const THREADS: usize = 5;
const CALLS: usize = 40;
/// What the contexts of one thread hold at most, see [`Work::Fork`].
const HELD: u64 = 6;
/// Room for all contexts at their largest and one longest sequence: with nobody at work, anybody can enter, so nothing
/// may ever be refused.
const CAP: u64 = THREADS as u64 * HELD + (CONTEXT as u64).div_ceil(64);

/// What a thread does next.
#[derive(Debug, Clone)]
enum Work {
    Generate {
        prompts: Vec<Vec<u32>>,
        n: usize,
        max_tokens: usize,
        temperature: f32,
        seed: u64,
        ignore_eos: bool,
    },
    Score {
        pairs: Vec<(Vec<u32>, Vec<u32>)>,
    },
    Encode {
        prompts: Vec<Vec<u32>>,
        layer: usize,
    },
    /// Contexts of at most 100, 130 and 108 positions, which share their first: 6 blocks.
    Fork {
        trunk: Vec<u32>,
        more: Vec<u32>,
        question: Vec<u32>,
        steps: usize,
        cut: usize,
        max_tokens: usize,
    },
}

/// When to cancel.
#[derive(Debug, Clone, Copy)]
enum Stop {
    Never,
    Before,
    /// At the event of this number.
    Event(usize),
    /// After so many microseconds, wherever it is then: in the line, say.
    Later(u64),
}

/// What came of it: ids, and floats as their bits.
type Outcome = Vec<(Vec<u32>, Option<Finish>)>;

/// Prompts that often begin alike.
fn ids(random: &mut Random, trunks: &[Vec<u32>], most: usize) -> Vec<u32> {
    let trunk = &trunks[random.between(0, trunks.len() - 1)];
    let mut ids = trunk[..random.between(0, trunk.len().min(most - 1))].to_vec();
    let longest = if random.once_in(6) { most } else { 40 };
    let tail = random.between(1, longest.min(most - ids.len()));
    ids.extend(random.ids(tail));
    ids
}

fn work(random: &mut Random, trunks: &[Vec<u32>]) -> Work {
    let several = |random: &mut Random| if random.once_in(3) { random.between(2, 14) } else { 1 };
    match random.between(0, 9) {
        0..=5 => {
            let max_tokens = random.between(1, 40);
            let count = several(random);
            let prompts = (0..count).map(|_| ids(random, trunks, CONTEXT - max_tokens)).collect();
            let temperature = if random.once_in(2) { 0.0 } else { 0.9 };
            let n = if random.once_in(3) { random.between(2, 4) } else { 1 };
            Work::Generate { prompts, n, max_tokens, temperature, seed: random.next(), ignore_eos: random.once_in(2) }
        }
        6 => {
            let count = several(random);
            let pair = |random: &mut Random| {
                let target = random.between(1, 80);
                (ids(random, trunks, CONTEXT - target), random.ids(target))
            };
            Work::Score { pairs: (0..count).map(|_| pair(random)).collect() }
        }
        7 => {
            let count = several(random);
            let prompts = (0..count).map(|_| ids(random, trunks, CONTEXT)).collect();
            Work::Encode { prompts, layer: random.between(0, 2) }
        }
        _ => {
            let trunk = ids(random, trunks, 100);
            let (more, question) = (random.between(1, 30), random.between(1, 20));
            Work::Fork {
                cut: random.between(1, trunk.len()),
                trunk,
                more: random.ids(more),
                question: random.ids(question),
                steps: random.between(1, 8),
                max_tokens: random.between(1, 40),
            }
        }
    }
}

/// The events of one call: each answer ends once, after its last token, and says what the result says.
#[derive(Default)]
struct Told {
    ids: Vec<Vec<u32>>,
    texts: Vec<String>,
    ends: Vec<Vec<Finish>>,
    events: usize,
}

impl Told {
    fn new(prompts: usize) -> Self {
        let (ids, texts, ends) = (vec![Vec::new(); prompts], vec![String::new(); prompts], vec![Vec::new(); prompts]);
        Self { ids, texts, ends, events: 0 }
    }

    fn hear(&mut self, event: &Event) {
        assert!(self.ends[event.index].is_empty(), "an answer went on after its end");
        self.ids[event.index].extend(&event.ids);
        self.texts[event.index].push_str(&event.text);
        self.ends[event.index].extend(event.finish);
        self.events += 1;
    }

    fn check(&self, answers: &[Generation]) {
        assert_eq!(self.ids.len(), answers.len());
        for (i, answer) in answers.iter().enumerate() {
            assert_eq!(self.ends[i], [answer.finish], "an answer did not end exactly once");
            assert_eq!((&self.ids[i], &self.texts[i]), (&answer.ids, &answer.text));
        }
    }
}

fn outcome(answers: Vec<Generation>) -> Outcome {
    answers.into_iter().map(|a| (a.ids, Some(a.finish))).collect()
}

fn run(model: &Model, work: &Work, cancel: &Cancel, stop: Stop) -> Result<Outcome> {
    let bits = |floats: &[f32]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
    match work {
        Work::Generate { prompts, n, max_tokens, temperature, seed, ignore_eos } => {
            let options = GenerateOptions {
                n: *n,
                max_tokens: *max_tokens,
                sampling: Sampling { temperature: *temperature, ..Sampling::default() },
                seeds: (0..prompts.len() as u64).map(|i| seed.wrapping_add(i)).collect(),
                ignore_eos: *ignore_eos,
                cancel: cancel.clone(),
                ..GenerateOptions::default()
            };
            let prompts: Vec<Prompt> = prompts.iter().map(|ids| prompt(ids)).collect();
            let mut told = Told::new(prompts.len() * n);
            let answers = model.generate(&prompts, &options, false, &mut |event| {
                told.hear(event);
                if matches!(stop, Stop::Event(n) if told.events == n) {
                    cancel.cancel();
                }
            })?;
            told.check(&answers);
            Ok(outcome(answers))
        }
        Work::Score { pairs } => {
            let pairs: Vec<_> = pairs.iter().map(|(ids, target)| (prompt(ids), target.clone())).collect();
            let scores = model.score(&pairs, 0, &Salt::default(), false, cancel)?;
            Ok(scores.iter().map(|s| (s.tokens.iter().map(|t| t.logprob.to_bits()).collect(), None)).collect())
        }
        Work::Encode { prompts, layer } => {
            let prompts: Vec<Prompt> = prompts.iter().map(|ids| prompt(ids)).collect();
            let tap = Tap { layer: Some(*layer), normed: None, pool: Pooling::Mean };
            let states = model.encode(&prompts, tap, false, cancel)?;
            Ok(states.iter().map(|h| (bits(&h.to_vec()), None)).collect())
        }
        Work::Fork { trunk, more, question, steps, cut, max_tokens } => {
            let options = GenerateOptions { cancel: cancel.clone(), ..tokens(*max_tokens) };
            let several = GenerateOptions { n: 3, ..options.clone() };
            let mut all = Vec::new();
            let mut context = model.prefill(&[prompt(trunk)], &Salt::default(), false, cancel)?.pop().unwrap();
            let mut fork = context.clone();
            fork.extend(&prompt(more), false, cancel)?;
            all.extend(context.generate(Some(&prompt(question)), &several, false, &mut |_| {})?);
            all.extend(fork.generate(None, &options, false, &mut |_| {})?);
            drop(fork);
            let thinking = Thinking {
                steps: *steps,
                mode: Mode::Mixture,
                temperature: 1.0,
                top_k: 8,
                stop: Vec::new(),
                ignore_eos: true,
                cache_salt: Salt::default(),
            };
            let thought = context.think(None, &thinking, false, cancel)?;
            all.extend(thought.context.generate(None, &options, false, &mut |_| {})?);
            context.truncate(*cut)?;
            all.extend(context.generate(None, &options, false, &mut |_| {})?);
            let mut outcome = outcome(all);
            outcome.push((bits(&thought.vectors.to_vec()), None));
            Ok(outcome)
        }
    }
}

/// Compares a call with the same alone; what was cancelled is a beginning of it.
fn compare(found: Result<Outcome>, alone: &Outcome, stop: Stop) {
    let may_stop = !matches!(stop, Stop::Never);
    let found = match found {
        Err(Error::Cancelled) if may_stop => return,
        other => other.unwrap(),
    };
    assert_eq!(found.len(), alone.len());
    for ((found, finish), (alone, end)) in found.iter().zip(alone) {
        if *finish == Some(Finish::Cancelled) {
            assert!(may_stop, "cancelled by nobody");
            assert!(alone.starts_with(found), "{found:?} does not begin {alone:?}");
        } else {
            assert_eq!((found, finish), (alone, end));
        }
    }
}

fn storm(tiny: &Tiny, kept: u64, seed: u64) {
    let limits = Limits { queue_wait: Duration::from_secs(600), ..Limits::default() };
    let model = tiny.load(CAP, kept, limits);
    // One at a time there: alone.
    let alone = Mutex::new(tiny.load(4_096, 0, Limits::default()));
    let mut random = Random::new(seed);
    let trunks: Vec<Vec<u32>> = (0..3).map(|_| random.ids(CONTEXT - 50)).collect();
    let (left, over, waited) = (AtomicUsize::new(THREADS), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (model, alone, trunks, left, over, waited) = (&model, &alone, &trunks, &left, &over, &waited);
            scope.spawn(move || {
                let _end = End(left);
                let mut random = Random::new(seed ^ (thread as u64 + 1) << 40);
                for _ in 0..CALLS {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let work = work(&mut random, trunks);
                    let stop = match random.between(0, 9) {
                        0 => Stop::Before,
                        1 => Stop::Event(random.between(1, 60)),
                        2 => Stop::Later(random.between(0, 20_000) as u64),
                        _ => Stop::Never,
                    };
                    let cancel = Cancel::default();
                    if matches!(stop, Stop::Before) {
                        cancel.cancel();
                    }
                    let found = std::thread::scope(|scope| {
                        if let Stop::Later(micros) = stop {
                            let cancel = cancel.clone();
                            scope.spawn(move || {
                                std::thread::sleep(Duration::from_micros(micros));
                                cancel.cancel();
                            });
                        }
                        run(model, &work, &cancel, stop)
                    });
                    if matches!(found, Err(ref e) if !matches!(e, Error::Cancelled)) {
                        over.store(true, Ordering::Relaxed);
                    }
                    let expected = {
                        let alone = alone.lock().unwrap();
                        run(&alone, &work, &Cancel::default(), Stop::Never).unwrap()
                    };
                    compare(found, &expected, stop);
                    waited.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The cap holds at every moment.
        while left.load(Ordering::Relaxed) > 0 {
            let (_, _, used, allowed) = model.memory();
            assert!(used <= allowed, "{used} bytes of keys and values, {allowed} allowed");
            std::thread::sleep(Duration::from_micros(300));
        }
    });
    assert_eq!(waited.load(Ordering::Relaxed), THREADS * CALLS);
    // All room came back: kept prefixes are left, and they go when somebody needs all of it.
    assert!(model.memory().2 <= kept * BLOCK);
    let mut fillers: Vec<Prompt> = (0..CAP / 8).map(|_| prompt(&random.ids(CONTEXT))).collect();
    if !CAP.is_multiple_of(8) {
        fillers.push(prompt(&random.ids((CAP % 8) as usize * 64)));
    }
    let contexts = model.prefill(&fillers, &Salt::default(), false, &Cancel::default()).unwrap();
    assert_eq!(model.memory().2, CAP * BLOCK);
    drop(contexts);
    assert!(model.memory().2 <= kept * BLOCK);
}

/// Counts a thread out, also when it fails.
struct End<'a>(&'a AtomicUsize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn random_calls_under_a_tight_cap_answer_as_alone() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // Fresh each run; a failure names the one to repeat.
    let seed = std::env::var("DENSECORE_SEED").map_or(now.as_nanos() as u64, |text| text.parse().unwrap());
    watched(format!("repeat with DENSECORE_SEED={seed}"), move || {
        let tiny = Tiny::new();
        for kept in [0, 5, CAP] {
            storm(&tiny, kept, seed ^ kept);
        }
    });
}
