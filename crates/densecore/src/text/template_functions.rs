//! What chat templates may call: the filters, tests, functions and string methods of published templates, each with
//! Python's meaning and with its work on the meter.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions, tests};

use super::guard::{ELEMENTS, Meter, refused};
use super::template_time::strftime;
use super::template_values::python_text;

/// Registers everything a template may use.
pub fn install(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    install_filters(environment, meter);
    install_tests(environment, meter);
    environment.add_function("namespace", functions::namespace);
    environment.add_function("dict", functions::dict);
    environment.add_function("range", |first: i64, second: Option<i64>, third: Option<i64>| {
        let (start, stop) = second.map_or((0, first), |stop| (first, stop));
        let step = third.unwrap_or(1);
        if step == 0 {
            return Err(refused("range() goes in steps of 0"));
        }
        let count = (i128::from(stop) - i128::from(start)).unsigned_abs().div_ceil(u128::from(step.unsigned_abs()));
        if (stop > start) == (step > 0) && count > u128::from(ELEMENTS) {
            return Err(refused(format!("range() has {count} elements, over the cap of {ELEMENTS}")));
        }
        let numbers = std::iter::successors(Some(start), |at| at.checked_add(step));
        Ok(Value::from(numbers.take_while(|at| if step > 0 { *at < stop } else { *at > stop }).collect::<Vec<_>>()))
    });
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("the template refuses: {message}")))
    });
    environment.add_function("strftime_now", |format: &str| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        strftime(format, now)
    });
    let m = meter.clone();
    environment.set_unknown_method_callback(move |state, value, method, args| {
        m.value(value)?;
        for arg in args {
            m.value(arg)?;
        }
        match (method, value.as_str(), args) {
            // The one method whose result its arguments do not bound.
            ("replace", Some(text), [from, to, ..]) => grown(text, text_of(from), text_of(to), &m)?,
            ("join", Some(text), [items]) => {
                return join(items, Some(text), &m);
            }
            ("format", ..) => {
                return Err(refused("str.format is not available in chat templates; use ~"));
            }
            _ => {}
        }
        minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
    });
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Checks the length of `text` with every `from` replaced by `to`.
fn grown(text: &str, from: &str, to: &str, meter: &Meter) -> Result<(), Error> {
    let times = text.matches(from).count() as u64;
    meter.string((text.len() as u64).saturating_add(times.saturating_mul(to.len() as u64)))
}

fn join(items: &Value, separator: Option<&str>, meter: &Meter) -> Result<Value, Error> {
    meter.value(items)?;
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        if index > 0 {
            joined.push_str(separator.unwrap_or_default());
        }
        joined.push_str(&python_text(&item, meter)?);
        meter.charge(separator.map_or(0, str::len) as u64)?;
        if joined.len() as u64 > meter.longest {
            return Err(refused(format!("joined text is over the cap of {} bytes", meter.longest)));
        }
    }
    Ok(Value::from(joined))
}

fn install_filters(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    // Results no larger than what goes in: the guard charges for them afterwards.
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("title", filters::title);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("length", filters::length);
    environment.add_filter("count", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("list", filters::list);
    environment.add_filter("reverse", filters::reverse);
    environment.add_filter("items", filters::items);
    environment.add_filter("dictsort", filters::dictsort);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("unique", filters::unique);
    environment.add_filter("min", filters::min);
    environment.add_filter("max", filters::max);
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("int", filters::int);
    environment.add_filter("float", filters::float);
    environment.add_filter("abs", filters::abs);
    environment.add_filter("round", filters::round);
    environment.add_filter("select", filters::select);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("reject", filters::reject);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("map", filters::map);
    // Nothing is escaped in a chat template, so nothing needs marking.
    environment.add_filter("safe", |value: Value| value);
    let m = meter.clone();
    environment.add_filter("string", move |value: Value| python_text(&value, &m));
    let m = meter.clone();
    environment.add_filter("join", move |items: Value, separator: Option<&str>| join(&items, separator, &m));
    let m = meter.clone();
    environment.add_filter("replace", move |text: &str, from: &str, to: &str| {
        grown(text, from, to, &m)?;
        Ok::<_, Error>(text.replace(from, to))
    });
    let m = meter.clone();
    environment.add_filter(
        "indent",
        move |text: &str, width: Option<usize>, first: Option<bool>, blank: Option<bool>| {
            let width = width.unwrap_or(4);
            m.string((text.lines().count() as u64 + 1).saturating_mul(width as u64).saturating_add(text.len() as u64))?;
            let pad = " ".repeat(width);
            let lines = text.split('\n').enumerate().map(|(index, line)| {
                let padded =
                    if index == 0 { first.unwrap_or(false) } else { blank.unwrap_or(false) || !line.is_empty() };
                if padded { format!("{pad}{line}") } else { line.to_string() }
            });
            Ok::<_, Error>(lines.collect::<Vec<_>>().join("\n"))
        },
    );
    let m = meter.clone();
    environment.add_filter("tojson", move |value: Value, options: Kwargs| {
        m.value(&value)?;
        let indent: Option<usize> = options.get("indent")?;
        let ascii: Option<bool> = options.get("ensure_ascii")?;
        options.assert_all_used()?;
        let indent = indent.map(|width| width.min(16));
        let mut out = String::new();
        super::template_json::write(&value, indent, ascii.unwrap_or(false), 0, &mut out, &m)?;
        Ok(out)
    });
}

/// A comparison of two values.
type Compare = fn(&Value, &Value) -> bool;

fn install_tests(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("string", tests::is_string);
    environment.add_test("number", tests::is_number);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("float", tests::is_float);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("true", tests::is_true);
    environment.add_test("false", tests::is_false);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("even", tests::is_even);
    environment.add_test("divisibleby", tests::is_divisibleby);
    // In Python a string and a mapping are sequences to this test too.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::String)
    });
    environment.add_test("callable", |value: &Value| matches!(value.kind(), ValueKind::Plain));
    let comparisons: [(&'static [&'static str], Compare); 4] = [
        (&["eq", "equalto", "=="], |a, b| a == b),
        (&["ne", "!="], |a, b| a != b),
        (&["lt", "lessthan", "<"], |a, b| a < b),
        (&["gt", "greaterthan", ">"], |a, b| a > b),
    ];
    for (names, compare) in comparisons {
        for name in names {
            let m = meter.clone();
            environment.add_test(*name, move |a: &Value, b: &Value| {
                m.value(a)?;
                m.value(b)?;
                Ok::<_, Error>(compare(a, b))
            });
        }
    }
    let m = meter.clone();
    environment.add_test("in", move |state: &State, a: &Value, rest: Rest<Value>| match &rest[..] {
        [b] => {
            m.value(a)?;
            m.value(b)?;
            tests::is_in(state, a, b)
        }
        _ => Err(refused("the test \"in\" takes one argument")),
    });
}
