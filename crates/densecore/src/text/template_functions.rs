//! The functions that templates may call. No other is there.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, Value, functions};

use super::meter::{ELEMENTS, Meter, refused};
use super::template_arguments::Arguments;
use super::template_numbers::whole;
use super::template_time::strftime;
use super::template_values::python_text;

/// A pair of a map (bytes).
const PAIR: u64 = 96;

/// Registers them.
pub fn install(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    let m = meter.clone();
    environment
        .add_function("namespace", move |args: Rest<Value>| functions::namespace(Some(pairs(&m, "namespace", &args)?)));
    let m = meter.clone();
    environment.add_function("dict", move |args: Rest<Value>| pairs(&m, "dict", &args));
    let m = meter.clone();
    environment.add_function("range", move |args: Rest<Value>| range(&m, &Arguments::new("range", &args, &m)?));
    let m = meter.clone();
    environment.add_function("raise_exception", move |message: Value| -> Result<Value, Error> {
        Err(refused(format!("the template refuses: {}", python_text(&message, &m)?)))
    });
    let m = meter.clone();
    environment.add_function("strftime_now", move |format: &str| {
        m.string(16 * format.len() as u64)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        strftime(format, now)
    });
}

/// A map of the pairs of a map and of named arguments.
fn pairs(meter: &Meter, call: &str, args: &[Value]) -> Result<Value, Error> {
    let given = Arguments::new(call, args, meter)?;
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    match given.get(0, "")? {
        Some(map) if map.kind() == ValueKind::Map => {
            for key in map.try_iter()? {
                meter.make(PAIR)?;
                let item = map.get_item(&key)?;
                pairs.push((key, item));
            }
        }
        Some(list) => {
            for pair in list.try_iter()? {
                meter.make(PAIR)?;
                let mut items = pair.try_iter()?;
                let (Some(key), Some(item), None) = (items.next(), items.next(), items.next()) else {
                    return Err(refused(format!("{call} takes a map or pairs")));
                };
                // Others may never be equal, not even to themselves, and be looked for among all that came before.
                if key.as_str().is_none() && whole(&key).is_none() && !key.is_none() {
                    return Err(refused(format!("{call} takes texts and whole numbers for keys, not {}", key.kind())));
                }
                pairs.push((key, item));
            }
        }
        None => {}
    }
    if let Some(named) = args.last().filter(|last| last.is_kwargs()) {
        let named = Kwargs::try_from(named.clone())?;
        for name in named.args() {
            meter.make(PAIR + name.len() as u64)?;
            pairs.push((Value::from(name), named.peek::<Value>(name)?));
        }
    }
    if given.rest(1).is_empty() { Ok(pairs.into_iter().collect()) } else { given.end(1).map(|()| Value::UNDEFINED) }
}

fn range(meter: &Meter, given: &Arguments<'_>) -> Result<Value, Error> {
    let first = given.number(0, "stop")?.ok_or_else(|| refused("range() takes a whole number"))?;
    let (start, stop) = given.number(1, "stop")?.map_or((0, first), |stop| (first, stop));
    let step = given.number(2, "step")?.unwrap_or(1);
    given.end(3)?;
    if step == 0 {
        return Err(refused("range() goes in steps of 0"));
    }
    let count = (i128::from(stop) - i128::from(start)).unsigned_abs().div_ceil(u128::from(step.unsigned_abs()));
    if (stop > start) == (step > 0) && count > u128::from(ELEMENTS) {
        return Err(refused(format!("range() has {count} elements, over the cap of {ELEMENTS}")));
    }
    let numbers = std::iter::successors(Some(start), |at| at.checked_add(step));
    let inside = numbers.take_while(|at| if step > 0 { *at < stop } else { *at > stop });
    meter.list(inside.map(|number| Ok(Value::from(number))))
}
