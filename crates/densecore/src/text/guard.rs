//! Bounded evaluation of templates from model files.
//!
//! minijinja parses, compiles, keeps variables and follows loops and macros. It computes nothing: the compiled template
//! is rewritten, so that every operator, filter, test, method and function goes to one of ours, which measures what it
//! is given and what it would make before it begins (`meter`). Their names are no identifiers, so that a template can
//! neither call nor replace them. What has no rewritten form is refused when the model is loaded.

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Token, WhitespaceConfig, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, Value};

use super::meter::refused;

/// Lexical tokens of a template; the longest known have some 5,000. Bounds the depth of expressions.
const TOKENS: usize = 16_384;
/// Operators in one expression; the longest known have some 30. For each of them the compiler looks through all below it for
/// constants to work out, and finds `[]`, `{}`, `true` and the like.
const OPERATORS: usize = 256;

/// How the templates are read: as transformers sets jinja2 up.
fn white_space() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

/// A source as it is compiled: every constant in it is a variable, whose value stands here.
#[derive(Debug, Clone)]
pub struct Prepared {
    source: String,
    /// What those variables begin with: nothing else in the source holds it.
    prefix: String,
    constants: Vec<Value>,
}

impl Prepared {
    /// The constant behind the name of a variable.
    fn constant(&self, name: &str) -> Option<&Value> {
        self.constants.get(name.strip_prefix(&self.prefix)?.parse::<usize>().ok()?)
    }
}

/// Counts tokens and operators, and takes constants out, so that the compiler works out nothing: it would do so at any
/// size, and otherwise than Python does. The statement `generation`, by which transformers finds what an assistant said,
/// becomes the block it is without that.
pub fn prepare(source: &str) -> Result<Prepared, Error> {
    let mut prefix = String::from("__constant");
    while source.contains(&prefix) {
        prefix.push('_');
    }
    let mut prepared = Prepared { source: String::with_capacity(source.len()), prefix, constants: Vec::new() };
    let (mut copied, mut operators) = (0, 0);
    let mut before = None;
    for (count, token) in tokenize(source, false, SyntaxConfig, white_space()).enumerate() {
        let (token, span) = token?;
        if count >= TOKENS {
            return Err(refused(format!("the template has over {TOKENS} lexical tokens")));
        }
        operators = if matches!(token, Token::BlockStart | Token::VariableStart) { 0 } else { operators };
        operators += usize::from(is_operator(&token));
        if operators > OPERATORS {
            return Err(refused(format!("an expression of the template has over {OPERATORS} operators")));
        }
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        let word = match (&token, &before) {
            (Token::Ident("generation"), Some(Token::BlockStart)) => Some("with".to_owned()),
            (Token::Ident("endgeneration"), Some(Token::BlockStart)) => Some("endwith".to_owned()),
            // `list.0` and `map.key`.
            (_, Some(Token::Dot)) => None,
            _ => constant(&token).map(|value| prepared.take_out(value, before.as_ref())),
        };
        if let Some(word) = word {
            prepared.source.push_str(&source[copied..start]);
            prepared.source.push_str(&word);
            // Lines keep their numbers.
            prepared.source.extend(source[start..end].matches('\n'));
            copied = end;
        }
        before = Some(token);
    }
    prepared.source.push_str(&source[copied..]);
    Ok(prepared)
}

impl Prepared {
    /// The name for a constant. Texts that follow one another are one text.
    fn take_out(&mut self, value: Value, before: Option<&Token<'_>>) -> String {
        let follows = matches!(before, Some(Token::Str(_) | Token::String(_)));
        if let (true, Some(last), Some(text)) = (follows, self.constants.last_mut(), value.as_str()) {
            *last = Value::from([last.as_str().unwrap_or_default(), text].concat());
            return " ".into();
        }
        self.constants.push(value);
        format!("{}{}", self.prefix, self.constants.len() - 1)
    }
}

fn constant(token: &Token<'_>) -> Option<Value> {
    Some(match token {
        Token::Str(text) => Value::from(*text),
        Token::String(text) => Value::from(&**text),
        Token::Int(number) => Value::from(*number),
        Token::Int128(number) => Value::from(**number),
        Token::Float(number) => Value::from(*number),
        _ => return None,
    })
}

fn is_operator(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => matches!(*word, "and" | "or" | "not" | "in"),
        _ => is_sign(token),
    }
}

fn is_sign(token: &Token<'_>) -> bool {
    use Token as T;
    let sum = matches!(token, T::Plus | T::Minus | T::Tilde | T::Mul | T::Div | T::FloorDiv | T::Pow | T::Mod);
    sum || matches!(token, T::Eq | T::Ne | T::Gt | T::Gte | T::Lt | T::Lte)
}

/// Compiles what [`prepare`] returned.
pub fn compile(prepared: &Prepared) -> Result<Instructions<'_>, Error> {
    let source = prepared.source.as_str();
    let tree = parse(source, "chat template", SyntaxConfig, white_space())?;
    let mut generator = CodeGenerator::new("chat template", source);
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
        let safe = match instruction {
            Instruction::Lookup(name) => {
                prepared.constant(name).map(|value| vec![Instruction::LoadConst(value.clone())])
            }
            Instruction::Enclose(name) => prepared.constant(name).map(|_| Vec::new()),
            _ => None,
        };
        let safe = safe.map_or_else(|| guard(instruction.clone()), Ok);
        let safe = safe.map_err(|error| refused(format!("line {line}: {error}")))?;
        guarded.extend(safe.into_iter().map(|instruction| (instruction, line)));
        at += 1;
    }
    moved.push(guarded.len() as u32);
    let mut result = Instructions::new("chat template", source);
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

/// The guarded form of one instruction, or why there is none.
fn guard(instruction: Instruction<'_>) -> Result<Vec<Instruction<'_>>, Error> {
    use Instruction as I;
    let call = |name, count| I::CallFunction(name, Some(count));
    let named = |name, kind, count: Option<u16>| match count.and_then(|count| count.checked_add(1)) {
        Some(count) => Ok(vec![I::LoadConst(Value::from(name)), call(kind, count)]),
        None => Err(refused("arguments cannot be unpacked with * or **")),
    };
    Ok(match instruction {
        // Through the formatter, which counts what is written.
        I::EmitRaw(text) => vec![I::LoadConst(Value::from(text)), I::Emit],
        I::LoadConst(value) => vec![I::LoadConst(plain(&value)?)],
        I::Add => vec![call("+", 2)],
        I::Sub => vec![call("-", 2)],
        I::Mul => vec![call("*", 2)],
        I::Div => vec![call("/", 2)],
        I::IntDiv => vec![call("//", 2)],
        I::Rem => vec![call("%", 2)],
        I::Pow => vec![call("**", 2)],
        I::Neg => vec![call("neg!", 1)],
        I::StringConcat => vec![call("~", 2)],
        I::Eq => vec![call("==", 2)],
        I::Ne => vec![call("!=", 2)],
        I::Gt => vec![call(">", 2)],
        I::Gte => vec![call(">=", 2)],
        I::Lt => vec![call("<", 2)],
        I::Lte => vec![call("<=", 2)],
        I::In => vec![call("in!", 2)],
        // Chained comparisons: the right one is kept for the next.
        I::CompareAndPreserve(_) => vec![call("read!", 1), I::Swap, call("read!", 1), I::Swap, instruction],
        I::GetItem => vec![call("[]", 2)],
        I::Slice => vec![call("[:]", 4)],
        I::SetAttr(_) => vec![I::Swap, call("store!", 1), I::Swap, instruction],
        // A list without a known length is what a loop's own condition let through; calls with * and ** begin otherwise.
        I::BuildList(_) | I::BuildMap(_) => vec![instruction, call("built!", 1)],
        I::ApplyFilter(name, count, _) => named(name, "|", count)?,
        I::PerformTest(name, count, _) => named(name, "is!", count)?,
        I::CallMethod(name, count) => named(name, ".()", count)?,
        I::CallFunction(_, Some(_)) | I::CallObject(Some(_)) | I::Iterate(_) | I::FastRecurse => {
            vec![call("step!", 0), I::DiscardTop, instruction]
        }
        I::PushLoop(_) => vec![call("loop!", 1), instruction],
        I::BuildMacro(..) => vec![call("macro!", 0), I::DiscardTop, instruction],
        // Every closure copies the names of what it keeps.
        I::Enclose(name) => {
            vec![I::LoadConst(Value::from(name.len())), call("enclose!", 1), I::DiscardTop, instruction]
        }
        I::UnpackLists(_) | I::MergeKwargs(_) | I::CallFunction(_, None) | I::CallObject(None) => {
            return Err(refused("arguments cannot be unpacked with * or **"));
        }
        I::Include(_) | I::LoadBlocks | I::ExportLocals | I::CallBlock(_) | I::FastSuper => {
            return Err(refused("it includes, extends or imports another template; there is none"));
        }
        I::PushAutoEscape | I::PopAutoEscape => return Err(refused("nothing is escaped in a chat template")),
        // They move values and follow jumps.
        I::StoreLocal(_)
        | I::Lookup(_)
        | I::GetAttr(_)
        | I::BuildKwargs(_)
        | I::UnpackList(_)
        | I::Not
        | I::Emit
        | I::PushWith
        | I::PushDidNotIterate
        | I::PopFrame
        | I::PopLoopFrame
        | I::Jump(_)
        | I::JumpIfFalse(_)
        | I::JumpIfFalseOrPop(_)
        | I::JumpIfTrueOrPop(_)
        | I::BeginCapture(_)
        | I::EndCapture
        | I::DupTop
        | I::DiscardTop
        | I::Swap
        | I::Return
        | I::IsUndefined
        | I::GetClosure => vec![instruction],
    })
}

/// A constant as lists and maps: the compiler adds lists up by a chain of iterators.
fn plain(value: &Value) -> Result<Value, Error> {
    Ok(match value.kind() {
        _ if value.is_kwargs() => {
            let named = Kwargs::try_from(value.clone())?;
            let pairs = named.args().map(|name| Ok::<_, Error>((name, plain(&named.peek::<Value>(name)?)?)));
            Value::from(pairs.collect::<Result<Kwargs, _>>()?)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            Value::from(value.try_iter()?.map(|item| plain(&item)).collect::<Result<Vec<_>, _>>()?)
        }
        ValueKind::Map => {
            let pairs = value.try_iter()?.map(|key| Ok::<_, Error>((key.clone(), plain(&value.get_item(&key)?)?)));
            pairs.collect::<Result<Vec<_>, _>>()?.into_iter().collect()
        }
        _ => value.clone(),
    })
}
