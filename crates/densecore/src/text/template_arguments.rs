//! The arguments of one call, by place or by name.

use minijinja::value::Kwargs;
use minijinja::{Error, Value};

use super::meter::{Meter, machinery, refused};
use super::template_numbers::whole;
use super::template_values::python_text;

/// Arguments of a filter, method or function, without the value it works on.
pub struct Arguments<'a> {
    /// What is called, for messages.
    call: &'a str,
    given: &'a [Value],
    named: Option<Kwargs>,
    meter: &'a Meter,
}

impl<'a> Arguments<'a> {
    /// Measures the arguments and takes those with names apart.
    pub fn new(call: &'a str, args: &'a [Value], meter: &'a Meter) -> Result<Self, Error> {
        let (given, named) = match args.split_last() {
            Some((last, given)) if last.is_kwargs() => (given, Some(Kwargs::try_from(last.clone())?)),
            _ => (args, None),
        };
        given.iter().try_for_each(|value| meter.read(value).map(|_| ()))?;
        if let Some(named) = &named {
            for name in named.args() {
                meter.read(&named.peek::<Value>(name)?)?;
            }
        }
        Ok(Self { call, given, named, meter })
    }

    /// The argument of a place and name; `None` where none is given.
    pub fn get(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        if let Some(value) = self.given.get(place) {
            return Ok(Some(value.clone()));
        }
        match &self.named {
            Some(named) if named.has(name) => named.get::<Value>(name).map(Some),
            _ => Ok(None),
        }
    }

    /// An argument that must be given.
    pub fn must(&self, place: usize, name: &str) -> Result<Value, Error> {
        self.get(place, name)?.ok_or_else(|| refused(format!("{} needs the argument {name}", self.call)))
    }

    /// A text, if it is given and not `none`.
    pub fn text(&self, place: usize, name: &str) -> Result<Option<String>, Error> {
        match self.get(place, name)? {
            None => Ok(None),
            Some(value) if value.is_none() || value.is_undefined() => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.into())),
                None => Err(refused(format!("{} takes a string for {name}, not {}", self.call, value.kind()))),
            },
        }
    }

    /// A text that must be given.
    pub fn needed(&self, place: usize, name: &str) -> Result<String, Error> {
        self.text(place, name)?.ok_or_else(|| refused(format!("{} needs a string for {name}", self.call)))
    }

    /// A whole number, if it is given and not `none`.
    pub fn number(&self, place: usize, name: &str) -> Result<Option<i64>, Error> {
        match self.get(place, name)? {
            None => Ok(None),
            Some(value) if value.is_none() || value.is_undefined() => Ok(None),
            Some(value) => whole(&value)
                .map(Some)
                .ok_or_else(|| refused(format!("{} takes a whole number for {name}, not {}", self.call, value.kind()))),
        }
    }

    /// Whether a flag is set.
    pub fn flag(&self, place: usize, name: &str, otherwise: bool) -> Result<bool, Error> {
        Ok(self.get(place, name)?.map_or(otherwise, |value| value.is_true()))
    }

    /// Those by place from one on.
    pub fn rest(&self, place: usize) -> &'a [Value] {
        self.given.get(place..).unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.named.is_none()
    }

    /// Refuses arguments beyond `most` and names that were not asked for.
    pub fn end(&self, most: usize) -> Result<(), Error> {
        if self.given.len() > most {
            return Err(refused(format!("{} takes {most} arguments at most, not {}", self.call, self.given.len())));
        }
        self.named.as_ref().map_or(Ok(()), Kwargs::assert_all_used)
    }

    /// The value worked on as text, read.
    pub fn subject(&self, value: &Value) -> Result<String, Error> {
        if machinery(value) {
            return Err(refused(format!("{} does not go with {}", self.call, value.kind())));
        }
        let text = python_text(value, self.meter)?;
        self.meter.string(text.len() as u64)?;
        Ok(text.into_owned())
    }
}
