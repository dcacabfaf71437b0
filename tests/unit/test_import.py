"""Importing the package loads NumPy and little else."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, sys
import numpy
before = set(sys.modules)
import densecore
print(json.dumps(sorted(set(sys.modules) - before)))
"""
# Modules of the standard library that cost time or stand for work nobody asked for.
HEAVY = {
    "asyncio",
    "concurrent",
    "email",
    "http",
    "multiprocessing",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "urllib",
}


def test_importing_loads_numpy_and_little_else():
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = {each for each in json.loads(ran.stdout) if each.split(".")[0] != "densecore"}
    packages = {each.split(".")[0] for each in loaded}
    assert packages <= set(sys.stdlib_module_names) | {"numpy"}
    assert not packages & HEAVY
    assert len(loaded) <= 30
