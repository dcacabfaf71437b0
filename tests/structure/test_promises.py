"""What ARCHITECTURE.md and the README promise and sources can show. Each reader is shown a broken rule first."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from tests.structure import readers
from tests.structure.test_rooms import FRONT, NETWORK, ROOMS, ROOT, dependencies, files, manifest, name, tomllib

CRATES = ROOT / "crates"
# Who may reach other machines, and by what.
CONNECTED = {"data/hub.py": {"datasets", "library.load_dataset"}, "programs/lms.py": {"dspy.LM"}}
# Loops over ids of tokens, which are looked up as texts.
IDS = {("model.py", "readout")}


def trees(folder: Path):
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def rust(*crates: str):
    for crate in crates:
        for path in sorted((CRATES / crate / "src").rglob("*.rs")):
            yield name(path), path.read_text(encoding="utf-8")


def what(found) -> list[str]:
    return [each for each, _ in found]


# ---- the network ----


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "def f():\n    from urllib import request",
        "from urllib.request import urlopen",
        "import http.client as h",
        "importlib.import_module('requests')",
        "transformers.AutoModel.from_pretrained(name)",
        "dspy.LM('openai/gpt-4.1')",
        "await asyncio.open_connection(host, 80)",
    ],
)
def test_a_connection_is_seen(source):
    assert what(readers.connections(ast.parse(source)))


def test_what_connects_nothing_is_let_through():
    source = "import urllib.parse\nfrom urllib import parse\nimport asyncio\nimport https_like\ndspy.LM(a, engine=b)\n"
    assert not what(readers.connections(ast.parse(source)))


def test_only_named_places_of_the_front_use_the_network():
    found = {
        path: set(what(readers.connections(tree))) - CONNECTED.get(path, set())
        for path, tree in trees(FRONT)
        if not path.startswith("models/")
    }
    assert not {path: each for path, each in found.items() if each}


@pytest.mark.parametrize("path", CONNECTED)
def test_the_named_places_are_named_for_a_reason(path):
    tree = ast.parse((FRONT / path).read_text(encoding="utf-8"))
    assert set(what(readers.connections(tree))) == CONNECTED[path]
    assert f"`{path}`" in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_front_reaches_compiled_code_through_the_binding_alone():
    assert what(readers.native(ast.parse("def f():\n    from ctypes import cdll"))) == ["ctypes", "ctypes.cdll"]
    found = {path: what(readers.native(tree)) for path, tree in trees(FRONT)}
    assert not {path: each for path, each in found.items() if each}


@pytest.mark.parametrize(
    "source",
    [
        "use std::net::TcpStream;",
        "use std::{fs, net};",
        "use std::os::unix::net as n;",
        "let a = TcpListener::bind(b);",
    ],
)
def test_a_socket_is_seen(source):
    assert what(readers.sockets(source))
    assert not what(readers.sockets("// std::net is not used\nlet planet = network;"))


def test_no_crate_opens_a_socket():
    found = {path: what(readers.sockets(source)) for path, source in rust(*ROOMS)}
    assert not {path: each for path, each in found.items() if each}


def test_nothing_that_crates_are_built_with_speaks_to_a_network():
    lock = {"package": [{"name": "a", "dependencies": ["b 1.0"]}, {"name": "b", "dependencies": ["reqwest"]}]}
    assert readers.needed({"a"}, lock) == {"a", "b", "reqwest"}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    for crate in ROOMS:
        direct = dependencies(manifest(crate), ("dependencies", "build-dependencies")) - set(ROOMS)
        assert direct <= {package["name"] for package in lock["package"]}
        assert not [each for each in readers.needed(direct, lock) if NETWORK.match(each)], crate


# ---- who computes ----


@pytest.mark.parametrize(
    "body",
    [
        "return [x * 2 for x in np.asarray(h)]",
        "for x in h.numpy().ravel():\n        total += x",
        "rows = np.asarray(h)\n    for row in rows:\n        for x in row:\n            f(x)",
        "v = h.numpy() - centre\n    return sum(x for x in v[0])",
        "v = np.asarray(h)\n    for i in range(len(v)):\n        v[i] = 0",
        "v = np.asarray(h)\n    for i in range(v.shape[0]):\n        v[i] = 0",
        "for a, b in zip(h.tolist(), other):\n        f(a, b)",
    ],
)
def test_a_loop_over_a_tensor_is_seen(body):
    assert "f" in what(readers.tensor_loops(ast.parse(f"def f(h, total):\n    {body}\n")))


def test_a_loop_over_a_parameter_is_seen_and_one_over_a_list_of_tensors_is_none():
    assert what(readers.tensor_loops(ast.parse("def f(h: Hidden):\n    return [x for x in h]\n"))) == ["f"]
    lists = "def f(states: list[Hidden]):\n    return np.concatenate([np.asarray(each) for each in states])\n"
    assert not what(readers.tensor_loops(ast.parse(lists)))


def test_the_front_holds_no_loop_over_the_numbers_of_a_tensor():
    found = {(path, function) for path, tree in trees(FRONT) for function in what(readers.tensor_loops(tree))}
    assert found == IDS


@pytest.mark.parametrize(
    "line",
    ["for x in data {", "let y = a * b;", "x += 1.0;", "let s: f32 = v.iter().sum();", "let c = v.chunks_exact(4);",
     "while i < n {", "let d = high - low;"],
)  # fmt: skip
def test_a_computation_is_seen(line):
    assert what(readers.computations(line))


def test_a_bound_an_impl_and_a_size_are_no_computation():
    fine = (
        'impl<T> Keep for Vec<T> {}\nfn f(x: impl Fn() + Send + \'static) -> u8 {\nlet n = rows * width;\n"a * b";\n*x'
    )
    assert not what(readers.computations(fine))


def test_the_binding_computes_nothing():
    found = {path: what(readers.computations(source)) for path, source in rust("densecore-python")}
    assert not {path: each for path, each in found.items() if each}


# ---- two counts that are never one ----


@pytest.mark.parametrize(
    "source",
    [
        "rate = (usage.latent_steps + usage.emitted_tokens) / usage.seconds",
        "total = row['emitted_tokens'] + 2 * row['latent_steps']",
        "emitted += used.latent_steps",
        "sum((a.emitted_tokens, a.latent_steps))",
        "sum(a.emitted_tokens + a.latent_steps for a in found)",
        "lm15.Usage(output_tokens=used.output_tokens + used.latent_steps)",
    ],
)
def test_a_sum_of_emitted_tokens_and_latent_steps_is_seen(source):
    assert what(readers.sums_of_counts(ast.parse(source)))


def test_counts_side_by_side_are_no_sum():
    source = (
        "a += u.emitted_tokens\nb += u.latent_steps\nprint(f'{u.emitted_tokens}' + f'{u.latent_steps}')\n"
        "prompt_tokens + emitted_tokens\nsum([u.emitted_tokens for u in all])\n"
    )
    assert not what(readers.sums_of_counts(ast.parse(source)))


def test_emitted_tokens_and_latent_steps_are_added_nowhere():
    sources = [(path, path.read_text(encoding="utf-8")) for path in files({".py"}) if path != Path(__file__).resolve()]
    sources += [(path, readers.cells(path)) for path in files({".ipynb"})]
    assert any(path.name == "demo.py" for path, _ in sources)
    found = {name(path): what(readers.sums_of_counts(ast.parse(source))) for path, source in sources}
    assert what(readers.rust_sums_of_counts("let n = usage.emitted_tokens + usage.latent_steps;"))
    found |= {path: what(readers.rust_sums_of_counts(source)) for path, source in rust(*ROOMS)}
    assert not {path: each for path, each in found.items() if each}


# ---- words ----


def test_no_message_tells_a_user_to_raise_what_python_cannot_reach():
    assert what(readers.messages_naming("Limits", 'remedy: "raise Limits::vocab".into(), // "Limits"')) != []
    assert not what(readers.messages_naming("Limits", "/// see [`Limits`]\nuse a::Limits;"))
    found = {path: what(readers.messages_naming("Limits", source)) for path, source in rust(*ROOMS)}
    assert not {path: each for path, each in found.items() if each}


def test_the_architecture_names_files_and_rooms_that_are_there():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    before, _, rest = page.partition("### Rooms that are still to come")
    told = set(re.findall(r"`([\w./-]+(?:\.rs|\.py|/)|[\w-]+/[\w./-]+)`", before + rest.partition("\n## ")[2]))
    there = {"/" + name(path) for path in files({".rs", ".py", ".json", ".toml", ".md"})}
    there |= {parent + "/" for path in there for parent in _folders(path)}
    missing = {each for each in told if not any(p.rstrip("/").endswith("/" + each.rstrip("/")) for p in there)}
    assert len(told) > 30
    assert not missing


def _folders(path: str) -> list[str]:
    return [parent.as_posix() for parent in Path(path).parents]


MARKS = {"*": "compare_long.json", "†": "compare_kernels.json", "‡": "compare_gradient.json", "": "compare.json"}


def test_the_figures_of_the_readme_are_those_of_the_results():
    """Each row's first figure and ratio are those of one comparison in the file its mark names."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) ?([*†‡§]?) \| ([\d.,]+) [^|]+\| ([^|]+) \| [^|]+ \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) > 20
    wrong = [row for row in rows if row[1] != "§" and not _measured(MARKS[row[1]], row[2], row[4])]
    assert not wrong


def _measured(file: str, ours: str, ratio: str) -> bool:
    held = json.loads((ROOT / "results" / "bench" / file).read_text(encoding="utf-8"))["measures"]
    return any(
        _rounds_to(record["medians"][one["ours"]][0], ours) and _rounds_to(one["ratio"], ratio)
        for record in held.values()
        for one in record["comparisons"]
    )


def _rounds_to(value: float, told: str) -> bool:
    digits = len(told.partition(".")[2])
    return abs(value - float(told.replace(",", ""))) <= 0.5 * 10**-digits + 1e-3


def test_a_figure_that_is_not_there_is_seen():
    assert _measured("compare_long.json", "240", "1.71")
    assert not _measured("compare_long.json", "241", "1.71")
    assert not _measured("compare_long.json", "240", "1.72")
