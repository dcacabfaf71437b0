"""Templates of the families render as transformers renders them, byte for byte, and what they refuse is refused.

Under `templates/` stand templates written for this test, one for each way in which the published ones of a family are built.
Published ones that an installed package holds are read from there, and those of real models from their files.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import densecore
from tests import tiny
from tests.golden.chats import CHATS, PREFILL, WORDS, same
from tests.golden.fixtures import real_path
from tests.golden.test_template import told

pytest.importorskip("transformers", reason="the reference is the extra `dev`")

OWN = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent / "templates").glob("*.jinja"))
}
PACKAGES = {
    "llama_cpp": "llama_chat_format.py",
    "litellm": "constants.py",
    "transformers": "models/llama4/processing_llama4.py",
}


def installed() -> dict[str, str]:
    """Templates among the constants of installed packages, by package and line; the packages are read and not imported."""
    found = {}
    for package, file in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or []:
            path = Path(folder, file)
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
            for node in ast.walk(tree):
                text = node.value if isinstance(node, ast.Constant) else None
                # `self` is a handler's own object, which no tokenizer gives its template.
                if isinstance(text, str) and "{%" in text and "messages" in text and "self." not in text:
                    found[f"{package}:{node.lineno}"] = text
    return found


INSTALLED = installed()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model that is never run."""
    return tiny.make_tiny("qwen2", tmp_path_factory.mktemp("families"), seed=2, layers=1, context=64)


def with_template(base: Path, folder: Path, template: str) -> Any:
    """The model with another template; its files are linked."""
    for path in base.iterdir():
        if path.name != "tokenizer_config.json":
            (folder / path.name).symlink_to(path)
    facts = json.loads((base / "tokenizer_config.json").read_text()) | {"chat_template": template, **WORDS}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return densecore.Model.load(folder)


def compared(model: Any, template: str) -> int:
    """Compares every chat; returns how many were rendered as they were given."""
    whole = sum(same(model, template, talk, add) for talk in CHATS.values() for add in (True, False))
    return whole + sum(same(model, template, talk, False, goes_on=True) for talk in PREFILL.values())


@pytest.mark.parametrize("name", list(OWN))
def test_own_templates(base: Path, tmp_path: Path, name: str) -> None:
    # What the simplest ones read: roles and contents.
    assert compared(with_template(base, tmp_path, OWN[name]), OWN[name]) > 40


@pytest.mark.parametrize("name", list(INSTALLED))
def test_published_templates_that_packages_hold(base: Path, tmp_path: Path, name: str) -> None:
    assert compared(with_template(base, tmp_path, INSTALLED[name]), INSTALLED[name]) > 40


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "qwen2.5-coder-1.5b-instruct"])
def test_published_templates_of_real_models(base: Path, tmp_path: Path, name: str) -> None:
    template, _ = told(real_path(name))
    assert compared(with_template(base, tmp_path, template), template) > 40


def test_every_family_is_there() -> None:
    families = ("qwen", "llama", "phi", "mistral", "gemma", "deepseek", "smollm")
    assert not [family for family in families if not any(name.startswith(family) for name in OWN)]


PARTS = [{"type": "text", "text": "Ra"}, {"type": "text", "text": "in?"}]


@pytest.mark.parametrize("name", ["gemma3", "mistral_v3", "qwen3"])
def test_a_content_of_parts_is_their_text(base: Path, tmp_path: Path, name: str) -> None:
    model = with_template(base, tmp_path, OWN[name])
    whole = [{"role": "user", "content": "Rain?"}]
    assert model.apply_chat_template([{"role": "user", "content": PARTS}]) == model.apply_chat_template(whole)
    assert same(model, OWN[name], (whole, {}), True)
