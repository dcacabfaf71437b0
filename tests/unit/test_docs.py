"""Every public name is documented, and every example in a docstring runs as it stands."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import pytest

import densecore

MODULES = ["densecore"] + [
    found.name
    for found in pkgutil.walk_packages(densecore.__path__, "densecore.")
    if not found.name.endswith(("._core", ".__main__"))
]


@pytest.fixture
def dspy_as_it_was():
    """An example may set DSPy's language model, which other tests do not want."""
    yield
    if "dspy" in sys.modules:
        sys.modules["dspy"].configure(lm=None, adapter=None)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name, dspy_as_it_was):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    assert sum(bool(test.examples) for test in finder.find(densecore.Model) + finder.find(densecore)) >= 2


def undocumented(thing, path):
    """Public names without a docstring, methods and properties of classes included."""
    if not inspect.getdoc(thing):
        yield path
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            if not name.startswith("_") and (callable(member) or isinstance(member, (property, classmethod))):
                yield from undocumented(getattr(thing, name), f"{path}.{name}")


def test_every_public_name_says_what_it_is():
    found = [
        missing
        for name in densecore.__all__
        if name not in ("__version__", "BackendConfig")
        for missing in undocumented(getattr(densecore, name), name)
    ]
    assert not found


def test_the_stub_says_what_each_function_does():
    stub = Path(densecore.__file__).with_name("_core.pyi")
    found = [
        node.name
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and not ast.get_docstring(node)
        and not (node.name.startswith("__") or node.name == "shape")
    ]
    assert not found
