//! Bounded evaluation of templates from model files.
//!
//! Fuel counts instructions, but one instruction can double a string, nest a list or compare megabytes. So the compiled
//! template is rewritten before it runs: what makes or compares values goes through functions that charge a [`Meter`]
//! for every byte and refuse values that are too large or too deep. Their names are no identifiers, so that a template
//! can neither call nor replace them.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Token, WhitespaceConfig, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::template_values::{python_text, slice};

/// Lexical tokens of a template; the longest known have some 5,000. Bounds the depth of expressions.
const TOKENS: usize = 16_384;
/// Lists within lists, at most; messages need 3, tool descriptions some 10.
const DEPTH: usize = 32;
/// Elements of one value, those of its parts included. A range is held to the same.
pub const ELEMENTS: u64 = 1 << 17;
/// Work in multiples of the output cap: room to copy the whole output this often.
const WORK: u64 = 64;
/// A factor of 1 that the compiler does not know, see [`prepare`].
const ONE: &str = "__one";

/// The work of one rendering, counted in bytes touched.
#[derive(Debug)]
pub struct Meter {
    spent: AtomicU64,
    cap: u64,
    written: AtomicU64,
    /// Bytes of the output and of any string on the way to it.
    pub longest: u64,
}

impl Meter {
    /// A meter for an output of at most `longest` bytes.
    pub fn new(longest: usize) -> Arc<Self> {
        let longest = longest as u64;
        Arc::new(Self { spent: AtomicU64::new(0), cap: longest * WORK, written: AtomicU64::new(0), longest })
    }

    /// Adds work.
    pub fn charge(&self, bytes: u64) -> Result<(), Error> {
        if self.spent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.cap {
            return Err(refused(format!("the template handles over {} bytes to render", self.cap)));
        }
        Ok(())
    }

    /// Adds a string that is about to be made.
    pub fn string(&self, bytes: u64) -> Result<(), Error> {
        if bytes > self.longest {
            return Err(refused(format!("a string would take {bytes} bytes, over the cap of {}", self.longest)));
        }
        self.charge(bytes)
    }

    /// Adds output, captured or final.
    fn write(&self, bytes: u64) -> Result<(), Error> {
        if self.written.fetch_add(bytes, Ordering::Relaxed) + bytes > self.longest {
            return Err(refused(format!("the output is over the cap of {} bytes", self.longest)));
        }
        self.charge(bytes)
    }

    /// Charges for all a value holds; refuses it when it is too large or too deep.
    pub fn value(&self, value: &Value) -> Result<(), Error> {
        let mut elements = 0;
        let mut bytes = 0;
        self.walk(value, 0, &mut elements, &mut bytes)?;
        self.string(bytes)?;
        self.charge(elements * 16)
    }

    fn walk(&self, value: &Value, depth: usize, elements: &mut u64, bytes: &mut u64) -> Result<(), Error> {
        *elements += 1;
        if depth > DEPTH || *elements > ELEMENTS || *bytes > self.longest {
            return Err(refused(format!(
                "a list or map is nested over {DEPTH} deep, has over {ELEMENTS} elements or over {} bytes",
                self.longest
            )));
        }
        match value.kind() {
            ValueKind::String => *bytes += text(value).len() as u64,
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.walk(&item, depth + 1, elements, bytes)?;
                }
            }
            ValueKind::Map if !is_namespace(value) => {
                for key in value.try_iter()? {
                    self.walk(&key, depth + 1, elements, bytes)?;
                    self.walk(&value.get_item(&key)?, depth + 1, elements, bytes)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// An error of a template that asks for too much.
pub fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Namespaces are the only values a template can change. They look like maps but may hold themselves.
fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// Whether a value holds or is something other than text, numbers, lists and maps. Bounded by [`Meter::value`].
fn holds_objects(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Plain | ValueKind::Invalid => true,
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().is_ok_and(|mut items| items.any(|v| holds_objects(&v)))
        }
        ValueKind::Map => {
            is_namespace(value)
                || value
                    .try_iter()
                    .is_ok_and(|mut keys| keys.any(|k| value.get_item(&k).is_ok_and(|v| holds_objects(&v))))
        }
        _ => false,
    }
}

/// How the templates are read: as transformers sets jinja2 up.
fn white_space() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

/// Counts the tokens and keeps the compiler from multiplying constants, which it would do at any size: every `*` gets
/// a factor of 1 that is only known when the template runs.
pub fn prepare(source: &str) -> Result<String, Error> {
    let mut prepared = String::with_capacity(source.len());
    let mut copied = 0;
    for (count, token) in tokenize(source, false, SyntaxConfig, white_space()).enumerate() {
        let (token, span) = token?;
        if count >= TOKENS {
            return Err(refused(format!("the template has over {TOKENS} lexical tokens")));
        }
        if matches!(token, Token::Mul) {
            let end = span.end_offset as usize;
            prepared.push_str(&source[copied..end]);
            let _ = write!(prepared, " {ONE} *");
            copied = end;
        }
    }
    prepared.push_str(&source[copied..]);
    Ok(prepared)
}

/// Compiles what [`prepare`] returned.
pub fn compile(prepared: &str) -> Result<Instructions<'_>, Error> {
    let tree = parse(prepared, "chat template", SyntaxConfig, white_space())?;
    let mut generator = CodeGenerator::new("chat template", prepared);
    generator.compile_stmt(&tree);
    let (plain, blocks) = generator.finish();
    if !blocks.is_empty() {
        return Err(refused("blocks are for templates of several files; a chat template is one"));
    }
    let mut guarded = Vec::new();
    // New position of every old instruction; jumps are translated with it.
    let mut moved = Vec::new();
    let mut at = 0;
    while let Some(instruction) = plain.get(at) {
        moved.push(guarded.len() as u32);
        let line = plain.get_line(at).unwrap_or(1) as u16;
        if matches!(instruction, Instruction::Include(_) | Instruction::LoadBlocks | Instruction::ExportLocals) {
            return Err(refused(format!("line {line} includes, extends or imports another template; there is none")));
        }
        guarded.extend(guard(instruction.clone()).into_iter().map(|instruction| (instruction, line)));
        at += 1;
    }
    moved.push(guarded.len() as u32);
    let mut result = Instructions::new("chat template", prepared);
    for (mut instruction, line) in guarded {
        if let Instruction::Iterate(to)
        | Instruction::Jump(to)
        | Instruction::JumpIfFalse(to)
        | Instruction::JumpIfFalseOrPop(to)
        | Instruction::JumpIfTrueOrPop(to)
        | Instruction::BuildMacro(_, to, _) = &mut instruction
            && let Some(target) = moved.get(*to as usize)
        {
            *to = *target;
        }
        result.add_with_line(instruction, line);
    }
    Ok(result)
}

/// The guarded form of one instruction.
fn guard(instruction: Instruction<'_>) -> Vec<Instruction<'_>> {
    use Instruction as I;
    let call = |name, count| I::CallFunction(name, Some(count));
    match instruction {
        // Through the formatter, which counts what is written.
        I::EmitRaw(text) => vec![I::LoadConst(Value::from(text)), I::Emit],
        I::Add => vec![call("+", 2)],
        I::StringConcat => vec![call("~", 2)],
        I::Mul => vec![call("*", 2)],
        I::Slice => vec![call("[:]", 4)],
        I::Eq | I::Ne | I::Gt | I::Gte | I::Lt | I::Lte | I::In | I::CompareAndPreserve(_) => {
            vec![call("read!", 1), I::Swap, call("read!", 1), I::Swap, instruction]
        }
        I::GetItem => vec![I::Swap, call("index!", 1), I::Swap, I::GetItem],
        I::SetAttr(_) => vec![I::Swap, call("store!", 1), I::Swap, instruction],
        I::BuildList(_)
        | I::BuildMap(_)
        | I::ApplyFilter(..)
        | I::CallMethod(..)
        | I::CallFunction(..)
        | I::CallObject(_) => {
            vec![instruction, call("read!", 1)]
        }
        other => vec![other],
    }
}

/// Registers the functions that guarded instructions call.
pub fn install(environment: &mut Environment<'_>, meter: &Arc<Meter>) {
    environment.add_global(ONE, Value::from(1));
    let m = meter.clone();
    environment.add_function("read!", move |value: Value| m.value(&value).map(|()| value));
    let m = meter.clone();
    environment.add_function("index!", move |value: Value| m.charge(text(&value).len() as u64).map(|()| value));
    let m = meter.clone();
    environment.add_function("store!", move |value: Value| {
        m.value(&value)?;
        if holds_objects(&value) {
            return Err(refused("namespaces may hold text, numbers, lists and maps only"));
        }
        Ok(value)
    });
    let m = meter.clone();
    environment.add_function("~", move |a: Value, b: Value| {
        let (a, b) = (python_text(&a, &m)?, python_text(&b, &m)?);
        m.string((a.len() + b.len()) as u64)?;
        Ok(a + &b)
    });
    let m = meter.clone();
    environment.add_function("+", move |a: Value, b: Value| add(&a, &b, &m));
    let m = meter.clone();
    environment.add_function("*", move |a: Value, b: Value| multiply(&a, &b, &m));
    let m = meter.clone();
    environment.add_function("[:]", move |value: Value, start: Value, stop: Value, step: Value| {
        m.value(&value)?;
        slice(&value, &start, &stop, &step)
    });
    let m = meter.clone();
    environment.set_formatter(move |out, _, value| {
        let text = python_text(value, &m)?;
        m.write(text.len() as u64)?;
        out.write_str(&text).map_err(Error::from)
    });
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn mismatch(operator: &str, a: &Value, b: &Value) -> Error {
    refused(format!("{operator} does not go between {} and {}", a.kind(), b.kind()))
}

fn add(a: &Value, b: &Value, meter: &Meter) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        meter.string((left.len() + right.len()) as u64)?;
        return Ok(Value::from([left, right].concat()));
    }
    if is_list(a) && is_list(b) {
        meter.value(a)?;
        meter.value(b)?;
        let joined: Vec<Value> = a.try_iter()?.chain(b.try_iter()?).collect();
        let joined = Value::from(joined);
        meter.value(&joined)?;
        return Ok(joined);
    }
    numbers(a, b, i64::checked_add, |x, y| x + y).ok_or_else(|| mismatch("+", a, b))
}

fn multiply(a: &Value, b: &Value, meter: &Meter) -> Result<Value, Error> {
    let (thing, times) = if a.as_i64().is_some() { (b, a) } else { (a, b) };
    let count = times.as_i64().unwrap_or_default().max(0) as u64;
    if let (Some(text), Some(_)) = (thing.as_str(), times.as_i64()) {
        meter.string((text.len() as u64).saturating_mul(count))?;
        return Ok(Value::from(text.repeat(count as usize)));
    }
    if is_list(thing) && times.as_i64().is_some() {
        meter.value(thing)?;
        let items: Vec<Value> = thing.try_iter()?.collect();
        let total = (items.len() as u64).saturating_mul(count);
        if total > ELEMENTS {
            return Err(refused(format!("a list would have {total} elements, over the cap of {ELEMENTS}")));
        }
        let repeated: Vec<Value> = items.iter().cycle().take(total as usize).cloned().collect();
        return Ok(Value::from(repeated));
    }
    numbers(a, b, i64::checked_mul, |x, y| x * y).ok_or_else(|| mismatch("*", a, b))
}

fn numbers(a: &Value, b: &Value, whole: fn(i64, i64) -> Option<i64>, real: fn(f64, f64) -> f64) -> Option<Value> {
    if let (Some(x), Some(y)) = (a.as_i64(), b.as_i64()) {
        return whole(x, y).map(Value::from);
    }
    let float = |value: &Value| match value.kind() {
        ValueKind::Number | ValueKind::Bool => f64::try_from(value.clone()).ok(),
        _ => None,
    };
    Some(Value::from(real(float(a)?, float(b)?)))
}
