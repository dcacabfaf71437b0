"""The notebooks run from top to bottom on real Qwen, each with few questions.

`python -m tests.verify.notebooks --keep [--model NAME] [--limit N] [name ...]` writes what they showed back into them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets.config import Config

from tests.verify.record import ROOT, say

PEERS = ("nbclient", "nbformat", "ipykernel", "dspy", "matplotlib")
NAME = "qwen2.5-coder-1.5b-instruct"
MODELS = (NAME,)
FOLDER = ROOT / "notebooks"
NAMES = ("gsm8k_demo", "hotpotqa_demo", "comparison")
LIMIT = 2
PATIENCE = 3600  # seconds a cell may take: what hangs is found, what is slow is not failed
FORMAT = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET = "application/vnd.jupyter.widget-view+json"
PLACES = {str(ROOT): ".", tempfile.gettempdir(): "$TMPDIR", str(Path.home()): "~"}
PLACE = re.compile("|".join(re.escape(place) for place in PLACES))
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def executed(name: str, settings: dict[str, str]) -> Any:
    """The notebook after all its cells have run, in an own process with these environment variables.

    Raises:
        CellExecutionError: A cell raised.
        CellTimeoutError: A cell took longer than `PATIENCE`.
        DeadKernelError: The process ended.
    """
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    with tempfile.TemporaryDirectory() as private:  # sockets nobody else can reach, and nobody's settings of IPython
        client = NotebookClient(
            notebook,
            timeout=PATIENCE,
            startup_timeout=PATIENCE,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{private}/kernel"}}),
            resources={"metadata": {"path": str(FOLDER)}},
        )
        client.execute(env={**os.environ, "IPYTHONDIR": private, **settings})
    return notebook


def plain(notebook: Any) -> Any:
    """The notebook without what belongs to one machine or one hour: paths, times, widgets, warnings of libraries."""
    notebook.metadata = nbformat.from_dict(FORMAT)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            shown = [
                each for each in cell.outputs if each.get("name") != "stderr" and WIDGET not in each.get("data", {})
            ]
            cell.outputs = nbformat.from_dict(anywhere(shown))
    return notebook


def anywhere(value: Any) -> Any:
    """Texts, also those inside of lists and dictionaries, without the places of this machine."""
    if isinstance(value, str):
        return PLACE.sub(lambda found: PLACES[found[0]], value)
    if isinstance(value, dict):
        return {key: anywhere(item) for key, item in value.items()}
    return [anywhere(item) for item in value] if isinstance(value, list) else value


def tried(name: str, model: str, limit: int | None, *, keep: bool = False) -> dict[str, Any]:
    """What came of one notebook, with its own number of questions or ``limit``: seconds, and the failure if any."""
    settings = {"DENSECORE_NOTEBOOK_MODEL": model}
    if limit is not None:
        settings["DENSECORE_NOTEBOOK_LIMIT"] = str(limit)
    say(f"  {name} ...")
    started, failure = time.monotonic(), None
    try:
        notebook = executed(name, settings)
        if keep:
            nbformat.write(plain(notebook), FOLDER / f"{name}.ipynb")
    except CellExecutionError as error:
        failure = anywhere(f"{error.ename}: {error.evalue}"[:600])
        say(COLOUR.sub("", str(error)))
    except (CellTimeoutError, DeadKernelError) as error:
        failure = f"{type(error).__name__}: {error}"
        say(failure)
    return {"seconds": round(time.monotonic() - started, 1), "failure": failure}


def check() -> tuple[bool, dict[str, Any]]:
    """All notebooks; each must come to its end."""
    found = {name: tried(name, NAME, LIMIT) for name in NAMES}
    rows = "DENSECORE_DATA" if os.environ.get("DENSECORE_DATA") else "generated"
    return all(one["failure"] is None for one in found.values()), {"limit": LIMIT, "rows": rows, "notebooks": found}


def main() -> int:
    """Run the chosen notebooks; the exit status counts the failures."""
    parser = argparse.ArgumentParser(prog="python -m tests.verify.notebooks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; all without one")
    parser.add_argument("--keep", action="store_true", help="write what they showed back into them")
    parser.add_argument("--model", default=NAME, help="(default: %(default)s)")
    parser.add_argument("--limit", type=int, help="questions for each program (default: the notebook's own)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no notebook named {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    failed = 0
    for name in options.names or NAMES:
        found = tried(name, options.model, options.limit, keep=options.keep)
        say(f"{name}: {'ran to its end' if found['failure'] is None else 'FAILED'} in {found['seconds']} s")
        failed += found["failure"] is not None
    return failed


if __name__ == "__main__":
    sys.exit(main())
