"""Whatever a caller writes to arrays it lent or vectors it got, every other call answers as if no prefix were kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from densecore import Hidden, Ids, Prompt
from tests.golden.fixtures import Pair

torch = pytest.importorskip("torch", reason="torch writes to what it is given")

pytestmark = pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")

ROUNDS = 500
ROWS = 150  # two full blocks and a part of the third

WRITABLE: dict[str, Callable[[Hidden], Any]] = {
    "from_dlpack": torch.from_dlpack,
    "legacy capsule": lambda h: torch.utils.dlpack.from_dlpack(h.__dlpack__()),
    "versioned capsule": lambda h: torch.utils.dlpack.from_dlpack(h.__dlpack__(max_version=(1, 0))),
    "from_numpy": lambda h: torch.from_numpy(h.numpy()),
    "as_tensor": lambda h: torch.as_tensor(h.numpy()),
}


def answer(model: Any, *segments: Any, raw: bool = False) -> tuple[list[int], list[float]]:
    made = model.generate(Prompt(*segments), max_tokens=4, ignore_eos=True, logprobs=0, raw=raw)
    return made.ids, [t.logprob for t in made.logprobs]


def goes_on(context: Any, prompt: Any = None) -> tuple[list[int], list[float]]:
    made = context.generate(*([] if prompt is None else [prompt]), max_tokens=4, ignore_eos=True, logprobs=0)
    return made.ids, [t.logprob for t in made.logprobs]


def test_an_array_written_during_a_stream(keeping: Any, plain: Any, small: Pair) -> None:
    before, after = np.random.default_rng(0).standard_normal((2, ROWS, small.ours.config.width)).astype(np.float32)
    lent = before.copy()
    stream = keeping.stream(Prompt(lent), max_tokens=8, ignore_eos=True)
    next(stream)
    lent[:] = after
    list(stream)
    assert answer(keeping, after) == answer(plain, after)
    assert answer(keeping, before) == answer(plain, before)


@pytest.mark.parametrize("begin", ["model", "context", "chat"])
def test_a_stream_reads_its_vectors_before_it_returns(keeping: Any, plain: Any, small: Pair, begin: str) -> None:
    before = np.random.default_rng(1).standard_normal((40, small.ours.config.width)).astype(np.float32)

    def ask(model: Any, verb: str, array: np.ndarray) -> Any:
        if begin == "chat":
            return getattr(model, verb)([{"role": "user", "content": [array]}], max_tokens=6, ignore_eos=True)
        side = model if begin == "model" else model.prefill("clips")
        return getattr(side, verb)(Prompt(array), max_tokens=6, ignore_eos=True)

    for storage in (np.float32, torch.bfloat16):
        lent = before.copy() if storage is np.float32 else torch.from_numpy(before).to(storage)
        exact = before if storage is np.float32 else lent.float().numpy()
        stream = ask(keeping, "stream", lent)
        lent[:] = 9.0
        list(stream)
        assert stream.result().ids == ask(plain, "generate", exact).ids


def test_a_truncated_context_goes_on_from_what_it_read(keeping: Any, plain: Any, small: Pair) -> None:
    before = np.random.default_rng(2).standard_normal((30, small.ours.config.width)).astype(np.float32)
    lent = before.copy()
    context = keeping.prefill(Prompt(lent))
    lent[:] = 0.5
    context.truncate(20)
    assert goes_on(context) == goes_on(plain.prefill(Prompt(before[:20])))


@pytest.mark.parametrize("way", WRITABLE)
def test_a_write_to_exported_vectors_changes_them_alone(keeping: Any, plain: Any, way: str) -> None:
    hidden = keeping.embed("Natalia sold clips to 48 of her friends in April. " * 12)
    assert len(hidden) > 128
    first, part = np.array(hidden), hidden[2:5]
    expected = answer(keeping, hidden)
    WRITABLE[way](hidden)[3] = 0.25
    now = first.copy()
    now[3] = 0.25
    np.testing.assert_array_equal(np.asarray(hidden), now)
    np.testing.assert_array_equal(np.asarray(part), now[2:5], err_msg="a slice is a window")
    assert answer(keeping, hidden) == answer(plain, now) != expected
    assert answer(keeping, first) == answer(plain, first) == expected
    np.testing.assert_array_equal(np.asarray(keeping.embed("Natalia")), np.asarray(plain.embed("Natalia")))


@pytest.mark.parametrize("way", WRITABLE)
def test_a_thought_does_not_hear_what_is_written_to_its_vectors(keeping: Any, plain: Any, way: str) -> None:
    thought, expected = (m.think("Natalia sold clips", 5, ignore_eos=True) for m in (keeping, plain))
    WRITABLE[way](thought.vectors)[:] = 0.0
    assert not np.asarray(thought.vectors).any()
    assert goes_on(thought.context) == goes_on(expected.context)
    for one in (thought, expected):
        one.context.truncate(one.context.length - 2)
    assert goes_on(thought.context) == goes_on(expected.context)


def test_bfloat16_is_as_writable(small: Pair) -> None:
    hidden = small.ours.embed("Natalia sold clips").to("bfloat16")
    for tensor in (torch.from_dlpack(hidden), torch.utils.dlpack.from_dlpack(hidden.__dlpack__())):
        tensor += 1.0
        np.testing.assert_array_equal(hidden.numpy(), tensor.float().numpy())
    widened = torch.from_numpy(hidden.numpy())
    widened.zero_()
    assert hidden.numpy().any(), "NumPy has no bfloat16 and got a copy"


def test_a_copy_is_nobody_elses(small: Pair) -> None:
    for hidden in (small.ours.embed("clips"), small.ours.embed("clips").to("bfloat16")):
        kept = np.array(hidden)
        for capsule in (hidden.__dlpack__(copy=True), hidden.__dlpack__(copy=True, max_version=(1, 0))):
            torch.utils.dlpack.from_dlpack(capsule).zero_()
        np.testing.assert_array_equal(np.asarray(hidden), kept)


def test_what_must_not_be_written_leaves_as_a_copy(small: Pair) -> None:
    """Consumers of DLPack write where NumPy would not, be it into a ``bytes`` or into a file mapped for reading."""
    array = np.frombuffer(np.full((3, small.ours.config.width), 0.5, np.float32).tobytes(), np.float32).reshape(3, -1)
    hidden = Hidden.wrap(array, like=small.ours)
    assert hidden.numpy().ctypes.data == array.ctypes.data
    torch.from_dlpack(hidden).zero_()
    torch.utils.dlpack.from_dlpack(hidden.__dlpack__()).zero_()
    assert (array == 0.5).all()
    with pytest.raises(BufferError, match="read-only"):
        hidden.__dlpack__(copy=False)
    again = Hidden.wrap(np.from_dlpack(small.ours.embed("clips")), like=small.ours)
    torch.from_dlpack(again).zero_()
    assert again.numpy().any(), "NumPy says that its array is read-only"


def test_gradients_are_the_callers(small: Pair) -> None:
    vectors = np.random.default_rng(3).standard_normal((6, small.ours.config.width)).astype(np.float32)
    vjp = small.ours.vjp(vectors, prefix="Natalia", kv_grad=True)
    ones = np.ones_like(vectors)
    first, kv = vjp.pull(ones)
    kept = first.copy(), kv[0][0].copy()
    torch.from_dlpack(vjp.states).zero_()
    for array in (first, kv[0][0]):
        torch.from_numpy(array).zero_()
    again, kv = vjp.pull(ones)
    np.testing.assert_array_equal(again, kept[0])
    np.testing.assert_array_equal(kv[0][0], kept[1])


def test_readouts_and_logits_are_the_callers(small: Pair) -> None:
    states = small.ours.encode("Natalia sold clips")
    for call in (lambda: small.ours.readout(states, top_k=3), lambda: small.ours.logits("Natalia sold clips")):
        for take in (lambda r: getattr(r, "probabilities", r), lambda r: getattr(r, "ids", r)):
            first = take(call())
            kept = first.copy()
            torch.from_numpy(first).zero_()
            assert not first.any()
            np.testing.assert_array_equal(take(call()), kept)


ENDS = """
import os, sys, numpy, torch, densecore
model = densecore.Model.load(sys.argv[1])
lent = torch.ones(3, model.config.width)
back = torch.from_dlpack(densecore.Hidden.wrap(lent, like=model))
again = torch.from_dlpack(densecore.Hidden.wrap(numpy.ones((3, model.config.width), numpy.float32), like=model))
context = model.prefill(densecore.Prompt(lent))
hidden = densecore.Hidden.wrap(lent, like=model)
sys.keep = [back, again, context, hidden]
del lent, back, again, context, hidden
"""


def test_the_interpreter_ends_with_vectors_still_lent(small: Pair) -> None:
    """Deleters that run when nobody may call Python any more leave the memory to the system."""
    command = [sys.executable, "-c", ENDS, str(small.folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert (done.returncode, done.stderr) == (0, "")


class Rounds:
    """Random rounds of one model that keeps prefixes beside one that keeps none."""

    def __init__(self, keeping: Any, plain: Any, seed: int) -> None:
        self.keeping, self.plain, self.random = keeping, plain, np.random.default_rng(seed)
        width = plain.config.width
        # A few blocks, so that contents begin alike and their prefixes are found.
        self.blocks = self.random.standard_normal((3, 64, width)).astype(np.float32) * 0.3
        self.lent = np.zeros((ROWS, width), np.float32)
        self.known: dict[bytes, Any] = {}

    def content(self) -> np.ndarray:
        chosen = self.blocks[self.random.integers(0, len(self.blocks), 3)]
        return np.concatenate(chosen)[:ROWS]

    def fill(self) -> np.ndarray:
        """New contents for the array that is lent; returns a copy."""
        self.lent[:] = self.content()
        return self.lent.copy()

    def scribble(self, array: Any) -> None:
        """Overwrites all, a block or a row."""
        first, end = [(0, ROWS), (64, 128), (7, 8)][self.random.integers(0, 3)]
        new = self.content()[first:end]
        array[first:end] = new[: len(array[first:end])] if isinstance(array, np.ndarray) else torch.from_numpy(new)

    def expected(self, array: np.ndarray) -> Any:
        found = self.known.get(array.tobytes())
        if found is None:
            found = self.known[array.tobytes()] = answer(self.plain, array)
        return found

    def check(self, *contents: np.ndarray) -> None:
        """These contents, what the lent array holds by now, and others: as with no prefix kept."""
        for array in (*contents, self.lent.copy(), self.content()):
            assert answer(self.keeping, array) == self.expected(array)

    def stream(self) -> None:
        before = self.fill()
        stream = self.keeping.stream(Prompt(self.lent), max_tokens=4, ignore_eos=True)
        for _ in range(self.random.integers(0, 3)):
            next(stream)
        self.scribble(self.lent)
        list(stream)
        assert stream.result().ids == self.expected(before)[0]
        self.check(before)

    def thread(self) -> None:
        before = self.fill()
        calls = [
            lambda: self.keeping.generate(Prompt(self.lent), max_tokens=3, ignore_eos=True),
            lambda: self.keeping.prefill(Prompt(self.lent)),
            lambda: self.keeping.score(Prompt(self.lent), Ids([3, 4])),
            lambda: self.keeping.loss_and_grad(Prompt(self.lent), self.blocks[0][:3], Ids([5]), grad=False),
        ]
        call = calls[self.random.integers(0, len(calls))]
        thread = threading.Thread(target=call)
        thread.start()
        while thread.is_alive():
            self.scribble(self.lent)
        thread.join()
        self.check(before)

    def context(self) -> None:
        before, ids = self.fill(), Ids(self.random.integers(0, 400, 5).tolist())
        ours = self.keeping.prefill(Prompt(ids, self.lent) if self.random.integers(0, 2) else Prompt(self.lent))
        begin = Prompt(ids, before) if ours.length > ROWS else Prompt(before)
        theirs = self.plain.prefill(begin)
        self.scribble(self.lent)
        kept = int(self.random.integers(1, ours.length))
        forks = ours.fork(), theirs.fork()
        for one in (ours, theirs):
            one.truncate(kept)
        assert goes_on(ours) == goes_on(theirs)
        assert goes_on(forks[0]) == goes_on(forks[1])
        self.check(before)

    def extended(self) -> None:
        ours, theirs = (m.prefill("Natalia sold") for m in (self.keeping, self.plain))
        for _ in range(2):
            before = self.fill()
            ours.extend(Prompt(self.lent))
            self.scribble(self.lent)
            theirs.extend(Prompt(before))
            kept = int(self.random.integers(1, ours.length))
            ours.truncate(kept), theirs.truncate(kept)
        assert goes_on(ours) == goes_on(theirs)
        self.check(before)

    def thought(self) -> None:
        before = self.fill()
        ours = self.keeping.think(Prompt(self.lent), 3, ignore_eos=True)
        self.scribble(self.lent)
        theirs = self.plain.think(Prompt(before), 3, ignore_eos=True)
        assert ours.vectors.numpy().tobytes() == theirs.vectors.numpy().tobytes()
        self.writable(ours.vectors)[:] = 0.125
        kept = int(self.random.integers(1, ours.context.length))
        for one in (ours.context, theirs.context):
            one.truncate(kept)
        assert goes_on(ours.context) == goes_on(theirs.context)
        self.check(before)

    def exported(self) -> None:
        before = self.content()
        hidden = Hidden.wrap(torch.from_numpy(before.copy()), like=self.plain)
        made = self.keeping.encode(Prompt(before), layer=0).as_space("input")
        for one in (hidden, made, made[: ROWS - 10]):
            assert answer(self.keeping, one) == answer(self.plain, np.array(one))
            self.scribble(self.writable(hidden if one is hidden else made))
            assert answer(self.keeping, one) == answer(self.plain, np.array(one))
        self.check(before)

    def writable(self, hidden: Hidden) -> Any:
        return [*WRITABLE.values()][self.random.integers(0, len(WRITABLE))](hidden)


def test_500_rounds_of_random_writes(keeping: Any, plain: Any) -> None:
    rounds = Rounds(keeping, plain, seed=17)
    kinds = [rounds.stream, rounds.thread, rounds.context, rounds.extended, rounds.thought, rounds.exported]
    for number in range(ROUNDS):
        kinds[number % len(kinds)]()
    assert answer(keeping, rounds.lent) == answer(plain, rounds.lent)
    assert keeping.generate(Prompt(rounds.lent), max_tokens=1).usage.cached_positions == 128, "prefixes were kept"
