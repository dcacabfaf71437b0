//! The operators of templates, and what the rewritten instructions of `guard` call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, State, Value};

use super::meter::{ELEMENTS, Meter, machinery, refused};
use super::template_numbers::{arithmetic, negative, whole};
use super::template_values::{python_text, slice};
use super::{template_filters, template_methods, template_tests};

/// Macros made in one rendering, those of `call` blocks included. A call within a macro copies the list of them.
const MACROS: u64 = 4_096;
/// A variable kept for a macro (bytes).
const ENCLOSED: u64 = 96;

/// Registers the functions that guarded instructions call.
pub fn install(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    let m = meter.clone();
    environment.add_function("step!", move || m.step());
    let m = meter.clone();
    environment.add_function("enclose!", move |name: u64| m.make(ENCLOSED + name));
    let (m, macros) = (meter.clone(), AtomicU64::new(0));
    environment.add_function("macro!", move || {
        if macros.fetch_add(1, Ordering::Relaxed) >= MACROS {
            return Err(refused(format!("the template makes over {MACROS} macros")));
        }
        m.step()
    });
    one(environment, meter, "neg!", |_, value| negative(&value));
    one(environment, meter, "read!", |meter, value| meter.read(&value).map(|_| value));
    one(environment, meter, "store!", |meter, value| meter.size(&value).map(|_| value));
    one(environment, meter, "built!", |meter, value| {
        meter.make(value.len().unwrap_or_default() as u64 * ENCLOSED)?;
        meter.size(&value).map(|_| value)
    });
    one(environment, meter, "loop!", |meter, value| {
        let parts = value.as_str().map_or_else(|| value.len().unwrap_or_default(), str::len) as u64;
        // A loop with a condition keeps what passes it.
        if parts > ELEMENTS {
            return Err(refused(format!("a loop goes over {parts} parts, over the cap of {ELEMENTS}")));
        }
        meter.charge(parts).map(|()| value)
    });
    for operator in ["-", "/", "//", "%", "**"] {
        two(environment, meter, operator, move |_, a, b| arithmetic(operator, &a, &b));
    }
    two(environment, meter, "+", |meter, a, b| add(meter, &a, &b));
    two(environment, meter, "*", |meter, a, b| multiply(meter, &a, &b));
    two(environment, meter, "~", |meter, a, b| {
        let (a, b) = (python_text(&a, meter)?, python_text(&b, meter)?);
        meter.string((a.len() + b.len()) as u64)?;
        Ok(Value::from([a, b].concat()))
    });
    for operator in ["==", "!=", "<", "<=", ">", ">="] {
        two(environment, meter, operator, move |meter, a, b| {
            compared(meter, &a, &b)?;
            template_tests::compare(operator, &a, &b).map(Value::from)
        });
    }
    two(environment, meter, "in!", |meter, a, b| contains(meter, &b, &a).map(Value::from));
    two(environment, meter, "[]", |meter, value, key| item(meter, &value, &key));
    let m = meter.clone();
    environment.add_function("[:]", move |value: Value, start: Value, stop: Value, step: Value| {
        m.charge(m.size(&value)?.bytes)?;
        slice(&value, &start, &stop, &step, &m)
    });
    named(environment, meter, "|", template_filters::apply);
    named(environment, meter, "is!", |meter, _, name, args| match args.split_first() {
        Some((value, args)) => template_tests::perform(meter, name, value, args).map(Value::from),
        None => Err(refused("a test of nothing")),
    });
    named(environment, meter, ".()", template_methods::call);
    let m = meter.clone();
    environment.set_formatter(move |out, _, value| {
        let text = python_text(value, &m)?;
        m.write(text.len() as u64)?;
        out.write_str(&text).map_err(Error::from)
    });
}

fn one(
    environment: &mut Environment<'_>,
    meter: &Arc<Meter>,
    name: &'static str,
    run: impl Fn(&Meter, Value) -> Result<Value, Error> + Send + Sync + 'static,
) {
    let meter = meter.clone();
    environment.add_function(name, move |value: Value| meter.step().and_then(|()| run(&meter, value)));
}

fn two(
    environment: &mut Environment<'_>,
    meter: &Arc<Meter>,
    name: &'static str,
    run: impl Fn(&Meter, Value, Value) -> Result<Value, Error> + Send + Sync + 'static,
) {
    let meter = meter.clone();
    environment.add_function(name, move |a: Value, b: Value| meter.step().and_then(|()| run(&meter, a, b)));
}

/// A function whose last argument is the name of what is called.
fn named(
    environment: &mut Environment<'_>,
    meter: &Arc<Meter>,
    name: &'static str,
    run: impl Fn(&Meter, &State<'_, '_>, &str, &[Value]) -> Result<Value, Error> + Send + Sync + 'static,
) {
    let meter = meter.clone();
    environment.add_function(name, move |state: &State<'_, '_>, args: Rest<Value>| {
        meter.step()?;
        match args.split_last() {
            Some((name, args)) => run(&meter, state, name.as_str().unwrap_or_default(), args),
            None => Err(refused("a call without a name")),
        }
    });
}

fn add(meter: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        meter.string((left.len() + right.len()) as u64)?;
        return Ok(Value::from([left, right].concat()));
    }
    if a.kind() == ValueKind::Seq && b.kind() == ValueKind::Seq {
        let joined = meter.list(a.try_iter()?.chain(b.try_iter()?).map(Ok))?;
        meter.size(&joined)?;
        return Ok(joined);
    }
    arithmetic("+", a, b)
}

fn multiply(meter: &Meter, a: &Value, b: &Value) -> Result<Value, Error> {
    let repeated = |value: &Value| value.as_str().is_some() || value.kind() == ValueKind::Seq;
    let (thing, times) = if repeated(a) { (a, b) } else { (b, a) };
    let (true, Some(times)) = (repeated(thing), whole(times)) else { return arithmetic("*", a, b) };
    let times = times.max(0) as u64;
    let size = meter.size(thing)?;
    if let Some(text) = thing.as_str() {
        meter.string(size.bytes.saturating_mul(times))?;
        return Ok(Value::from(text.repeat(times as usize)));
    }
    let total = size.elements.saturating_mul(times);
    if total > ELEMENTS || size.bytes.saturating_mul(times) > meter.longest {
        return Err(refused(format!("a list would have {total} elements or over {} bytes", meter.longest)));
    }
    meter.list((0..times).flat_map(|_| thing.try_iter().into_iter().flatten()).map(Ok))
}

/// Charges for a comparison: text of different lengths is told apart at once, other values are read.
pub fn compared(meter: &Meter, a: &Value, b: &Value) -> Result<(), Error> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        meter.charge(a.len().min(b.len()) as u64)
    } else {
        meter.read(a)?;
        meter.read(b).map(|_| ())
    }
}

/// `part in whole`.
pub fn contains(meter: &Meter, whole: &Value, part: &Value) -> Result<bool, Error> {
    meter.read(part)?;
    match whole.kind() {
        ValueKind::String => {
            let Some(part) = part.as_str() else {
                return Err(refused(format!("a {} cannot be in a string", part.kind())));
            };
            let text = whole.as_str().unwrap_or_default();
            meter.charge(text.len() as u64)?;
            Ok(text.contains(part))
        }
        ValueKind::Seq => {
            meter.read(whole)?;
            Ok(whole.try_iter()?.any(|item| item == *part))
        }
        ValueKind::Map => Ok(whole.as_object().is_some_and(|map| map.get_value(part).is_some())),
        ValueKind::Undefined => Ok(false),
        kind => Err(refused(format!("nothing can be in a {kind}"))),
    }
}

/// `value[key]`.
fn item(meter: &Meter, value: &Value, key: &Value) -> Result<Value, Error> {
    meter.read(key)?;
    if let (Some(text), Some(at)) = (value.as_str(), whole(key)) {
        meter.charge(text.len() as u64)?;
        let found = match usize::try_from(at) {
            Ok(at) => text.chars().nth(at),
            Err(_) => usize::try_from(at.unsigned_abs() - 1).ok().and_then(|back| text.chars().rev().nth(back)),
        };
        return Ok(found.map_or(Value::UNDEFINED, Value::from));
    }
    if machinery(value) && key.as_str().is_none() {
        return Err(refused(format!("a {} has no items", value.kind())));
    }
    value.get_item(key)
}
