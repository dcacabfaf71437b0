//! The methods that templates may call on text, lists, maps and loops, with Python's meaning. No other is there.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::meter::{Meter, refused};
use super::template_arguments::Arguments;
use super::template_filters::{items, join};
use super::template_text::{capital, find, is_space, lines, pad, replace, split, strip};

/// `receiver.name(...)`; the receiver is the first of `args`.
pub fn call(meter: &Meter, state: &State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some((receiver, args)) = args.split_first() else { return Err(refused("a method of nothing")) };
    let given = Arguments::new(name, args, meter)?;
    let result = match receiver.kind() {
        ValueKind::String => string(meter, receiver.as_str().unwrap_or_default(), name, &given)?,
        ValueKind::Seq => list(meter, receiver, name, &given)?,
        ValueKind::Map if of(receiver, "::Loop") => looping(state, receiver, name, args)?,
        ValueKind::Map if !super::meter::machinery(receiver) => map(meter, receiver, name, &given)?,
        ValueKind::Undefined => return Err(refused(format!("{name}() is called on a value that is undefined"))),
        _ => None,
    };
    result
        .ok_or_else(|| refused(format!("the method {name} of {} is not available in chat templates", receiver.kind())))
}

fn of(value: &Value, name: &str) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with(name))
}

fn string(meter: &Meter, text: &str, name: &str, given: &Arguments<'_>) -> Result<Option<Value>, Error> {
    meter.charge(text.len() as u64)?;
    let all = |test: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(test));
    let cased = |large: bool| {
        let other = if large { char::is_lowercase } else { char::is_uppercase };
        let own = if large { char::is_uppercase } else { char::is_lowercase };
        Value::from(text.chars().any(own) && !text.chars().any(other))
    };
    let (value, most) = match name {
        "strip" | "lstrip" | "rstrip" => {
            let characters = given.text(0, "chars")?;
            (meter.text(strip(text, characters.as_deref(), name != "rstrip", name != "lstrip", meter)?)?, 1)
        }
        "startswith" | "endswith" => (ends(text, name == "startswith", given)?, 1),
        "removeprefix" => (meter.text(text.strip_prefix(&*given.needed(0, "prefix")?).unwrap_or(text))?, 1),
        "removesuffix" => (meter.text(text.strip_suffix(&*given.needed(0, "suffix")?).unwrap_or(text))?, 1),
        "split" | "rsplit" => {
            let separator = given.text(0, "sep")?;
            (split(text, separator.as_deref(), given.number(1, "maxsplit")?, name == "rsplit", meter)?, 2)
        }
        "partition" | "rpartition" => (part(meter, text, &given.needed(0, "sep")?, name == "rpartition")?, 1),
        "splitlines" => (lines(text, given.flag(0, "keepends", false)?, meter)?, 1),
        "replace" => {
            let (old, new) = (given.needed(0, "old")?, given.needed(1, "new")?);
            (replace(text, &old, &new, given.number(2, "count")?, meter)?, 3)
        }
        "join" => (join(meter, &given.must(0, "iterable")?, text, None)?, 1),
        "upper" => (meter.text(text.to_uppercase())?, 0),
        "lower" => (meter.text(text.to_lowercase())?, 0),
        "title" => (capital(text, |before| !before.is_some_and(char::is_alphabetic), meter)?, 0),
        "capitalize" => (capital(text, |before| before.is_none(), meter)?, 0),
        "find" | "rfind" => (Value::from(find(text, &given.needed(0, "sub")?, name == "rfind")), 1),
        "index" => match find(text, &given.needed(0, "sub")?, false) {
            -1 => return Err(refused("index() does not find the text")),
            at => (Value::from(at), 1),
        },
        "count" => {
            let part = given.needed(0, "sub")?;
            let found = if part.is_empty() { text.chars().count() + 1 } else { text.matches(&*part).count() };
            (Value::from(found), 1)
        }
        "ljust" | "rjust" => {
            let fill = given.text(1, "fillchar")?.unwrap_or_else(|| " ".into());
            (pad(text, given.number(0, "width")?.unwrap_or(0), &fill, name == "rjust", meter)?, 2)
        }
        "isdigit" | "isnumeric" | "isdecimal" => (all(char::is_numeric), 0),
        "isalpha" => (all(char::is_alphabetic), 0),
        "isalnum" => (all(char::is_alphanumeric), 0),
        "isspace" => (all(is_space), 0),
        "isupper" => (cased(true), 0),
        "islower" => (cased(false), 0),
        "format" => return Err(refused("str.format is not available in chat templates; use ~")),
        _ => return Ok(None),
    };
    given.end(most)?;
    Ok(Some(value))
}

/// `startswith` and `endswith`, of one text or any of a list.
fn ends(text: &str, start: bool, given: &Arguments<'_>) -> Result<Value, Error> {
    let has = |part: &str| if start { text.starts_with(part) } else { text.ends_with(part) };
    let parts = given.must(0, "prefix")?;
    match (parts.as_str(), parts.kind()) {
        (Some(part), _) => Ok(Value::from(has(part))),
        (None, ValueKind::Seq) => Ok(Value::from(parts.try_iter()?.any(|part| part.as_str().is_some_and(has)))),
        (None, kind) => Err(refused(format!("startswith and endswith take a string, not {kind}"))),
    }
}

fn part(meter: &Meter, text: &str, separator: &str, right: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(refused("partition needs a separator that is not empty"));
    }
    let cut = if right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match cut {
        Some((before, after)) => [before, separator, after],
        None if right => ["", "", text],
        None => [text, "", ""],
    };
    meter.list(parts.into_iter().map(|part| meter.text(part)))
}

fn list(meter: &Meter, list: &Value, name: &str, given: &Arguments<'_>) -> Result<Option<Value>, Error> {
    let value = match name {
        "index" | "count" => {
            let wanted = given.must(0, "value")?;
            meter.read(list)?;
            let mut same = list.try_iter()?.map(|item| item == wanted);
            if name == "count" {
                Value::from(same.filter(|same| *same).count())
            } else {
                Value::from(same.position(|same| same).ok_or_else(|| refused("index() does not find the value"))?)
            }
        }
        "copy" => list.clone(),
        "append" | "extend" | "insert" | "pop" | "remove" | "clear" | "sort" | "reverse" => {
            return Err(refused(format!("{name} would change a list; templates join lists with +")));
        }
        _ => return Ok(None),
    };
    given.end(1)?;
    Ok(Some(value))
}

fn map(meter: &Meter, map: &Value, name: &str, given: &Arguments<'_>) -> Result<Option<Value>, Error> {
    let (value, most) = match name {
        "items" => (items(meter, map)?, 0),
        "keys" => (meter.list(map.try_iter()?.map(Ok))?, 0),
        "values" => (meter.list(map.try_iter()?.map(|key| map.get_item(&key)))?, 0),
        "get" => {
            let found = map.get_item(&given.must(0, "key")?)?;
            let otherwise = given.get(1, "default")?.unwrap_or_else(|| Value::from(()));
            (if found.is_undefined() { otherwise } else { found }, 2)
        }
        "copy" => (map.clone(), 0),
        "update" | "pop" | "popitem" | "clear" | "setdefault" => {
            return Err(refused(format!("{name} would change a map; templates may not")));
        }
        _ => return Ok(None),
    };
    given.end(most)?;
    Ok(Some(value))
}

/// `loop.cycle` and `loop.changed`.
fn looping(state: &State<'_, '_>, looping: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match name {
        "cycle" if args.is_empty() => Err(refused("loop.cycle() needs something to go through")),
        "cycle" => {
            let turn = looping.get_attr("index0")?.as_usize().unwrap_or(0);
            Ok(Some(args[turn % args.len()].clone()))
        }
        "changed" => looping.call_method(state, "changed", args).map(Some),
        _ => Ok(None),
    }
}
