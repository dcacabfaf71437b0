//! The tests that templates may make with `is`, and comparisons. No other is there.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::meter::{Meter, refused};
use super::template_numbers::{Number, arithmetic, whole};
use super::template_operators::{compared, contains};

/// `value is name(...)`.
pub fn perform(meter: &Meter, name: &str, value: &Value, args: &[Value]) -> Result<bool, Error> {
    meter.step()?;
    match args {
        [] => alone(name, value),
        [other] => beside(meter, name, value, other),
        _ => Err(refused(format!("the test {name} takes one argument at most"))),
    }
}

fn alone(name: &str, value: &Value) -> Result<bool, Error> {
    let kind = value.kind();
    let number = Number::of(value).filter(|_| kind == ValueKind::Number);
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => value.is_none(),
        "boolean" => kind == ValueKind::Bool,
        "true" => kind == ValueKind::Bool && value.is_true(),
        "false" => kind == ValueKind::Bool && !value.is_true(),
        "string" => kind == ValueKind::String,
        "number" => matches!(kind, ValueKind::Number | ValueKind::Bool),
        "integer" => kind == ValueKind::Number && value.is_integer(),
        "float" => matches!(number, Some(Number::Real(_))),
        "mapping" => kind == ValueKind::Map,
        "iterable" => {
            matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
        }
        // In Python a string and a mapping are sequences to this test too.
        "sequence" => matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined),
        "callable" => kind == ValueKind::Plain,
        "upper" | "lower" => {
            let text = value.as_str().unwrap_or_default();
            let other = if name == "upper" { char::is_lowercase } else { char::is_uppercase };
            text.chars().any(char::is_alphabetic) && !text.chars().any(other)
        }
        "odd" | "even" => {
            let number = whole(value).ok_or_else(|| refused(format!("{name} is asked of {kind}")))?;
            (number.rem_euclid(2) == 1) == (name == "odd")
        }
        "filter" | "test" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "in" | "sameas" | "divisibleby" => {
            return Err(refused(format!("the test {name} needs an argument")));
        }
        _ => return Err(unknown(name)),
    })
}

fn beside(meter: &Meter, name: &str, value: &Value, other: &Value) -> Result<bool, Error> {
    let operator = match name {
        // "sameas" asks Python for the same object; for what templates compare so, that is the same kind and value.
        "ne" | "!=" => "!=",
        "eq" | "equalto" | "==" | "sameas" => "==",
        "lt" | "lessthan" | "<" => "<",
        "le" | "<=" => "<=",
        "gt" | "greaterthan" | ">" => ">",
        "ge" | ">=" => ">=",
        "in" => return contains(meter, other, value),
        "divisibleby" => return Ok(whole(&arithmetic("%", value, other)?) == Some(0)),
        _ => return Err(unknown(name)),
    };
    compared(meter, value, other)?;
    if name == "sameas" && value.kind() != other.kind() {
        return Ok(false);
    }
    compare(operator, value, other)
}

fn unknown(name: &str) -> Error {
    refused(format!("the test {name} is not available in chat templates"))
}

/// `a operator b` of values that were measured. Ordering goes between numbers, texts and lists.
pub fn compare(operator: &str, a: &Value, b: &Value) -> Result<bool, Error> {
    match operator {
        "==" => return Ok(a == b),
        "!=" => return Ok(a != b),
        _ => {}
    }
    let order = match (Number::of(a), Number::of(b)) {
        (Some(Number::Whole(x)), Some(Number::Whole(y))) => Some(x.cmp(&y)),
        (Some(x), Some(y)) => x.real().partial_cmp(&y.real()),
        _ if a.kind() == b.kind() && matches!(a.kind(), ValueKind::String | ValueKind::Seq) => Some(a.cmp(b)),
        _ => return Err(refused(format!("{operator} does not go between {} and {}", a.kind(), b.kind()))),
    };
    Ok(match operator {
        "<" => order == Some(Ordering::Less),
        "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        ">" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}
