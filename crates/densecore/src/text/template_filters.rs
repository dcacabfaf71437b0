//! The filters that templates may use. Each is measured before it works; no other is there.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::meter::{Meter, machinery, refused};
use super::template_arguments::Arguments;
use super::template_json::{self, Style};
use super::template_numbers::{Number, arithmetic};
use super::template_order::{dictsort, sort, unique};
use super::template_tests::perform;
use super::template_text::{capital, indent, is_space, replace, reversed, strip};
use super::template_values::python_text;

/// `value|name(...)`; the value is the first of `args`.
pub fn apply(meter: &Meter, _: &State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some((value, args)) = args.split_first() else { return Err(refused("a filter of nothing")) };
    filter(meter, name, value, args)
}

fn filter(meter: &Meter, name: &str, value: &Value, args: &[Value]) -> Result<Value, Error> {
    meter.step()?;
    let given = Arguments::new(name, args, meter)?;
    if name == "default" || name == "d" {
        let otherwise = given.get(0, "default_value")?.unwrap_or_else(|| Value::from(""));
        let empty = given.flag(1, "boolean", false)? && !value.is_true();
        given.end(2)?;
        return Ok(if value.is_undefined() || empty { otherwise } else { value.clone() });
    }
    if machinery(value) {
        return Err(refused(format!("the filter {name} does not go with {}", value.kind())));
    }
    if let Some(result) = text(meter, name, value, &given)? {
        return Ok(result);
    }
    if let Some(result) = number(name, value, &given)? {
        return Ok(result);
    }
    if name == "map" {
        return map(meter, value, &given, args);
    }
    match list(meter, name, value, &given)? {
        Some(result) => Ok(result),
        None => Err(refused(format!("the filter {name} is not available in chat templates"))),
    }
}

fn text(meter: &Meter, name: &str, value: &Value, given: &Arguments<'_>) -> Result<Option<Value>, Error> {
    let (result, most) = match name {
        "trim" => {
            let characters = given.text(0, "chars")?;
            (meter.text(strip(&given.subject(value)?, characters.as_deref(), true, true, meter)?)?, 1)
        }
        "upper" => (meter.text(given.subject(value)?.to_uppercase())?, 0),
        "lower" => (meter.text(given.subject(value)?.to_lowercase())?, 0),
        "capitalize" => (capital(&given.subject(value)?, |before| before.is_none(), meter)?, 0),
        "title" => {
            let begins = |before: Option<char>| before.is_none_or(|c| is_space(c) || "-({[<".contains(c));
            (capital(&given.subject(value)?, begins, meter)?, 0)
        }
        // Nothing is escaped in a chat template, so nothing needs marking.
        "safe" => (value.clone(), 0),
        "string" => (meter.text(given.subject(value)?)?, 0),
        "replace" => {
            let (old, new) = (given.needed(0, "old")?, given.needed(1, "new")?);
            (replace(&given.subject(value)?, &old, &new, given.number(2, "count")?, meter)?, 3)
        }
        "indent" => {
            let width = given.get(0, "width")?.unwrap_or_else(|| Value::from(4));
            let pad = match (width.as_str(), width.as_usize()) {
                (Some(pad), _) => pad.to_owned(),
                (None, Some(width)) => {
                    meter.string(width as u64)?;
                    " ".repeat(width)
                }
                (None, None) => return Err(refused("indent takes a width or a text")),
            };
            let (first, blank) = (given.flag(1, "first", false)?, given.flag(2, "blank", false)?);
            (indent(&given.subject(value)?, &pad, first, blank, meter)?, 3)
        }
        "join" => {
            let separator = given.text(0, "d")?.unwrap_or_default();
            let attribute = given.text(1, "attribute")?;
            (join(meter, value, &separator, attribute.as_deref())?, 2)
        }
        "tojson" => (template_json::text(value, &Style::of(given)?, meter)?, 4),
        _ => return Ok(None),
    };
    given.end(most)?;
    Ok(Some(result))
}

fn number(name: &str, value: &Value, given: &Arguments<'_>) -> Result<Option<Value>, Error> {
    let read = || match value.as_str() {
        Some(text) => text.trim().parse::<f64>().ok(),
        None => Number::of(value).map(Number::real),
    };
    let (result, most) = match name {
        "int" => {
            let exact = value.as_str().map(str::trim).and_then(|text| text.parse::<i64>().ok());
            let exact = exact.or_else(|| super::template_numbers::whole(value));
            let cut = || read().filter(|number| number.abs() < 9e18).map(|number| number.trunc() as i64);
            let otherwise = given.get(0, "default")?.unwrap_or_else(|| Value::from(0));
            (exact.or_else(cut).map_or(otherwise, Value::from), 1)
        }
        "float" => {
            let otherwise = given.get(0, "default")?.unwrap_or_else(|| Value::from(0.0));
            (read().map_or(otherwise, Value::from), 1)
        }
        "abs" => match Number::of(value) {
            Some(Number::Whole(number)) => {
                (number.checked_abs().map(Value::from).ok_or_else(|| refused("a number is beyond 64 bits"))?, 0)
            }
            Some(Number::Real(number)) => (Value::from(number.abs()), 0),
            None => return Err(refused(format!("abs takes a number, not {}", value.kind()))),
        },
        "round" if Number::of(value).is_some_and(|number| matches!(number, Number::Whole(_))) && given.is_empty() => {
            (value.clone(), 0)
        }
        "round" => {
            let places = given.number(0, "precision")?.unwrap_or(0).clamp(-300, 300) as i32;
            let method = given.text(1, "method")?.unwrap_or_else(|| "common".into());
            let number = Number::of(value).ok_or_else(|| refused("round takes a number"))?.real();
            let scaled = number * 10f64.powi(places);
            let whole = match &*method {
                "common" => scaled.round_ties_even(),
                "ceil" => scaled.ceil(),
                "floor" => scaled.floor(),
                _ => return Err(refused("round knows the methods common, ceil and floor")),
            };
            (Value::from(whole / 10f64.powi(places)), 2)
        }
        _ => return Ok(None),
    };
    given.end(most)?;
    Ok(Some(result))
}

fn list(meter: &Meter, name: &str, value: &Value, given: &Arguments<'_>) -> Result<Option<Value>, Error> {
    let (result, most) = match name {
        "length" | "count" => match (value.as_str(), value.len()) {
            (Some(text), _) => {
                meter.charge(text.len() as u64)?;
                (Value::from(text.chars().count()), 0)
            }
            (None, Some(length)) => (Value::from(length), 0),
            (None, None) if value.is_undefined() => (Value::from(0), 0),
            (None, None) => return Err(refused(format!("{} has no length", value.kind()))),
        },
        "first" => (value.try_iter()?.next().unwrap_or(Value::UNDEFINED), 0),
        "last" => match value.as_str() {
            Some(text) => (text.chars().next_back().map_or(Value::UNDEFINED, Value::from), 0),
            None => (value.try_iter()?.last().unwrap_or(Value::UNDEFINED), 0),
        },
        "list" => (meter.list(value.try_iter()?.map(Ok))?, 0),
        "reverse" => match value.as_str() {
            Some(text) => (meter.text(text.chars().rev().collect::<String>())?, 0),
            None => (reversed(value, meter)?, 0),
        },
        "items" => (items(meter, value)?, 0),
        "dictsort" => (dictsort(meter, value, given)?, 3),
        "sort" => {
            let (reverse, cased) = (given.flag(0, "reverse", false)?, given.flag(1, "case_sensitive", false)?);
            let attribute = given.text(2, "attribute")?;
            (sort(meter, value, reverse, cased, attribute.as_deref())?, 3)
        }
        "unique" => {
            let (cased, attribute) = (given.flag(0, "case_sensitive", false)?, given.text(1, "attribute")?);
            (unique(meter, value, cased, attribute.as_deref())?, 2)
        }
        "min" | "max" => {
            let (cased, attribute) = (given.flag(0, "case_sensitive", false)?, given.text(1, "attribute")?);
            let sorted = sort(meter, value, false, cased, attribute.as_deref())?;
            let mut items = sorted.try_iter()?;
            let found = if name == "min" { items.next() } else { items.last() };
            (found.unwrap_or(Value::UNDEFINED), 2)
        }
        "sum" => {
            let attribute = given.text(0, "attribute")?;
            let mut sum = given.get(1, "start")?.unwrap_or_else(|| Value::from(0));
            for item in value.try_iter()? {
                meter.step()?;
                sum = arithmetic("+", &sum, &key(&item, attribute.as_deref())?)?;
            }
            (sum, 2)
        }
        "select" | "reject" => {
            let test = given.rest(0);
            return pick(meter, value, None, test, name == "select").map(Some);
        }
        "selectattr" | "rejectattr" => {
            let attribute = given.needed(0, "attribute")?;
            return pick(meter, value, Some(&attribute), given.rest(1), name == "selectattr").map(Some);
        }
        _ => return Ok(None),
    };
    given.end(most)?;
    Ok(Some(result))
}

/// Pairs of a map; none of an undefined value.
pub fn items(meter: &Meter, value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => meter.list(std::iter::empty()),
        ValueKind::Map => meter.list(value.try_iter()?.map(|key| {
            let item = value.get_item(&key)?;
            meter.list([key, item].into_iter().map(Ok))
        })),
        kind => Err(refused(format!("items takes a map, not {kind}"))),
    }
}

/// Texts one after another with a separator between them.
pub fn join(meter: &Meter, items: &Value, separator: &str, attribute: Option<&str>) -> Result<Value, Error> {
    meter.read(items)?;
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = key(&item, attribute)?;
        let text = python_text(&item, meter)?;
        meter.charge(separator.len() as u64)?;
        if (joined.len() + separator.len() + text.len()) as u64 > meter.longest {
            return Err(refused(format!("joined text is over the cap of {} bytes", meter.longest)));
        }
        joined.push_str(if index > 0 { separator } else { "" });
        joined.push_str(&text);
    }
    meter.text(joined)
}

/// A value or an attribute of it, `a.0.b` for one of one.
pub fn key(value: &Value, attribute: Option<&str>) -> Result<Value, Error> {
    let mut found = value.clone();
    for part in attribute.into_iter().flat_map(|path| path.split('.')) {
        found = match part.parse::<i64>() {
            Ok(index) => found.get_item(&Value::from(index))?,
            Err(_) => found.get_item(&Value::from(part))?,
        };
    }
    Ok(found)
}

/// `map`, of an attribute or of a filter, which gets all that stands behind its name.
fn map(meter: &Meter, value: &Value, given: &Arguments<'_>, args: &[Value]) -> Result<Value, Error> {
    if let Some(attribute) = given.text(usize::MAX, "attribute")? {
        let otherwise = given.get(usize::MAX, "default")?;
        given.end(0)?;
        return meter.list(value.try_iter()?.map(|item| {
            meter.charge(attribute.len() as u64)?;
            let found = key(&item, Some(&attribute))?;
            Ok(if found.is_undefined() { otherwise.clone().unwrap_or(found) } else { found })
        }));
    }
    let name = given.needed(0, "a filter")?;
    if !value.is_true() {
        return meter.list(std::iter::empty());
    }
    let rest = args.get(1..).unwrap_or_default();
    meter.within(|| meter.list(value.try_iter()?.map(|item| filter(meter, &name, &item, rest))))
}

/// Items that pass a test, or that do not.
fn pick(meter: &Meter, value: &Value, attribute: Option<&str>, test: &[Value], wanted: bool) -> Result<Value, Error> {
    // As in Jinja, nothing is picked of what is false: a list of tools that is none, say.
    if !value.is_true() {
        return meter.list(std::iter::empty());
    }
    let test = match test.split_first() {
        None => None,
        Some((name, rest)) => {
            let name = name.as_str().ok_or_else(|| refused("select and reject take the name of a test"))?;
            Some((name, rest))
        }
    };
    let passes = |item: &Value| -> Result<bool, Error> {
        meter.charge(attribute.map_or(0, str::len) as u64)?;
        let item = key(item, attribute)?;
        match &test {
            None => Ok(item.is_true()),
            Some((name, args)) => perform(meter, name, &item, args),
        }
    };
    meter.list(value.try_iter()?.filter_map(|item| match passes(&item) {
        Ok(passed) => (passed == wanted).then_some(Ok(item)),
        Err(error) => Some(Err(error)),
    }))
}
