"""A cancel while a form compiles ends the call, not the compilation; Ctrl-C does the same."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

import densecore
from tests.golden.fixtures import real_path

RULES = 1000
LARGE = (
    "start: "
    + " ".join(f"r{i}" for i in range(RULES))
    + "".join(f'\nr{i}: /[a-z]{{1,{3 + i % 50}}}/ "."' for i in range(RULES))
)
"""A grammar of 1,000 lexemes in a row, which takes seconds to compile."""


@pytest.fixture
def smol() -> Any:
    """A model that has not compiled it."""
    return densecore.Model.load(real_path("smollm2-135m-instruct"))


def test_a_cancel_ends_the_wait_for_a_form(smol: Any) -> None:
    form, cancel, last = densecore.Lark(LARGE), densecore.Cancel(), densecore.Cancel()
    found: dict[str, Any] = {}

    def ask(name: str, stop: densecore.Cancel) -> None:
        found[name] = smol.generate("a", max_tokens=4000, form=form, cancel=stop)

    waiting = threading.Thread(target=ask, args=("waits", last))
    waiting.start()
    cancelled = threading.Thread(target=ask, args=("cancelled", cancel))
    cancelled.start()
    cancel.cancel()
    cancelled.join()
    # The form was not there yet: who waits for it still does, and a call with another form need not.
    assert waiting.is_alive(), "the form compiled before the cancel was heard"
    assert (found["cancelled"].finish_reason, found["cancelled"].ids) == ("cancelled", [])
    assert smol.generate("a", form=densecore.Choice(["yes"])).text == "yes"
    last.cancel()
    waiting.join()
    assert found["waits"].finish_reason == "cancelled"
    # What was compiled meanwhile serves who asks next.
    stream = smol.stream("a", max_tokens=4000, form=form)
    assert next(stream).ids
    stream.cancel()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of this kind are POSIX's")
def test_ctrl_c_ends_the_wait_for_a_form() -> None:
    program = f"""
import signal, threading
import densecore
from tests.golden.test_form_cancel import LARGE
model = densecore.Model.load({str(real_path("smollm2-135m-instruct"))!r})
form, last = densecore.Lark(LARGE), densecore.Cancel()
waiting = threading.Thread(target=lambda: model.generate("a", max_tokens=4000, form=form, cancel=last))
waiting.start()
try:
    threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
    print(model.generate("a", max_tokens=4000, form=form).finish_reason)
except KeyboardInterrupt:
    print("interrupted", waiting.is_alive(), model.generate("a", form=densecore.Choice(["yes"])).text)
last.cancel()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["interrupted", "True", "yes"]
