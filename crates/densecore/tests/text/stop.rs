//! How a template that would run on is stopped: by its time, or by the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use densecore::generate::Cancel;
use densecore::text::{Chat, ChatTemplate, Ending, Given, Message};
use densecore::{Error, Limits};

/// Runs for as long as it may. `x` is nothing that a chat gives.
const LONG: &str = "{% if x is defined or messages[0].content == 'run' %}\
    {% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}\
    {% endif %}{% for m in messages %}{{ m.content }}{{ m.name }}{% endfor %}";

/// Work without end, so that time alone ends it.
fn endless(time: Duration) -> ChatTemplate {
    let limits = Limits {
        template_fuel: u64::MAX >> 1,
        template_output: usize::MAX >> 16,
        template_time: time,
        ..Limits::default()
    };
    ChatTemplate::from_source(LONG, None, None, &limits).unwrap()
}

fn said(text: &str) -> [Message; 1] {
    [Message::text("user", text)]
}

#[test]
fn the_time_of_a_template_is_two_seconds_at_most() {
    assert!(Limits::default().template_time <= Duration::from_secs(2));
}

#[test]
fn time_ends_it_and_the_template_can_be_used_again() {
    let template = endless(Duration::from_millis(100));
    let never = Cancel::default();
    let Err(Error::Template(why)) = template.render(&said("run"), true, &never) else { panic!("it ended") };
    assert!(why.contains("has run for over 100ms"), "{why}");
    assert_eq!(template.render(&said("Hi"), true, &never).unwrap(), "Hi");
}

/// A key that a template may read is tried by leaving it out: the chat as a whole has the time, not each rendering.
#[test]
fn all_renderings_of_a_chat_share_the_time() {
    let mut message = Message::text("user", "Hi");
    message.0.extend((0..40).map(|number| (format!("name{number}"), Given::text("a"))));
    let chat = Chat::of(vec![message], Ending::Message);
    let source = "{% for i in range(300) %}{% for j in range(300) %}{% endfor %}{% endfor %}\
        {% for m in messages %}{{ m.values() | join }}{% endfor %}";
    let words: Vec<String> = (0..40).map(|number| format!("{{% set q = 'name{number}' %}}")).collect();
    // Time for none of them, seen only between them: each ends before anybody looks at the clock.
    let limits = Limits { template_time: Duration::from_millis(1), ..Limits::default() };
    let template = ChatTemplate::from_source(&(words.concat() + source), None, None, &limits).unwrap();
    let Err(Error::Template(why)) = template.render_chat(&chat, &Cancel::default()) else { panic!("it ended") };
    assert!(why.contains("has run for over 1ms"), "{why}");
}

#[test]
fn a_caller_stops_it_on_its_way() {
    let template = endless(Duration::from_secs(3_600));
    let asked = Arc::new(AtomicU32::new(0));
    let seen = asked.clone();
    // Asked before it begins, and then again and again while it runs.
    let cancel = Cancel::default().with_poll(Arc::new(move || seen.fetch_add(1, Ordering::Relaxed) >= 3));
    assert!(matches!(template.render(&said("run"), true, &cancel), Err(Error::Cancelled)));
    assert!(asked.load(Ordering::Relaxed) >= 4);
    assert_eq!(template.render(&said("Hi"), true, &Cancel::default()).unwrap(), "Hi");
}

#[test]
fn what_is_cancelled_never_begins() {
    let cancel = Cancel::default();
    cancel.cancel();
    let template = endless(Duration::from_secs(3_600));
    assert!(matches!(template.render(&said("run"), true, &cancel), Err(Error::Cancelled)));
}
