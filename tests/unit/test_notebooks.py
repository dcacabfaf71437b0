"""The notebooks as they are committed: whole, run in order, and with nothing of one machine in them. Runs none of them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="the extra `dev`")
pytest.importorskip("nbclient", reason="the extra `dev`")

from tests.verify import notebooks  # noqa: E402

MOST_CELLS = 25
MOST_ROWS = 6  # of a data set, shown as examples in one notebook
MOST_BYTES = 600_000
PLACE = re.compile(r"""(?:^|[\s"'`=(:,\[])/(?:work|root|home|mnt|tmp|var|usr|opt|Users|private)/""", re.MULTILINE)
CLOCK = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d|\b20\d\d/\d\d/\d\d \d\d:\d\d")


def path(name: str) -> Path:
    return notebooks.FOLDER / f"{name}.ipynb"


def read(name: str) -> Any:
    return nbformat.read(path(name), as_version=nbformat.NO_CONVERT)


def code(name: str) -> list[Any]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def prose(name: str) -> str:
    return "\n\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")


def strings(value: Any) -> list[str]:
    """All texts of a notebook, keys included."""
    if isinstance(value, str):
        return [value]
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in strings(part)]


every = pytest.mark.parametrize("name", notebooks.NAMES)


def test_all_notebooks_are_run_by_the_long_tier():
    assert sorted(file.stem for file in notebooks.FOLDER.glob("*.ipynb")) == sorted(notebooks.NAMES)


@every
def test_it_is_a_notebook_of_format_4(name):
    found = read(name)
    nbformat.validate(found)
    assert found.nbformat == 4
    assert len(found.cells) <= MOST_CELLS
    assert path(name).stat().st_size <= MOST_BYTES


@every
def test_its_output_is_of_the_model_it_names(name):
    shown = "\n".join(strings([cell.outputs for cell in code(name)]))
    assert "smollm" not in shown.lower()
    assert "No summary is committed" not in shown
    assert "Nothing to draw" not in shown
    if name == "gsm8k_demo":
        assert re.search(r"densecore/qwen2\.5[- ]coder[- ]1\.5b", shown, re.IGNORECASE)


@every
def test_its_settings_come_first_and_from_outside(name):
    settings = code(name)[0].source
    for variable in ("MODEL", "LIMIT", "SEED"):
        assert re.search(rf'^{variable} = .*os\.environ\.get\("DENSECORE_NOTEBOOK_{variable}"', settings, re.MULTILINE)
    assert 'os.environ.get("DENSECORE_DATA")' in settings


@every
def test_what_it_showed_is_kept(name):
    cells = code(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from top to bottom, once"
    silent = [cell.source for cell in cells if not cell.outputs]
    assert silent == [cells[0].source], "every cell but the settings shows something"
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "display_data", "execute_result"}


def test_the_comparison_is_drawn():
    shown = [output for cell in code("comparison") for output in cell.outputs if "image/png" in output.get("data", {})]
    assert shown


@every
def test_nothing_of_one_machine_is_kept(name):
    assert not [text for text in strings(read(name)) if PLACE.search(text) or f"{Path.home()}/" in text]
    outputs = [output for cell in code(name) for output in cell.outputs]
    for output in outputs:
        shown = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        assert not CLOCK.search(shown)
        assert output.get("name") != "stderr"
        assert notebooks.WIDGET not in output.get("data", {})
    found = read(name)
    assert set(found.metadata) <= set(notebooks.FORMAT)
    assert not any(cell.metadata for cell in found.cells)


@every
def test_figures_are_computed_not_typed(name):
    assert not re.findall(r"\d+(?:\.\d+)?\s*(?:%|percent|points|times|tok/s)(?!\s+interval)", prose(name))


@every
def test_few_rows_of_data_sets_are_shown(name):
    if not os.environ.get("DENSECORE_DATA"):
        pytest.skip("DENSECORE_DATA is not set")
    from densecore import data

    text = "\n".join(str(cell.source) + str(cell.get("outputs", "")) for cell in read(name).cells)
    for each in ("gsm8k", "hotpotqa"):
        for split in ("train", "dev"):
            assert sum(row.question[:60] in text for row in data.load(each, split)) <= MOST_ROWS


@every
def test_its_commands_are_there(name):
    pytest.importorskip("dspy", reason="the extra `dspy`")
    for line in re.findall(r"`python -m (densecore[^`]*)`", prose(name).replace("\n", " ")):
        module, *arguments = shlex.split(line)
        command = __import__(f"{module}.__main__", fromlist=["_parser"])
        command._parser().parse_args([argument for argument in arguments if argument != "..."])


@pytest.mark.parametrize("check", [("check",), ("format", "--check")])
def test_its_code_is_clean(check):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *check, "--no-cache", str(notebooks.FOLDER)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---- what is stripped ----


def test_the_search_for_places_sees_what_it_should():
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    for text in ("saved:\n/home/ada/x", "in '/tmp/q/x'", "(/var/x)"):
        made.cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        assert [text for text in strings(made) if PLACE.search(text)] == [text]
    assert not PLACE.search("../results/experiments and a/tmp/b")


def test_what_belongs_to_one_machine_is_stripped():
    cell = nbformat.v4.new_code_cell("1", metadata={"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}})
    kept = nbformat.v4.new_output("stream", name="stdout", text=f"{notebooks.ROOT}/a and {Path.home()}/b")
    warning = nbformat.v4.new_output("stream", name="stderr", text="a warning")
    widget = nbformat.v4.new_output("display_data", data={notebooks.WIDGET: {}, "text/plain": "a bar"})
    cell.outputs = [warning, kept, widget]
    made = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    found = notebooks.plain(made)
    nbformat.validate(found)
    assert [output.text for output in found.cells[0].outputs] == ["./a and ~/b"]
    assert found.metadata == notebooks.FORMAT
    assert not found.cells[0].metadata
