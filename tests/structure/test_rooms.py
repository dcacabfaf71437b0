"""The house keeps its order: who may use whom, how long a file may get, which words stay out.

Reads sources as text, imports nothing of densecore, and needs no build.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
FRONT = ROOT / "python" / "densecore"
SKIPPED_FOLDERS = {"target", ".venv", ".git", ".cache", "__pycache__", "shared", "dist", "corpus", "artifacts"}
SOURCES = {".rs", ".py", ".pyi"}
TEXTS = SOURCES | {".toml", ".md", ".yaml", ".yml", ".sh", ".cfg", ".ini", ".txt", ""}

# crate -> workspace crates it may use
ROOMS = {
    "densecore-kernels": set(),
    "densecore": {"densecore-kernels"},
    "densecore-python": {"densecore"},
}
NETWORK = re.compile(
    r"^(reqwest|ureq|hyper.*|hf-hub|tokio.*|async-std|curl|isahc|attohttpc|minreq|rustls|native-tls|openssl.*|socket2)$"
)
EXTRAS = {"torch", "dspy", "matplotlib", "transformers", "tqdm", "huggingface_hub", "gguf", "llama_cpp", "pandas"}
# Rooms that are built on an extra; what is lighter may not load them.
BUILT_ON = {"programs": "dspy", "optimize": "dspy", "eval": "dspy"}


def files(suffixes: set[str]) -> list[Path]:
    """What git would commit: tracked files and new ones that are not ignored; a plain walk where git is absent."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True, text=True, timeout=60,
        ).stdout.split("\0")  # fmt: skip
        found = [ROOT / name for name in listed if name]
    except (OSError, subprocess.SubprocessError):
        found = list(ROOT.rglob("*"))
    return sorted(
        path
        for path in found
        if path.suffix in suffixes
        and path.is_file()
        and not path.is_symlink()
        and not SKIPPED_FOLDERS & set(path.relative_to(ROOT).parts)
    )


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def manifest(crate: str) -> dict:
    return tomllib.loads((ROOT / "crates" / crate / "Cargo.toml").read_text(encoding="utf-8"))


def dependencies(table: dict, kinds: tuple[str, ...]) -> set[str]:
    """Names in the dependency tables, platform-specific ones included; a renamed package counts by its own name."""
    tables = [table, *table.get("target", {}).values()]
    return {
        entry.get("package", alias) if isinstance(entry, dict) else alias
        for part in tables
        for kind in kinds
        for alias, entry in part.get(kind, {}).items()
    }


# ---- direction ----


def test_every_crate_has_its_room():
    assert {path.name for path in (ROOT / "crates").iterdir() if (path / "Cargo.toml").exists()} == set(ROOMS)


@pytest.mark.parametrize("crate", ROOMS)
def test_crates_depend_downwards_only(crate):
    used = dependencies(manifest(crate), ("dependencies", "build-dependencies", "dev-dependencies"))
    assert used & set(ROOMS) <= ROOMS[crate], f"{crate} may use {ROOMS[crate] or 'no crate of the workspace'}"


@pytest.mark.parametrize("crate", ROOMS)
def test_no_crate_talks_to_the_network(crate):
    used = dependencies(manifest(crate), ("dependencies", "build-dependencies"))
    assert not [entry for entry in used if NETWORK.match(entry)]
    for path in (ROOT / "crates" / crate).rglob("*.rs"):
        assert "std::net" not in path.read_text(encoding="utf-8"), f"{name(path)} opens sockets"


@pytest.mark.parametrize("crate", ["densecore-kernels", "densecore"])
def test_only_the_binding_knows_python(crate):
    used = dependencies(manifest(crate), ("dependencies", "build-dependencies", "dev-dependencies"))
    assert not used & {"pyo3", "numpy", "pyo3-build-config"}


def test_candle_is_a_reference_for_tests_not_a_part_of_the_engine():
    for crate in ROOMS:
        used = dependencies(manifest(crate), ("dependencies", "build-dependencies"))
        assert not [entry for entry in used if entry.startswith("candle")], crate


def loaded_at_import(tree: ast.Module):
    """Imports that run when the module is imported: not those in functions or under TYPE_CHECKING."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.module or "", node.lineno
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def test_the_front_imports_extras_only_where_it_uses_them():
    """A module or room named after an extra is that extra's own, and some rooms are built on it; no other may load it."""
    found = []
    for path in FRONT.rglob("*.py"):
        room = path.relative_to(FRONT).parts[0].removesuffix(".py")
        for module, line in loaded_at_import(ast.parse(path.read_text(encoding="utf-8"))):
            parts = module.split(".")
            part = parts[1] if parts[0] == "densecore" and len(parts) > 1 else parts[0]
            extra = BUILT_ON.get(part, part if part in EXTRAS else None)
            if extra and room not in EXTRAS and BUILT_ON.get(room) != extra:
                found.append(f"{name(path)}:{line} imports {module}")
    assert not found


def test_modules_of_one_system_are_imported_only_where_they_are_used():
    """The package must import everywhere; what Windows or Linux lacks belongs into the function that asks which it is."""
    one_system = {"fcntl", "msvcrt", "termios", "resource", "pwd", "grp", "winreg"}
    found = [
        f"{name(path)}:{line} imports {module}"
        for path in FRONT.rglob("*.py")
        for module, line in loaded_at_import(ast.parse(path.read_text(encoding="utf-8")))
        if module in one_system
    ]
    assert not found


def test_files_are_locked_and_replaced_in_one_place():
    """Each of these has its pitfalls, and one implementation that knows them."""
    calls = {"flock": "runs/lock.py", "locking": "runs/lock.py", "fsync": "runs", "mkstemp": "", "O_APPEND": "runs"}
    found = [
        f"{name(path)}:{node.lineno} uses {node.attr}"
        for path in FRONT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in calls
        and not (calls[node.attr] and path.relative_to(FRONT).as_posix().startswith(calls[node.attr]))
    ]
    assert not found


def test_models_open_files_through_one_function():
    """Names in a cache may stand for a pipe or a device; `regular` opens files and nothing else."""
    opening = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "copyfile", "copy"}
    allowed = {
        ("cache.py", "open"),  # a draft, a new name of its own
        ("pypi.py", "archive.open"),  # a part of a file that is open
        ("pypi.py", "self.hasher.copy"),
        ("transport.py", "opener.open"),  # an address
    }
    found = {
        (path.name, ast.unparse(node.func))
        for path in (FRONT / "models").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in opening
    }
    found = {(file, call) for file, call in found if "pip.log" not in call}  # in a folder of its own
    assert found == allowed


def test_rooms_use_those_before_them_as_the_page_says():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    told = page.partition("The other rooms stand in this order")[2].partition("\n### ")[0]
    order = re.findall(r"`(\w+)/`", told)
    assert sorted(order) == sorted({*order}), "each is named once"
    assert set(order) == {p.name for p in FRONT.iterdir() if (p / "__init__.py").exists()} - {"models"}
    wrong = []
    for room in order:
        for path in sorted((FRONT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for module in _densecore(node):
                    if module in order[order.index(room) + 1 :]:
                        wrong.append(f"{name(path)}:{node.lineno} uses {module}/")
    assert not wrong


def _densecore(node: ast.AST) -> list[str]:
    """Rooms of the package that an import names, inside functions too."""
    if isinstance(node, ast.ImportFrom) and node.module == "densecore" and not node.level:
        return [alias.name for alias in node.names]
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    return [each.split(".")[1] for each in names if each.startswith("densecore.")]


def test_the_walk_over_imports_sees_what_it_should():
    source = (
        "import torch\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import dspy\n"
        "def f():\n    import matplotlib\ntry:\n    import transformers.utils\nexcept ImportError:\n    pass\n"
    )
    assert {module for module, _ in loaded_at_import(ast.parse(source))} == {"torch", "typing", "transformers.utils"}


# ---- what stays out ----


def runs_foreign_code(tree: ast.Module):
    """Imports and calls through which a file that is read can run code."""
    modules = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in modules)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in modules:
            yield node.module
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            pickled = any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
            if called in ("eval", "exec", "torch.load") or pickled:
                yield called


def test_no_file_from_elsewhere_is_ever_unpickled():
    found = {name(path): list(runs_foreign_code(ast.parse(path.read_text("utf-8")))) for path in FRONT.rglob("*.py")}
    assert not {path: calls for path, calls in found.items() if calls}


def test_the_search_for_foreign_code_sees_what_it_should():
    source = (
        "import pickle\nfrom marshal import loads\ntorch.load(x)\nexec(x)\nre.compile(x)\n"
        "np.load(x, allow_pickle=True)\nnp.load(x, allow_pickle=False)\nmodel.eval()\n"
    )
    assert sorted(runs_foreign_code(ast.parse(source))) == ["exec", "marshal", "np.load", "pickle", "torch.load"]


def matches(pattern: str, suffixes: set[str]) -> list[str]:
    wanted = re.compile(pattern)
    return [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path in files(suffixes)
        if path != Path(__file__).resolve() and path.name != "LICENSE"
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if wanted.search(line)
    ]


def test_nothing_is_left_for_later():
    assert not matches(r"\b(TODO|FIXME|XXX|HACK)\b|\btodo!\(|\bunimplemented!\(", TEXTS)


def test_no_test_is_switched_off():
    assert not matches(r"#\[ignore\b|pytest\.mark\.skip\b(?!if)|unittest\.skip\b", SOURCES)


def test_no_place_of_one_machine_is_written_down():
    # `/path/to/...` in an example is nobody's; hostile names in tests may point to the scratch folder.
    before = r"""(?:^|[\s"'`=(:,\[])"""
    assert not matches(before + r"/(?:work|root|home|mnt|Users|opt/wheels)/", TEXTS)
    scratch = matches(before + r"/tmp/", TEXTS)
    assert not [hit for hit in scratch if not hit.startswith("tests/")]


def test_no_registry_host_is_written_down():
    # Packages and crates come through the user's own pip and cargo, whatever index they are told to use.
    assert not matches(
        r"\b(?:files\.pythonhosted|pypi\.python|pypi|test\.pypi)\.org\b|\b(?:static|index)\.crates\.io\b", TEXTS
    )


@pytest.mark.parametrize("path", sorted((ROOT / "crates").rglob("src/**/*.rs")), ids=name)
def test_unsafe_has_its_places(path):
    """`unsafe` only in kernels, the memory map and tensor exchange."""
    if path.is_relative_to(ROOT / "crates" / "densecore-kernels"):
        return
    code = "\n".join(line.split("//")[0] for line in path.read_text(encoding="utf-8").splitlines())
    allowed = re.search(r"(mmap|exchange|dlpack|tensor)\.rs$", path.name)
    assert allowed or not re.search(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b)", code)


# ---- size ----


def lengths() -> dict[str, int]:
    return {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files(SOURCES)}


def test_no_source_file_is_over_800_lines():
    assert not {path: lines for path, lines in lengths().items() if lines > 800}


def test_the_median_source_file_is_under_200_lines():
    counted = [lines for lines in lengths().values() if lines > 3]
    assert statistics.median(counted) < 200


def test_the_binding_stays_thin():
    def lines(crate: str) -> int:
        return sum(
            len(path.read_text(encoding="utf-8").splitlines())
            for path in (ROOT / "crates" / crate / "src").rglob("*.rs")
        )

    assert lines("densecore-python") <= 0.25 * (lines("densecore") + lines("densecore-kernels"))


# ---- the package ----


def test_versions_agree():
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]["version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == cargo
    assert f"[{cargo}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8") or "[Unreleased]" in (
        ROOT / "CHANGELOG.md"
    ).read_text(encoding="utf-8")


def test_the_package_needs_numpy_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]] == ["numpy"]


def test_links_between_documents_lead_somewhere():
    broken = []
    for path in files({".md"}):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                broken.append(f"{name(path)} -> {target}")
    assert not broken
