//! What Python does with text, for the methods and filters of templates. Results that their input does not bound are
//! measured before they are made.

use minijinja::{Error, Value};

use super::meter::{Meter, refused};

/// White space as `str.isspace` knows it.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `strip`, `lstrip` and `rstrip`: of these characters, of white space without.
pub fn strip<'a>(
    text: &'a str,
    characters: Option<&str>,
    left: bool,
    right: bool,
    meter: &Meter,
) -> Result<&'a str, Error> {
    let set: Option<std::collections::HashSet<char>> = match characters {
        Some(characters) => {
            meter.make(8 * characters.len() as u64)?;
            Some(characters.chars().collect())
        }
        None => None,
    };
    let out = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c));
    let text = if left { text.trim_start_matches(out) } else { text };
    Ok(if right { text.trim_end_matches(out) } else { text })
}

/// `replace`, all or the first `count`.
pub fn replace(text: &str, from: &str, to: &str, count: Option<i64>, meter: &Meter) -> Result<Value, Error> {
    let most = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    meter.charge(text.len() as u64)?;
    let times = text.matches(from).take(most).count() as u64;
    meter.string((text.len() as u64).saturating_add(times.saturating_mul(to.len() as u64)))?;
    Ok(Value::from(text.replacen(from, to, most)))
}

/// `split` and `rsplit`.
pub fn split(
    text: &str,
    separator: Option<&str>,
    most: Option<i64>,
    right: bool,
    meter: &Meter,
) -> Result<Value, Error> {
    meter.make(text.len() as u64)?;
    // One part more than cuts.
    let parts = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let part = |part: &str| Ok(Value::from(part));
    let Some(separator) = separator else { return words(text, parts, right, meter) };
    if separator.is_empty() {
        return Err(refused("split needs a separator that is not empty"));
    }
    if !right {
        return meter.list(text.splitn(parts, separator).map(part));
    }
    reversed(&meter.list(text.rsplitn(parts, separator).map(part))?, meter)
}

/// Parts between runs of white space; the last one, or the first from the right, keeps what is left.
fn words(text: &str, parts: usize, right: bool, meter: &Meter) -> Result<Value, Error> {
    if parts == usize::MAX {
        return meter.list(text.split(is_space).filter(|part| !part.is_empty()).map(|part| Ok(Value::from(part))));
    }
    let mut left = text;
    let mut count = 0;
    let found = meter.list(std::iter::from_fn(|| {
        left = if right { left.trim_end_matches(is_space) } else { left.trim_start_matches(is_space) };
        count += 1;
        let cut = if right { left.rfind(is_space) } else { left.find(is_space) };
        let part = match cut {
            _ if left.is_empty() => return None,
            Some(at) if count < parts && right => {
                let width = left[at..].chars().next().map_or(1, char::len_utf8);
                let part = &left[at + width..];
                left = &left[..at];
                part
            }
            Some(at) if count < parts => {
                let part = &left[..at];
                left = &left[at..];
                part
            }
            _ => std::mem::take(&mut left),
        };
        Some(Ok(Value::from(part)))
    }))?;
    if right { reversed(&found, meter) } else { Ok(found) }
}

/// The items of a list from the last to the first.
pub fn reversed(list: &Value, meter: &Meter) -> Result<Value, Error> {
    let mut items: Vec<Value> = list.try_iter()?.collect();
    items.reverse();
    meter.list(items.into_iter().map(Ok))
}

/// `splitlines`.
pub fn lines(text: &str, keep: bool, meter: &Meter) -> Result<Value, Error> {
    meter.make(text.len() as u64)?;
    let ends = ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut left = text;
    meter.list(std::iter::from_fn(|| {
        if left.is_empty() {
            return None;
        }
        let (line, end) = match left.find(ends) {
            Some(at) if left[at..].starts_with("\r\n") => (at, at + 2),
            Some(at) => (at, at + left[at..].chars().next().map_or(1, char::len_utf8)),
            None => (left.len(), left.len()),
        };
        let part = &left[..if keep { end } else { line }];
        left = &left[end..];
        Some(Ok(Value::from(part)))
    }))
}

/// `title` and `capitalize`: the first letter of every word large, the others small. `begins` tells where words begin.
pub fn capital(text: &str, begins: impl Fn(Option<char>) -> bool, meter: &Meter) -> Result<Value, Error> {
    let mut before = None;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if begins(before) {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        before = Some(c);
    }
    meter.text(out)
}

/// `find` and `rfind`, in characters; -1 where it is not.
pub fn find(text: &str, part: &str, last: bool) -> i64 {
    let at = if last { text.rfind(part) } else { text.find(part) };
    at.map_or(-1, |at| text[..at].chars().count() as i64)
}

/// Pads with `fill` to a width; `left` and `right` tell where to.
pub fn pad(text: &str, width: i64, fill: &str, left: bool, meter: &Meter) -> Result<Value, Error> {
    let missing = u64::try_from(width).unwrap_or(0).saturating_sub(text.chars().count() as u64);
    if fill.chars().count() != 1 {
        return Err(refused("padding takes one character"));
    }
    meter.string(missing.saturating_mul(fill.len() as u64).saturating_add(text.len() as u64))?;
    let fill = fill.repeat(missing as usize);
    Ok(Value::from(if left { fill + text } else { text.to_owned() + &fill }))
}

/// `indent`: every line but the first, and no empty one, unless asked for.
pub fn indent(text: &str, pad: &str, first: bool, blank: bool, meter: &Meter) -> Result<Value, Error> {
    let lines = text.split('\n').count() as u64;
    meter.string(lines.saturating_mul(pad.len() as u64).saturating_add(text.len() as u64))?;
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push_str(pad);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}
