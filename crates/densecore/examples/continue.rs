//! Continues a text: `cargo run --release --example continue -- MODEL "Once upon a time"`.
#![allow(clippy::print_stdout)]
use densecore::generate::{GenerateOptions, Prompt, Segment};
use densecore::text::Message;
use densecore::{LoadOptions, Model};
use std::time::Instant;

fn main() -> densecore::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(text)) = (arguments.next(), arguments.next()) else {
        println!("usage: continue MODEL TEXT [chat]");
        return Ok(());
    };
    let chat = arguments.next().is_some();
    let start = Instant::now();
    let model = Model::load(std::path::Path::new(&path), &LoadOptions::default())?;
    println!("loaded {model:?} in {:.2} s", start.elapsed().as_secs_f64());
    let prompt =
        if chat { Prompt::chat(vec![Message::text("user", text)]) } else { Prompt::Plain(vec![Segment::Text(text)]) };
    let options = GenerateOptions { max_tokens: 100, ..GenerateOptions::default() };
    let answers = model.generate(&[prompt], &options, false, &mut |event| print!("{}", event.text))?;
    let usage = answers[0].usage;
    println!("\n{usage:?}: {:.1} tokens/s", usage.emitted_tokens as f64 / usage.seconds);
    Ok(())
}
