"""`python -m densecore.eval` with no options, in an empty folder and without a network: a table and a page, in five minutes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAME = "qwen2.5-coder-1.5b-instruct"
MODELS = (NAME,)
PEERS = ("dspy",)
CAP = 300.0
OWN = "DENSECORE_"
KEPT = ("DENSECORE_CACHE",)


def check() -> tuple[bool, dict[str, Any]]:
    """One start, as a newcomer makes it once the model is here."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith(OWN) or name in KEPT}
    settings["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "densecore.eval"],
            cwd=folder,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        told = re.search(r"^page: (\S+)", done.stdout, re.MULTILINE)
        page = Path(folder, told[1]) if told else None
        figures = {
            "seconds": round(seconds, 1),
            "cap": CAP,
            "exit_status": done.returncode,
            "rows_of_the_table": sorted(set(re.findall(r"^problems-dev-\S+", done.stdout, re.MULTILINE))),
            "page_bytes": page.stat().st_size if page and page.exists() else 0,
        }
    passed = done.returncode == 0 and seconds <= CAP and len(figures["rows_of_the_table"]) == 3
    return passed and figures["page_bytes"] > 0, figures
