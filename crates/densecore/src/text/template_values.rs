//! Values of a template as Python would write and slice them.

use std::borrow::Cow;
use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::meter::{Meter, machinery, refused};
use super::template_numbers::{number_text, whole};

/// Text as Python's `str()` gives it; undefined values are empty.
pub fn python_text<'a>(value: &'a Value, meter: &Meter) -> Result<Cow<'a, str>, Error> {
    if let Some(text) = value.as_str() {
        meter.charge(text.len() as u64)?;
        return Ok(Cow::Borrowed(text));
    }
    if value.is_undefined() {
        return Ok(Cow::Borrowed(""));
    }
    meter.read(value)?;
    let mut out = String::new();
    literal(value, &mut out, meter)?;
    meter.string(out.len() as u64)?;
    Ok(Cow::Owned(out))
}

/// Text as Python's `repr()` gives it.
fn literal(value: &Value, out: &mut String, meter: &Meter) -> Result<(), Error> {
    if out.len() as u64 > meter.longest {
        return Err(refused(format!("a value is over {} bytes as text", meter.longest)));
    }
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number_text(value)),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            for (index, item) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                literal(&item, out, meter)?;
            }
            out.push(']');
        }
        ValueKind::Map if !machinery(value) => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                literal(&key, out, meter)?;
                out.push_str(": ");
                literal(&value.get_item(&key)?, out, meter)?;
            }
            out.push('}');
        }
        kind => return Err(refused(format!("a {kind} has no text"))),
    }
    Ok(())
}

/// Whether `repr()` shows a character as it is: the same categories that Rust's own debug form shows. There, marks are
/// shown as they are behind another character alone. What stands for a special token (`sentinel`) passes untouched.
fn is_printable(c: char) -> bool {
    ('\u{f0000}'..='\u{ffffd}').contains(&c)
        || c == '"'
        || c == '\''
        || c == '\\'
        || c.is_ascii_graphic()
        || c == ' '
        || {
            let mut buffer = [b'a'; 5];
            let length = 1 + c.encode_utf8(&mut buffer[1..]).len();
            std::str::from_utf8(&buffer[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
        }
}

fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x100 => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push(mark);
}

/// Python's `value[start:stop:step]`.
pub fn slice(value: &Value, start: &Value, stop: &Value, step: &Value, meter: &Meter) -> Result<Value, Error> {
    let bound = |value: &Value| -> Result<Option<i64>, Error> {
        if value.is_none() || value.is_undefined() {
            return Ok(None);
        }
        whole(value).map(Some).ok_or_else(|| refused(format!("a slice bound is {}, not a whole number", value.kind())))
    };
    let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1));
    if step == 0 {
        return Err(refused("a slice goes in steps of 0"));
    }
    if let Some(text) = value.as_str() {
        if step == 1 {
            return meter.text(between(text, steps(text.chars().count(), start, stop, 1)));
        }
        // Four bytes for each character, given back at once.
        meter.make(4 * text.len() as u64)?;
        let chars: Vec<char> = text.chars().collect();
        return meter.text(steps(chars.len(), start, stop, step).map(|at| chars[at]).collect::<String>());
    }
    match value.kind() {
        ValueKind::Seq => {}
        ValueKind::Undefined => return Err(refused("a value that is undefined has no slices")),
        // As in Jinja, where what has no such item is undefined.
        _ => return Ok(Value::UNDEFINED),
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    meter.list(steps(items.len(), start, stop, step).map(|at| Ok(items[at].clone())))
}

/// The characters at positions that follow one another.
fn between(text: &str, mut positions: impl Iterator<Item = usize>) -> &str {
    let Some(first) = positions.next() else { return "" };
    let count = 1 + positions.count();
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]).skip(first);
    let start = starts.next().unwrap_or(text.len());
    &text[start..starts.nth(count - 1).unwrap_or(text.len())]
}

/// The positions a slice visits, all below `length`.
fn steps(length: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let length = length as i64;
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamp = |bound: i64| {
        if bound < 0 { bound.saturating_add(length).max(low) } else { bound.min(high) }
    };
    let first = start.map_or(if step > 0 { low } else { high }, clamp);
    let end = stop.map_or(if step > 0 { high } else { low }, clamp);
    let mut at = first;
    std::iter::from_fn(move || {
        let inside = if step > 0 { at < end } else { at > end };
        inside.then(|| {
            let position = at as usize;
            at = at.saturating_add(step);
            position
        })
    })
}
