"""Room for keys and values has a cap: callers wait for it in a line, and past its bounds get a named error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import densecore
from densecore import Ids, errors
from tests.golden.fixtures import Pair

FREE: dict[str, Any] = {"ignore_eos": True}


def tight(small: Pair, blocks: int, **options: Any) -> Any:
    """The tiny model with room for so many blocks of 64 positions."""
    config = small.ours.config
    block = 2 * config.layers * config.kv_heads * config.head_dim * 64 * 4
    return densecore.Model.load(small.folder, kv="f32", cache_bytes=blocks * block, **options)


@pytest.mark.parametrize("prefix_bytes", [0, None])
def test_waiting_changes_no_answer(small: Pair, prefix_bytes: int | None) -> None:
    model = tight(small, 8, prefix_bytes=prefix_bytes)
    prompts = [Ids(small.ids(n % 5, 30 + 29 * (n % 11))) for n in range(32)]
    expected = [small.ours.generate(p, max_tokens=20, **FREE).ids for p in prompts]
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda p: model.generate(p, max_tokens=20, **FREE), prompts))
    assert [one.ids for one in made] == expected
    assert any(one.usage.waited_seconds > 0 for one in made)
    assert all(one.usage.waited_seconds <= one.usage.seconds + 1e-3 for one in made)
    # A list larger than the cap is one call, and does not depend on the queue.
    assert [one.ids for one in model.generate([[p] for p in prompts], max_tokens=20, **FREE)] == expected


def test_a_full_queue_and_a_short_patience_are_named(small: Pair) -> None:
    long: dict[str, Any] = {"max_tokens": 1900, **FREE}
    with tight(small, 31, queue=0).stream(Ids([5, 6]), **long) as held:
        model = tight(small, 31, queue=0)
        with model.stream(Ids([5, 6]), **long) as own:
            next(own)
            with pytest.raises(errors.OverloadedError, match=r"1920 positions.*0 callers wait already.*queue"):
                model.generate(Ids([5, 6]), **long)
        next(held)  # another model's room is its own
    model = tight(small, 31, queue_seconds=0)
    with model.stream(Ids([5, 6]), **long) as own:
        next(own)
        with pytest.raises(errors.OverloadedError, match=r"waited 0\.0 seconds.*queue_seconds") as caught:
            model.generate(Ids([5, 6]), **long)
    assert isinstance(caught.value, RuntimeError)
    assert len(model.generate(Ids([5, 6]), max_tokens=3, **FREE).ids) == 3


def test_contexts_in_hand_are_not_waited_for(small: Pair) -> None:
    model = tight(small, 4)
    contexts = model.prefill([[Ids(small.ids(n, 100))] for n in range(2)])
    for call in (
        lambda: model.generate(Ids([1, 2]), max_tokens=2),
        lambda: contexts[0].generate(max_tokens=60, **FREE),
        lambda: contexts[0].fork().extend(Ids([1])),
        lambda: model.encode(Ids([1, 2])),
        lambda: model.score(Ids([1, 2]), Ids([3])),
        lambda: model.import_context(contexts[0].export()),
    ):
        with pytest.raises(errors.OverloadedError, match="drop contexts"):
            call()
    with pytest.raises(errors.InsufficientMemoryError, match="key-value cache"):
        model.generate(Ids([1, 2]), max_tokens=300)
    del contexts[1]
    assert len(contexts[0].generate(max_tokens=60, **FREE).ids) == 60


def test_a_cancel_reaches_a_caller_in_the_queue(small: Pair) -> None:
    model, cancel = tight(small, 31), densecore.Cancel()
    with model.stream(Ids([5, 6]), max_tokens=1900, **FREE) as held:
        next(held)
        timer = threading.Timer(0.05, cancel.cancel)
        timer.start()
        made = model.generate(Ids([5, 6]), max_tokens=1900, cancel=cancel, **FREE)
        timer.join()
    assert made.finish_reason == "cancelled"
