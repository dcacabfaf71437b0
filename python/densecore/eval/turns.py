"""Several programs in turn over pieces of a set: what slows the machine for an hour slows all of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

from densecore.data import Row
from densecore.eval.run import Run
from densecore.report import Example

THREADS = 64
"""Questions in work at a time: the model computes them together."""
PIECE = 128
"""Questions of a program before it is another's turn."""
_MARK = None


def take_turns(
    runs: Sequence[Run],
    rows: Sequence[Row],
    *,
    threads: int = THREADS,
    piece: int = PIECE,
    seen: Callable[[Run, Example], None] = lambda run, example: None,
) -> None:
    """Answer what is missing. Whatever interrupts it, answers that were finished are in their journals.

    One that raised gets there with the next that did not: only then is it known whose fault it was.

    Raises:
        StorageError: A journal could not be written.
        DataError: A row is another than the one that a journal has answered.
        DenseCoreError: Many answers in a row raised, or all of a run: something is wrong with its language model, not with
            its answers, and they are not kept.
    """
    try:
        wanted = [run.missing(rows) for run in runs]
        for start in range(0, len(rows), piece):
            here = range(start, min(start + piece, len(rows)))
            for run, questions in zip(runs, wanted, strict=True):
                _answer(run, [(i, row) for i, row in questions if i in here], threads, seen)
        for run in runs:
            run.settle(rows, partial(seen, run))
    finally:
        for run in runs:
            run.stopped = True


def _answer(run: Run, wanted: Sequence[tuple[int, Row]], threads: int, seen: Callable[[Run, Example], None]) -> None:
    """Answer questions, ``threads`` at a time. The threads are daemons: an interrupt does not wait for their answers."""
    todo: queue.SimpleQueue[tuple[int, Row]] = queue.SimpleQueue()
    for each in wanted:
        todo.put(each)
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        failed: BaseException | None = None
        try:
            while not stop.is_set():
                index, row = todo.get_nowait()
                run.work(index, row, partial(seen, run))
        except queue.Empty:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the caller can see it
            failed = error
        ended.put(failed)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, len(wanted)))]
    for worker in workers:
        worker.start()
    try:
        for _ in workers:
            if (failed := ended.get()) is not None:
                raise failed
    finally:
        stop.set()
