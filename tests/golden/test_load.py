"""Loading: what cannot fit is refused with the numbers, a broken template spares the rest, spans can be seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import densecore
from densecore import CPU, errors
from tests import tiny
from tests.golden.fixtures import Pair, real_path


def test_what_does_not_fit_is_refused_early_with_the_numbers() -> None:
    path = real_path("smollm2-135m-instruct")
    needed = -(-path.stat().st_size * 9 // 8 // 2**20)
    with pytest.raises(errors.InsufficientMemoryError, match=f"{needed} MiB.*64 MiB") as caught:
        densecore.Model.load(path, max_memory=64 << 20)
    assert isinstance(caught.value, MemoryError)
    assert "smaller" in str(caught.value)


def test_contexts_stay_within_their_memory(small: Pair) -> None:
    model = densecore.Model.load(small.folder, kv="f32", cache_bytes=1 << 20, prefix_bytes=0)
    kept: list[densecore.Context] = []

    def fill() -> None:
        for n in range(10_000):
            kept.append(model.prefill(densecore.Ids([5 + n % 400] * 64)))

    with pytest.raises(errors.OverloadedError, match=r"key-value cache is full.*drop contexts"):
        fill()
    assert kept
    assert model.memory.caches <= model.memory.caches_allowed == 1 << 20
    kept.clear()
    assert model.memory.caches == 0
    assert model.generate(densecore.Ids([5, 6]), max_tokens=2, ignore_eos=True).ids


def test_threads_do_not_change_the_numbers(small: Pair) -> None:
    ids = densecore.Ids(small.ids(3, 300))
    one = densecore.Model.load(small.folder, kv="f32", backend=CPU(threads=1)).logits(ids)
    three = densecore.Model.load(small.folder, kv="f32", backend=CPU(threads=3)).logits(ids)
    assert (one == three).all()


def test_a_broken_template_stops_chats_only(tmp_path: Path) -> None:
    tiny.make_tiny("qwen2", tmp_path, seed=3)
    (tmp_path / "chat_template.jinja").write_text("{% if %}", encoding="utf-8")
    config = tmp_path / "tokenizer_config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    content.pop("chat_template", None)
    config.write_text(json.dumps(content), encoding="utf-8")
    model = densecore.Model.load(tmp_path)
    assert model.generate("a", max_tokens=1, ignore_eos=True).ids
    with pytest.raises(errors.TemplateError):
        model.generate([{"role": "user", "content": "a"}])


@pytest.mark.parametrize("on", [True, False])
def test_spans_are_off_until_asked_for(small: Pair, on: bool) -> None:
    code = f"""
import densecore
{"densecore.trace()" if on else ""}
model = densecore.Model.load({str(small.folder)!r})
model.generate(densecore.Ids([1, 2]), max_tokens=2, ignore_eos=True)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ("generate" in run.stderr and "time.busy" in run.stderr) == on
    assert run.stdout == ""
