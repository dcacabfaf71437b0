//! The filters that put items in order: what is compared, and how.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::meter::{Meter, refused};
use super::template_arguments::Arguments;
use super::template_filters::{items, key};
use super::template_numbers::Number;

/// What is compared, and the item: text in small letters unless case counts.
fn keyed(meter: &Meter, value: &Value, cased: bool, attribute: Option<&str>) -> Result<Vec<(Value, Value)>, Error> {
    let size = meter.read(value)?;
    // Sorting reads every text some twenty times; keys are copies.
    meter.make(size.bytes + 96 * size.elements)?;
    meter.charge(20 * size.bytes)?;
    value
        .try_iter()?
        .map(|item| {
            meter.charge(attribute.map_or(0, str::len) as u64)?;
            let found = key(&item, attribute)?;
            let small = found.as_str().filter(|_| !cased).map(str::to_lowercase);
            Ok((small.map_or(found, Value::from), item))
        })
        .collect()
}

/// The order of numbers, of texts, and of lists by their items; what Python does not compare has some order, too.
fn order(a: &Value, b: &Value) -> Ordering {
    match (Number::of(a), Number::of(b)) {
        (Some(a), Some(b)) => a.order(b),
        _ if a.kind() != b.kind() => a.kind().to_string().cmp(&b.kind().to_string()),
        _ if a.kind() == ValueKind::Seq => {
            let items = |list: &Value| list.try_iter().into_iter().flatten();
            let mut both = items(a).zip(items(b)).map(|(a, b)| order(&a, &b));
            both.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => a.as_str().cmp(&b.as_str()),
    }
}

/// What Python compares in order to sort: numbers, texts or lists, and nothing beside them.
fn class(value: &Value) -> Option<&'static str> {
    match value.kind() {
        ValueKind::Bool | ValueKind::Number => Some("number"),
        ValueKind::String => Some("string"),
        ValueKind::Seq => Some("list"),
        _ => None,
    }
}

/// Items in the order of their keys.
pub fn sort(meter: &Meter, value: &Value, reverse: bool, cased: bool, attribute: Option<&str>) -> Result<Value, Error> {
    let mut items = keyed(meter, value, cased, attribute)?;
    if let [(first, _), others @ ..] = &items[..]
        && let Some((other, _)) = others.iter().find(|(key, _)| class(key).is_none() || class(key) != class(first))
    {
        return Err(refused(format!("there is no order between {} and {}", first.kind(), other.kind())));
    }
    // Stable both ways, as Python's.
    items.sort_by(|(a, _), (b, _)| if reverse { order(b, a) } else { order(a, b) });
    meter.list(items.into_iter().map(|(_, item)| Ok(item)))
}

/// The first item of every key.
pub fn unique(meter: &Meter, value: &Value, cased: bool, attribute: Option<&str>) -> Result<Value, Error> {
    let mut seen = std::collections::HashSet::new();
    let items = keyed(meter, value, cased, attribute)?;
    meter.list(items.into_iter().filter(|(key, _)| seen.insert(key.clone())).map(|(_, item)| Ok(item)))
}

/// Pairs of a map in order.
pub fn dictsort(meter: &Meter, value: &Value, given: &Arguments<'_>) -> Result<Value, Error> {
    let (cased, by) = (given.flag(0, "case_sensitive", false)?, given.text(1, "by")?);
    let reverse = given.flag(2, "reverse", false)?;
    let attribute = match by.as_deref() {
        None | Some("key") => "0",
        Some("value") => "1",
        Some(_) => return Err(refused("dictsort sorts by key or by value")),
    };
    sort(meter, &items(meter, value)?, reverse, cased, Some(attribute))
}
