"""Peak resident memory of 512 prompt and 64 answer tokens, less a bare NumPy process, against the file's size."""

from __future__ import annotations

import statistics
from typing import Any

from tests.golden.fixtures import real_path
from tests.verify import processes

NAME = "qwen2.5-coder-1.5b-instruct"
MODELS = (NAME,)
CAP = 1.35
ROUNDS = 3
CODE = """
import sys, densecore
model = densecore.Model.load(sys.argv[1], context=1024)
text = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. " * 40
ids = densecore.Ids(model.tokenize(text)[:512])
made = model.generate(ids, max_tokens=64, ignore_eos=True)
assert (made.usage.prompt_tokens, made.usage.emitted_tokens) == (512, 64), made.usage
"""


def check() -> tuple[bool, dict[str, Any]]:
    """The largest of a few runs counts."""
    path = real_path(NAME)
    size = path.stat().st_size
    bare = statistics.median(processes.peak_bytes("import numpy") for _ in range(ROUNDS))
    peaks = [processes.peak_bytes(CODE, str(path)) for _ in range(ROUNDS)]
    ratio = (max(peaks) - bare) / size
    figures = {
        "file_mib": round(size / 2**20, 1),
        "bare_numpy_mib": round(bare / 2**20, 1),
        "peak_mib": [round(peak / 2**20, 1) for peak in peaks],
        "ratio": round(ratio, 3),
        "cap": CAP,
    }
    return ratio <= CAP, figures
