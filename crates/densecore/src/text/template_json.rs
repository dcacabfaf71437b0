//! Values as Python's `json.dumps` writes them, which is what templates expect of `tojson`.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::meter::{Meter, refused};
use super::template_arguments::Arguments;
use super::template_numbers::number_text;

/// How it is written, by the arguments that transformers gives `tojson`.
pub struct Style {
    /// A line for every element, indented by this.
    indent: Option<String>,
    ascii: bool,
    sorted: bool,
    /// Between elements, and between a key and its value.
    separators: (String, String),
}

impl Style {
    /// Reads the arguments of `tojson`, in transformers' order.
    pub fn of(given: &Arguments<'_>) -> Result<Self, Error> {
        let ascii = given.flag(0, "ensure_ascii", false)?;
        let sorted = given.flag(3, "sort_keys", false)?;
        let indent = match given.get(1, "indent")? {
            Some(width) if width.as_str().is_some() => width.as_str().map(str::to_owned),
            Some(width) if !width.is_none() => {
                let width = super::template_numbers::whole(&width).ok_or_else(|| refused("indent takes a number"))?;
                Some(" ".repeat(usize::try_from(width).unwrap_or(0).min(1 << 16)))
            }
            _ => None,
        };
        let item = if indent.is_some() { "," } else { ", " };
        let mut separators = (item.to_owned(), ": ".to_owned());
        if let Some(given) = given.get(2, "separators")?.filter(|given| !given.is_none()) {
            // One more than there should be is enough to tell.
            let pair: Vec<Value> = given.try_iter()?.take(3).collect();
            let [item, key] = &pair[..] else { return Err(refused("separators are two strings")) };
            let (Some(item), Some(key)) = (item.as_str(), key.as_str()) else {
                return Err(refused("separators are two strings"));
            };
            separators = (item.to_owned(), key.to_owned());
        }
        Ok(Self { indent, ascii, sorted, separators })
    }
}

/// The value as text.
pub fn text(value: &Value, style: &Style, meter: &Meter) -> Result<Value, Error> {
    meter.read(value)?;
    let mut out = String::new();
    write(value, style, 0, &mut out, meter)?;
    meter.text(out)
}

/// Adds to the text, unless it grew too long.
fn push(out: &mut String, text: &str, meter: &Meter) -> Result<(), Error> {
    if (out.len() + text.len()) as u64 > meter.longest {
        return Err(refused(format!("JSON text is over the cap of {} bytes", meter.longest)));
    }
    out.push_str(text);
    Ok(())
}

fn write(value: &Value, style: &Style, level: usize, out: &mut String, meter: &Meter) -> Result<(), Error> {
    let keys: Option<Vec<Value>> = match value.kind() {
        ValueKind::None => return push(out, "null", meter),
        ValueKind::Bool => return push(out, if value.is_true() { "true" } else { "false" }, meter),
        ValueKind::Number => return push(out, &number(value), meter),
        ValueKind::String => return string(value.as_str().unwrap_or_default(), style.ascii, out, meter),
        ValueKind::Seq => None,
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorted {
                keys.sort();
            }
            Some(keys)
        }
        kind => return Err(refused(format!("a {kind} value has no JSON form"))),
    };
    let (open, close) = if keys.is_some() { ("{", "}") } else { ("[", "]") };
    let line = |out: &mut String, level: usize| -> Result<(), Error> {
        let Some(indent) = &style.indent else { return Ok(()) };
        push(out, "\n", meter)?;
        (0..level).try_for_each(|_| push(out, indent, meter))
    };
    push(out, open, meter)?;
    let items = keys.clone().map_or_else(|| value.try_iter().map(Iterator::collect), Ok)?;
    for (index, item) in items.iter().enumerate() {
        meter.step()?;
        push(out, if index > 0 { &style.separators.0 } else { "" }, meter)?;
        line(out, level + 1)?;
        if keys.is_none() {
            write(item, style, level + 1, out, meter)?;
            continue;
        }
        name(item, style, out, meter)?;
        push(out, &style.separators.1, meter)?;
        write(&value.get_item(item)?, style, level + 1, out, meter)?;
    }
    if !items.is_empty() {
        line(out, level)?;
    }
    push(out, close, meter)
}

fn number(value: &Value) -> String {
    match &*number_text(value) {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        text => text.into(),
    }
}

/// A key, which JSON has as text only.
fn name(key: &Value, style: &Style, out: &mut String, meter: &Meter) -> Result<(), Error> {
    let text = match key.kind() {
        ValueKind::String => return string(key.as_str().unwrap_or_default(), style.ascii, out, meter),
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number => number(key),
        kind => return Err(refused(format!("a key of JSON is text, not {kind}"))),
    };
    string(&text, style.ascii, out, meter)
}

fn string(text: &str, ascii: bool, out: &mut String, meter: &Meter) -> Result<(), Error> {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for c in text.chars() {
        match c {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            '\u{8}' => written.push_str("\\b"),
            '\u{c}' => written.push_str("\\f"),
            c if (c as u32) < 0x20 => {
                let _ = write!(written, "\\u{:04x}", c as u32);
            }
            c if ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(written, "\\u{unit:04x}");
                }
            }
            c => written.push(c),
        }
    }
    written.push('"');
    push(out, &written, meter)
}
