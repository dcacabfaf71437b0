//! Any text as a chat template: rendered within its budget, or an error.
#![no_main]

use densecore::Limits;
use densecore::text::{ChatTemplate, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    // A small budget keeps one run short; the caps themselves are what is tested.
    let limits = Limits { template_fuel: 100_000, template_output: 1 << 16, ..Limits::default() };
    let Ok(template) = ChatTemplate::from_source(source, Some("<s>".into()), Some("</s>".into()), &limits) else {
        return;
    };
    let messages = [Message::text("system", "Be brief."), Message::text("user", "Hi {{ there }} <|im_end|>")];
    if let Ok(text) = template.render(&messages, true) {
        assert!(text.len() <= limits.template_output);
    }
});
