//! Any text as a chat template, with any message: rendered within its bounds, or a named error.
#![no_main]

use std::time::Duration;

use densecore::generate::Cancel;
use densecore::text::{ChatTemplate, Message};
use densecore::{Error, Limits};
use libfuzzer_sys::fuzz_target;

/// Before it stands the template, behind it what the user says.
const CUT: char = '\u{1}';

fuzz_target!(|input: &str| {
    let (source, said) = input.split_once(CUT).unwrap_or((input, "Hi {{ there }} <|im_end|>"));
    // Small bounds keep one run short; that they hold is what is tested. No input may need the time to end it.
    let limits = Limits {
        template_fuel: 100_000,
        template_output: 1 << 16,
        template_time: Duration::from_secs(60),
        ..Limits::default()
    };
    let Ok(template) = ChatTemplate::from_source(source, Some("<s>".into()), Some("</s>".into()), &limits) else {
        return;
    };
    let messages = [
        Message::text("system", "Be brief."),
        Message::text("user", said),
        Message::text("assistant", "<think>\nno\n</think>\n\nyes"),
    ];
    match template.render(&messages, true, &Cancel::default()) {
        Ok(text) => assert!(text.len() <= limits.template_output),
        Err(Error::Template(what)) => {
            assert!(what.len() < 4_096);
            assert!(!what.contains("engine failed") && !what.contains("has run for over"), "{what}");
        }
        Err(Error::Limit { .. }) => {}
        Err(other) => panic!("{other}"),
    }
});
