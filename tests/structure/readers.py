"""Readers of sources: each finds the places where one rule of ARCHITECTURE.md is broken, and imports nothing it reads."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

Found = Iterator[tuple[str, int]]  # what breaks the rule, and its line

# ---- Python: connections ----

NETWORK = {
    "aiohttp", "datasets", "ftplib", "http", "httpx", "huggingface_hub", "imaplib", "litellm", "openai", "poplib",
    "requests", "smtplib", "socket", "socketserver", "ssl", "telnetlib", "urllib.request", "urllib3", "webbrowser",
    "websockets", "xmlrpc",
}  # fmt: skip
CONNECTS = {
    "from_pretrained", "hf_hub_download", "load_dataset", "open_connection", "open_unix_connection", "snapshot_download",
    "start_server", "urlopen",
}  # fmt: skip
NATIVE = {"ctypes", "cffi"}


def connections(tree: ast.AST) -> Found:
    """What reaches other machines: modules for it, wherever they are imported, and calls that do it by themselves."""
    for module, line in modules(tree):
        if any(module == each or module.startswith(each + ".") for each in NETWORK):
            yield module, line
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            remote = called == "dspy.LM" and not any(word.arg == "engine" for word in node.keywords)
            if remote or called.split(".")[-1] in CONNECTS:
                yield called, node.lineno


def native(tree: ast.AST) -> Found:
    """Ways from Python into compiled code that are not the binding."""
    return ((module, line) for module, line in modules(tree) if module.split(".")[0] in NATIVE)


def modules(tree: ast.AST) -> Found:
    """Every module that is imported, in functions and by name too; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            given = node.args[0] if node.args else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield given.value, node.lineno


# ---- Python: loops over the numbers of a tensor ----

MADE_OF_TENSORS = {"numpy", "tolist", "ravel", "flatten", "nditer", "ndenumerate"}
ARRAYS = re.compile(r"^((npt\.)?NDArray\b.*|np\.ndarray|Hidden|Tensor|torch\.Tensor)$")
THROUGH = {"enumerate", "zip", "map", "filter", "reversed", "sorted", "list", "tuple", "iter", "len", "range"}


def tensor_loops(tree: ast.AST) -> Found:
    """Loops and comprehensions over an array, with the function they are in."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from ((function.name, line) for line in sorted(_loops(function)))


def _loops(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[int]:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arrays = {a.arg for a in arguments if a.annotation and ARRAYS.match(ast.unparse(a.annotation).strip("'\""))}
    found: set[int] = set()
    for _ in range(4):  # names that come from names: as deep as sources here go
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and _is_array(node.value, arrays):
                arrays |= {name for target in node.targets for name in _names(target)}
            elif isinstance(node, ast.AnnAssign) and node.value and _is_array(node.value, arrays):
                arrays |= _names(node.target)
            elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)) and _is_array(node.iter, arrays):
                arrays |= _names(node.target)
                found.add(node.iter.lineno)
    return found


def _names(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _is_array(value: ast.AST, arrays: set[str]) -> bool:
    if isinstance(value, ast.Name):
        return value.id in arrays
    if isinstance(value, ast.Call):
        called = ast.unparse(value.func)
        if called.startswith(("np.", "numpy.", "torch.")) or called.split(".")[-1] in MADE_OF_TENSORS:
            return True
        return called in THROUGH and any(_is_array(argument, arrays) for argument in value.args)
    if isinstance(value, ast.BinOp):
        return _is_array(value.left, arrays) or _is_array(value.right, arrays)
    if isinstance(value, ast.Attribute):  # `array.T`, and `array.shape`, by which its numbers are counted
        return value.attr == "flat" or _is_array(value.value, arrays)
    return isinstance(value, (ast.Subscript, ast.Starred)) and _is_array(value.value, arrays)


# ---- Python and Rust: sums of emitted tokens and latent steps ----

EMITTED, LATENT = re.compile("emitted|output_tokens|completion_tokens"), re.compile("latent")


def sums_of_counts(tree: ast.AST) -> Found:
    """Expressions that add tokens emitted to latent steps: `+`, `+=`, and `sum` of both."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and not _is_text(node):
            parts = [_words(node.left), _words(node.right)]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and not _is_text(node.value):
            parts = [_words(node.target), _words(node.value)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("sum", "math.fsum", "fsum") and node.args:
            given = node.args[0]
            parts = [_words(each) for each in getattr(given, "elts", [given])]
        else:
            continue
        emitted, latent = ({i for i, p in enumerate(parts) if kind.search(p)} for kind in (EMITTED, LATENT))
        if emitted and latent and len(emitted | latent) > 1:
            yield ast.unparse(node), node.lineno


def _words(node: ast.AST) -> str:
    """Names, attributes and keys of an expression."""
    named = (
        getattr(each, "id", None) or getattr(each, "attr", None) or getattr(each, "value", None)
        for each in ast.walk(node)
        if isinstance(each, (ast.Name, ast.Attribute, ast.Constant))
    )
    return " ".join(str(each) for each in named)


def _is_text(node: ast.AST) -> bool:
    """Whether a `+` joins texts: one with a string in it that is no key."""
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def rust_sums_of_counts(source: str) -> Found:
    """The same in Rust, a line at a time."""
    pattern = re.compile(r"emitted\w*\s*\+=?\s*[\w.]*latent|latent\w*\s*\+=?\s*[\w.]*emitted")
    return ((line.strip(), number) for number, line in code(source) if pattern.search(line))


def cells(path: Path) -> str:
    """Python of a notebook, without what only IPython understands."""
    read = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in read if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


# ---- Rust ----

SOCKETS = re.compile(r"\bnet\s*::|::\s*net\b|\{[^}]*\bnet\b[^}]*\}|\b(Tcp|Udp|Unix)(Stream|Socket|Listener|Datagram)\b")
LOOPS = re.compile(r"(^|[^\w])(for\s+[^<].*\bin\b|while\b)")
FOLDS = re.compile(r"\.(sum|product|fold|sqrt|exp|ln|pow[if]|abs|mul_add|iter_mut|r?chunks\w*|windows|zip)(::<\w+>)?\(")
ARITHMETIC = re.compile(r"[-+*/%]= | [*/%] | [-+] (?![A-Z'])")
SIZES = re.compile(r"\b(rows|width|columns|len|count|shape|bytes)\b")


def code(source: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without comments and the contents of strings."""
    for number, line in enumerate(source.splitlines(), 1):
        yield number, re.sub(r'"(\\.|[^"\\])*"', '""', line).split("//")[0]


def sockets(source: str) -> Found:
    """Uses of the standard library's network."""
    return ((line.strip(), number) for number, line in code(source) if SOCKETS.search(line))


def computations(source: str) -> Found:
    """Loops over things, folds, and arithmetic on what is no size: what the binding leaves to the engine.

    A bare `loop` waits for something, as a stream does for its next event.
    """
    for number, line in code(source):
        computed = ARITHMETIC.search(line) and not SIZES.search(line)
        if LOOPS.search(line) or FOLDS.search(line) or computed:
            yield line.strip(), number


def messages_naming(word: str, source: str) -> Found:
    """String literals of a line that say a word."""
    for number, line in enumerate(source.splitlines(), 1):
        if not line.lstrip().startswith("//"):
            for text in re.findall(r'"((?:\\.|[^"\\])*)"', line):
                if re.search(rf"\b{word}\b", text):
                    yield text, number


def needed(roots: set[str], lock: dict) -> set[str]:
    """Every package that some of `roots` is built with, by a parsed Cargo.lock."""
    uses: dict[str, set[str]] = {}
    for package in lock["package"]:
        uses.setdefault(package["name"], set()).update(each.split()[0] for each in package.get("dependencies", []))
    found: set[str] = set()
    waiting = set(roots)
    while waiting:
        found |= waiting
        waiting = {each for package in waiting for each in uses.get(package, set())} - found
    return found
