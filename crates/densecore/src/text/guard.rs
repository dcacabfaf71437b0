//! Bounded evaluation of templates from model files.
//!
//! minijinja parses, compiles, keeps variables and follows loops and macros. It computes nothing: the compiled template
//! is rewritten, so that every operator, filter, test, method and function goes to one of ours, which measures what it
//! is given and what it would make before it begins (`meter`). Their names are no identifiers, so that a template can
//! neither call nor replace them. What has no rewritten form is refused when the model is loaded.

use std::fmt::Write;

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Token, WhitespaceConfig, parse, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, Value};

use super::meter::refused;

/// Lexical tokens of a template; the longest known have some 5,000. Bounds the depth of expressions.
const TOKENS: usize = 16_384;
/// Operators in one expression; the longest known have some 30. The compiler works out constants once for every operator
/// above them, which takes as long as the square of this, times the longest constant.
const OPERATORS: usize = 256;
/// A factor of 1 that the compiler does not know, see [`prepare`].
pub const ONE: &str = "__one";

/// How the templates are read: as transformers sets jinja2 up.
fn white_space() -> WhitespaceConfig {
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true }
}

/// Counts the tokens and keeps the compiler from multiplying constants, which it would do at any size, and from dividing
/// them, which it does otherwise than Python: every `*`, `//` and `%` gets a factor of 1 that is only known when the
/// template runs. The statement `generation`, by which transformers finds
/// what an assistant said, becomes the block it is without that.
pub fn prepare(source: &str) -> Result<String, Error> {
    let mut prepared = String::with_capacity(source.len());
    let mut copied = 0;
    let mut opened = false;
    let mut operators = 0;
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
        match token {
            Token::Mul | Token::FloorDiv | Token::Mod => {
                prepared.push_str(&source[copied..start]);
                let _ = write!(prepared, "* {ONE} ");
                copied = start;
            }
            Token::Ident(word @ ("generation" | "endgeneration")) if opened => {
                prepared.push_str(&source[copied..start]);
                prepared.push_str(if word == "generation" { "with" } else { "endwith" });
                copied = end;
            }
            _ => {}
        }
        opened = matches!(token, Token::BlockStart);
    }
    prepared.push_str(&source[copied..]);
    Ok(prepared)
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
        let safe = guard(instruction.clone()).map_err(|error| refused(format!("line {line}: {error}")))?;
        guarded.extend(safe.into_iter().map(|instruction| (instruction, line)));
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
