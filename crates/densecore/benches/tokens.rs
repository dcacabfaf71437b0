//! Tokens per second of each path, on whichever model `DENSECORE_BENCH_MODEL` names (a GGUF file or a folder).
//!
//! `DENSECORE_BENCH_MODEL=model.gguf cargo bench -p densecore`; without a model it says so and measures nothing.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use densecore::generate::{Cancel, GenerateOptions, Mode, Prompt, Salt, Segment, Tap, Thinking};
use densecore::{LoadOptions, Model};
use std::path::Path;
use std::time::Duration;

/// A prompt of `n` scattered ids.
fn prompt(model: &Model, n: usize) -> Prompt {
    let vocab = model.config().vocab as u64;
    let ids = (0..n as u64).map(|i| ((i * 2_654_435_761 + 12_345) % vocab) as u32).collect();
    Prompt::Plain(vec![Segment::Ids(ids)])
}

fn tokens_per_second(criterion: &mut Criterion) {
    let Ok(path) = std::env::var("DENSECORE_BENCH_MODEL") else {
        eprintln!("set DENSECORE_BENCH_MODEL to a GGUF file or a model folder to measure it");
        return;
    };
    // The same prompt comes again and again: nothing may be kept of it.
    let options = LoadOptions { prefix_bytes: Some(0), ..LoadOptions::default() };
    let model = match Model::load(Path::new(&path), &options) {
        Ok(model) => model,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    let cancel = Cancel::default();
    let mut group = criterion.benchmark_group("tokens");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));

    let long = [prompt(&model, 512)];
    group.throughput(Throughput::Elements(512));
    group.bench_function("prefill 512", |b| b.iter(|| model.prefill(&long, &Salt::default(), false, &cancel)));
    group.bench_function("encode 512", |b| b.iter(|| model.encode(&long, Tap::default(), false, &cancel)));

    let Ok(contexts) = model.prefill(&[prompt(&model, 128)], &Salt::default(), false, &cancel) else { return };
    let context = &contexts[0];
    let steps = 16;
    group.throughput(Throughput::Elements(steps as u64));
    let options = GenerateOptions { max_tokens: steps, ignore_eos: true, ..GenerateOptions::default() };
    group.bench_function("decode after 128", |b| b.iter(|| context.generate(None, &options, false, &mut |_| {})));
    for (name, mode) in [("mixture", Mode::Mixture), ("state", Mode::State), ("token", Mode::Token)] {
        let thinking = Thinking {
            steps,
            mode,
            temperature: 1.0,
            top_k: 10,
            stop: Vec::new(),
            ignore_eos: true,
            cache_salt: Salt::default(),
        };
        group.bench_function(format!("latent steps, {name}"), |b| {
            b.iter(|| context.think(None, &thinking, false, &cancel));
        });
    }
    for batch in [8usize, 32] {
        let prompts: Vec<Prompt> = (0..batch).map(|i| prompt(&model, 16 + i % 3)).collect();
        group.throughput(Throughput::Elements((batch * steps) as u64));
        group.bench_function(format!("generate, {batch} prompts of 16"), |b| {
            b.iter(|| model.generate(&prompts, &options, false, &mut |_| {}));
        });
    }
    group.finish();
}

criterion_group!(benches, tokens_per_second);
criterion_main!(benches);
