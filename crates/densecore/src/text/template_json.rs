//! Values as Python's `json.dumps` writes them, which is what templates expect of `tojson`.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::guard::{Meter, refused};

/// Appends a value. With an `indent` every element gets its own line, `level` steps in.
pub fn write(
    value: &Value,
    indent: Option<usize>,
    ascii: bool,
    level: usize,
    out: &mut String,
    meter: &Meter,
) -> Result<(), Error> {
    if out.len() as u64 > meter.longest {
        return Err(refused(format!("JSON text is over the cap of {} bytes", meter.longest)));
    }
    let items: Vec<(Option<Value>, Value)> = match value.kind() {
        ValueKind::None => {
            out.push_str("null");
            return Ok(());
        }
        ValueKind::Bool => {
            out.push_str(if value.is_true() { "true" } else { "false" });
            return Ok(());
        }
        ValueKind::Number => {
            let _ = write!(out, "{value}");
            return Ok(());
        }
        ValueKind::String => {
            string(value.as_str().unwrap_or_default(), ascii, out);
            return Ok(());
        }
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.map(|item| (None, item)).collect(),
        ValueKind::Map => {
            let pairs = value.try_iter()?.map(|key| value.get_item(&key).map(|item| (Some(key), item)));
            pairs.collect::<Result<_, _>>()?
        }
        kind => return Err(refused(format!("a {kind} value has no JSON form"))),
    };
    let (open, close) = if value.kind() == ValueKind::Map { ('{', '}') } else { ('[', ']') };
    let line = |out: &mut String, level: usize| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * level));
        }
    };
    out.push(open);
    for (index, (key, item)) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        line(out, level + 1);
        if let Some(key) = key {
            match key.as_str() {
                Some(key) => string(key, ascii, out),
                None => {
                    let _ = write!(out, "\"{key}\"");
                }
            }
            out.push_str(": ");
        }
        write(item, indent, ascii, level + 1, out, meter)?;
    }
    if !items.is_empty() {
        line(out, level);
    }
    out.push(close);
    meter.charge(items.len() as u64)
}

fn string(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c if ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
