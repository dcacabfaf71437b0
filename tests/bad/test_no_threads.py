"""Where the system gives no more threads, the error says so, and the model goes on when there are some again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.golden.fixtures import Pair

CODE = """
import resource, sys
import densecore
from densecore import errors
model = densecore.Model.load(sys.argv[1])
expected = model.generate("One", max_tokens=4).text
for line in open("/proc/self/status"):
    if line.startswith("VmSize"):
        size = int(line.split()[1]) * 1024
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 30), unlimited[1]))
try:
    list(model.stream("One", max_tokens=4))
    print("it had a thread")
except errors.ThreadError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, unlimited)
print("".join(event.text for event in model.stream("One", max_tokens=4)) == expected)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")
def test_a_stream_without_a_thread_says_so(small: Pair) -> None:
    stacks = {**os.environ, "RUST_MIN_STACK": str(1 << 32)}  # more than there will be for one
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(small.folder)], capture_output=True, text=True, timeout=120, env=stacks
    )
    assert done.returncode == 0, done.stderr
    said, again = done.stdout.splitlines()
    assert said.startswith("no thread could be started for a stream:"), said
    assert "close other streams" in said
    assert again == "True"
