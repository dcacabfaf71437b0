"""Many threads, Ctrl-C and fork: the answers stay those of a lone caller, and nothing hangs."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import densecore
from densecore import Ids
from tests.golden.fixtures import Pair, real_path

QWEN = "qwen2.5-coder-1.5b-instruct"


def test_many_threads_answer_as_one(small: Pair) -> None:
    def work(number: int) -> tuple:
        ids = Ids(small.ids(number, 5 + number % 17))
        made = small.ours.generate(ids, max_tokens=25, temperature=0.7, seed=number, ignore_eos=True)
        thought = small.ours.think(ids, 6)
        score = small.ours.score(ids, Ids([1, 2, 3]))
        return made.ids, thought.ids, np.round(score.total, 3), np.asarray(small.ours.encode(ids)).copy()

    alone = [work(number) for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(work, range(24)))
    for one, other in zip(alone, together, strict=True):
        assert one[:2] == other[:2]
        assert one[2] == pytest.approx(other[2], abs=2e-3)
        np.testing.assert_allclose(one[3], other[3], atol=1e-4)


def test_one_context_from_two_threads_is_safe(small: Pair) -> None:
    """Forks of one context run at the same time; the trunk stays as it was."""
    trunk = small.ours.prefill(Ids(small.ids(1, 40)))
    expected = trunk.fork().generate(max_tokens=20, ignore_eos=True).ids
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda _: trunk.fork().generate(max_tokens=20, ignore_eos=True).ids, range(18)))
    assert made == [expected] * 18
    assert trunk.length == 40


def test_the_interpreter_runs_on_while_the_engine_computes(small: Pair) -> None:
    """The lock is released: a Python thread makes progress during one long call."""
    counted, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            counted[0] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        small.ours.logits(Ids(small.ids(2, 1500)))
    done.set()
    thread.join()
    assert counted[0] >= 20


CHILD = """
import sys, time, signal, densecore
signal.signal(signal.SIGINT, signal.default_int_handler)
# Room for one answer of 3000 tokens: the second waits for it.
room = 100 << 20 if sys.argv[2] == "queue" else None
model = densecore.Model.load(sys.argv[1], context=4096, cache_bytes=room)
ids = model.tokenize("the quick brown fox jumps over the lazy dog ") * 400
ids = densecore.Ids(ids[: 3900 if sys.argv[2] == "prefill" else 4])
print("go", flush=True)
try:
    if sys.argv[2] == "prefill":
        model.prefill(ids)
    elif sys.argv[2] == "stream":
        for event in model.stream(ids, max_tokens=3000, ignore_eos=True):
            pass
    elif sys.argv[2] == "think":
        model.think(ids, 3000)
    else:
        held = model.stream(ids, max_tokens=3000, ignore_eos=True) if sys.argv[2] == "queue" else [None]
        next(iter(held))
        model.generate(ids, max_tokens=3000, ignore_eos=True)
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    print(len(model.generate("1 + 1 =", max_tokens=3, ignore_eos=True).ids), flush=True)
"""


def line(process: subprocess.Popen, seconds: float) -> str:
    """The child's next line, or a failure after so many seconds."""
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    assert ready, f"the child said nothing for {seconds} s"
    return process.stdout.readline().strip()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process is a POSIX matter")
@pytest.mark.parametrize("call", ["generate", "prefill", "stream", "think", "queue"])
def test_ctrl_c(call: str) -> None:
    """Real Qwen, for the tiny models are done before a signal comes; the model answers afterwards."""
    command = [sys.executable, "-c", CHILD, str(real_path(QWEN)), call]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert line(child, 60) == "go", child.stderr.read()
        time.sleep(1.0)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert line(child, 10) == "interrupted"
        assert time.monotonic() - sent <= 4.0, "one step of work is the most that may pass"
        assert line(child, 30) == "3"
        assert child.wait(20) == 0
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("verb", ["generate", "states"])
def test_fork_is_answered_not_hung(small: Pair, verb: str) -> None:
    """The child gets ForkError with the remedy; the parent goes on."""
    recording = small.ours.vjp(small.ours.embed("warm"))._core
    work = {
        "generate": lambda: small.ours.generate("a", max_tokens=2, ignore_eos=True),
        "states": recording.states,
    }[verb]
    work()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "no error"
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the child reports whatever came
            said = f"{type(error).__name__}: {error}"
        del small.ours  # nor may letting go of the model wait for threads that are not there
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], 10)
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert ready, "the forked child hung"
    said = os.read(reading, 4096).decode()
    os.close(reading)
    assert said.startswith("ForkError"), said
    assert "spawn" in said
    assert small.ours.generate("a", max_tokens=2, ignore_eos=True).ids


def test_spawned_processes_work(small: Pair) -> None:
    code = "import sys, densecore; print(densecore.Model.load(sys.argv[1]).generate('a', max_tokens=4, ignore_eos=True).ids)"
    run = [sys.executable, "-c", code, str(small.folder)]
    said = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    here = densecore.Model.load(small.folder).generate("a", max_tokens=4, ignore_eos=True)
    assert said == str(here.ids)


MEMORY = """
import ctypes, sys, threading
import densecore

class Heaps(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "a", "b", "c", "maps", "d", "e", "used", "free", "f")]

heaps = ctypes.CDLL("libc.so.6").mallinfo2
heaps.restype = Heaps
model = densecore.Model.load(sys.argv[1], context=1024, prefix_bytes=0)
model.generate("one " * 150, max_tokens=2)
before, all_asked = heaps().arena, threading.Barrier(25)

def work(number):
    for turn in range(3):
        model.generate(f"{number} {turn} " + "and one more " * 60, max_tokens=3)
    all_asked.wait()
    all_asked.wait()

threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
for thread in threads:
    thread.start()
all_asked.wait()
print((heaps().arena - before) >> 20)
all_asked.wait()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks the allocator of glibc 2.33 and later")
def test_what_calls_held_is_not_kept_for_every_thread() -> None:
    """Keys and values, rows and logits of a call are not the allocator's, which would keep them in each thread's arena."""
    run = [sys.executable, "-c", MEMORY, str(real_path("smollm2-135m-instruct"))]
    kept = int(subprocess.run(run, check=True, capture_output=True, text=True, timeout=300).stdout)
    assert kept < 12, f"{kept} MB: a call has some 6 MB, and none of the 24 callers may leave half of one"
