"""Ctrl-C and `Cancel` end a chat template at work, and the model answers afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

# Work until the time is over, or for a second at least.
SLOW = "{% set l = [{}] * 65000 %}{% for i in range(99999) %}{% set x = l == [] %}{% endfor %}"
TEMPLATES = [{"name": "default", "template": "{{ messages[0].content }}"}, {"name": "slow", "template": SLOW}]
START = """
import sys, threading
import densecore
from densecore import Cancel, Chat
from densecore.errors import GenerationCancelled, TemplateError

model = densecore.Model.load(sys.argv[1], backend=densecore.CPU(threads=1))
messages = [{"role": "user", "content": "Hi"}]
slow = Chat(messages, template="slow")
"""
INTERRUPTED = """
print("ready", flush=True)
try:
    for _ in range(30):
        try:
            WORK
        except TemplateError:
            pass
except KeyboardInterrupt as error:
    # Not on the way out of a template that had ended by itself.
    print(type(error).__name__, error.__context__, flush=True)
print(model.apply_chat_template(messages), len(model.generate(messages, max_tokens=1, ignore_eos=True).ids))
"""
CANCELLED = """
cancel = Cancel()
threading.Timer(0.1, cancel.cancel).start()
try:
    model.encode(slow, cancel=cancel)
except GenerationCancelled as error:
    print(type(error).__name__, error.__context__)
print(model.apply_chat_template(messages), len(model.generate(messages, max_tokens=1, ignore_eos=True).ids))
"""
ENDED = """
try:
    model.apply_chat_template(slow)
except TemplateError as error:
    print(type(error).__name__, error.__context__)
print(model.apply_chat_template(messages), len(model.generate(messages, max_tokens=1, ignore_eos=True).ids))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny.make_tiny("qwen2", tmp_path_factory.mktemp("slow"), seed=2, layers=1, context=64)
    config = made / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": TEMPLATES}))
    return made


def started(folder: Path, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START + code, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX systems")
@pytest.mark.parametrize("work", ["model.apply_chat_template(slow)", "model.generate(slow, max_tokens=1)"])
def test_control_c(folder: Path, work: str) -> None:
    with started(folder, INTERRUPTED.replace("WORK", work)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)  # it is at work
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=60)
    assert out == "KeyboardInterrupt None\nHi 1\n", errors[-2000:]


@pytest.mark.parametrize(
    ("code", "expected"), [(CANCELLED, "GenerationCancelled None\nHi 1\n"), (ENDED, "TemplateError None\nHi 1\n")]
)
def test_the_model_answers_afterwards(folder: Path, code: str, expected: str) -> None:
    with started(folder, code) as child:
        out, errors = child.communicate(timeout=60)
    assert out == expected, errors[-2000:]
