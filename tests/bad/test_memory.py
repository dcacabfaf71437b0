"""Answers that memory cannot hold are refused by name before anything is computed; each in a process with a ceiling."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import densecore
from tests import tiny

ROWS_IN_A_PROMPT = 2_000
MOST_MEMORY = 190 << 30  # bytes; of more, the prompts of one call could not ask for enough
# The ceiling makes a call that allocates without asking end at once, and alone.
CODE = """
import resource, sys
import densecore
from densecore import Ids, Prompt
from densecore.errors import InsufficientMemoryError

model = densecore.Model.load(sys.argv[1], backend=densecore.CPU(threads=1), cache_bytes=64 << 20)
width, each = model.config.width, int(sys.argv[3])
prompt = Prompt(Ids([1] * each))
# More rows than fit into memory that is free; what the engine finds free may grow a little meanwhile.
count = 5 * densecore.hardware().memory_available // (4 * 4 * width * each) + 1
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (3 << 30),) * 2)
try:
    getattr(model, sys.argv[2])([prompt] * count)
except InsufficientMemoryError as error:
    print(error)
print(len(model.encode("it still answers", pool="mean")))
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer, very wide rows: a list of few ids asks for many gigabytes."""
    return tiny.make_tiny(
        "llama", tmp_path_factory.mktemp("wide"), width=8192, heads=4, kv_heads=1, mlp=32, layers=1, dtype="bfloat16"
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the ceiling is read from /proc")
@pytest.mark.parametrize(
    ("call", "what", "remedy"),
    [
        ("embed", "the array of embeddings needs", "shorter prompts"),
        ("encode", "the array of hidden states needs", 'pool="mean"'),
    ],
)
def test_vectors_that_memory_cannot_hold(wide: Path, call: str, what: str, remedy: str) -> None:
    if densecore.hardware().memory_available > MOST_MEMORY:
        pytest.skip("more memory than one call can ask for")
    command = [sys.executable, "-c", CODE, str(wide), call, str(ROWS_IN_A_PROMPT)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    refused, answered = ran.stdout.splitlines()
    assert what in refused
    assert "MiB" in refused
    assert remedy in refused
    assert answered == "1"
