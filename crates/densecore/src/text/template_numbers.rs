//! Numbers with Python's rules: whole numbers and floats apart, division towards minus infinity, floats written as
//! `repr` does. Whole numbers end at 64 bits; what would go beyond is refused.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::meter::refused;

/// A number of a template.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// `int` or `bool`.
    Whole(i64),
    /// `float`.
    Real(f64),
}

impl Number {
    /// The number a value is, if it is one.
    pub fn of(value: &Value) -> Option<Self> {
        match value.kind() {
            ValueKind::Bool => Some(Self::Whole(i64::from(value.is_true()))),
            ValueKind::Number if value.is_integer() => value.as_i64().map(Self::Whole),
            ValueKind::Number => f64::try_from(value.clone()).ok().map(Self::Real),
            _ => None,
        }
    }

    /// The exact order of two numbers; what is no number comes last.
    pub fn order(self, other: Self) -> Ordering {
        // The nearest float, and how far the number lies from it.
        let parts = |number: Self| match number {
            Self::Whole(whole) => (whole as f64, i128::from(whole) - (whole as f64) as i128),
            Self::Real(real) if real.is_nan() => (f64::NAN.copysign(1.0), 0),
            Self::Real(real) => (real + 0.0, 0),
        };
        let ((a, more), (b, less)) = (parts(self), parts(other));
        a.total_cmp(&b).then(more.cmp(&less))
    }

    /// As a float.
    pub fn real(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Real(number) => number,
        }
    }
}

/// A whole number that a value is: `int` or `bool`, no float.
pub fn whole(value: &Value) -> Option<i64> {
    match Number::of(value) {
        Some(Number::Whole(number)) => Some(number),
        _ => None,
    }
}

/// `a operator b`.
pub fn arithmetic(operator: &str, a: &Value, b: &Value) -> Result<Value, Error> {
    let (Some(x), Some(y)) = (Number::of(a), Number::of(b)) else {
        return Err(refused(format!("{operator} does not go between {} and {}", a.kind(), b.kind())));
    };
    let zero = matches!(y, Number::Whole(0)) || y.real() == 0.0;
    if zero && matches!(operator, "/" | "//" | "%") {
        return Err(refused(format!("{a} {operator} {b} divides by zero")));
    }
    if let (Number::Whole(x), Number::Whole(y)) = (x, y)
        && operator != "/"
        && !(operator == "**" && y < 0)
    {
        return whole_numbers(operator, x, y)
            .map(Value::from)
            .ok_or_else(|| refused(format!("{x} {operator} {y} is beyond 64 bits")));
    }
    let (x, y) = (x.real(), y.real());
    Ok(Value::from(match operator {
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" => x / y,
        "//" => (x / y).floor(),
        "%" => x - y * (x / y).floor(),
        "**" => x.powf(y),
        _ => return Err(refused(format!("the operator {operator} is not known"))),
    }))
}

fn whole_numbers(operator: &str, x: i64, y: i64) -> Option<i64> {
    match operator {
        "+" => x.checked_add(y),
        "-" => x.checked_sub(y),
        "*" => x.checked_mul(y),
        "//" => {
            x.checked_div_euclid(y).map(|quotient| if y < 0 && x.rem_euclid(y) != 0 { quotient - 1 } else { quotient })
        }
        "%" => x.checked_rem_euclid(y).map(|rest| if y < 0 && rest != 0 { rest + y } else { rest }),
        "**" => x.checked_pow(u32::try_from(y).ok()?),
        _ => None,
    }
}

/// `-a`.
pub fn negative(a: &Value) -> Result<Value, Error> {
    match Number::of(a) {
        Some(Number::Whole(number)) => {
            number.checked_neg().map(Value::from).ok_or_else(|| refused("a number is beyond 64 bits"))
        }
        Some(Number::Real(number)) => Ok(Value::from(-number)),
        None => Err(refused(format!("- does not go before {}", a.kind()))),
    }
}

/// A number as Python writes it.
pub fn number_text(value: &Value) -> String {
    match Number::of(value) {
        Some(Number::Real(number)) => real_text(number),
        _ => value.to_string(),
    }
}

fn real_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.into();
    }
    // Both print the shortest digits that read back as the same number; they differ in where exponents begin.
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(power) if number != 0.0 && !(-4..16).contains(&power) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", power.unsigned_abs())
        }
        _ => format!("{number:?}"),
    }
}
