"""The README's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_twelve_lines_run(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for line in example.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 12
    exec(compile(example, str(README), "exec"), {})
    shown = capsys.readouterr().out
    assert "Paris" in shown
