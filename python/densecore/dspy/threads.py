"""Threads in which the model computes for coroutines."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import Any

_Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """At most so many threads, started as they are needed and kept.

    Unlike those of ``concurrent.futures``, they do not hold up the end of the process: an answer that nobody waits for is not
    computed to its end.

    >>> Threads(2, "example").submit(max, 3, 4).result()
    4
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._started, self._turn = 0, Lock()
        self._work: SimpleQueue[_Work] = SimpleQueue()
        self._idle = Semaphore(0)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin work, or let it wait for a thread."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._begin()
        future: Future[Any] = Future()
        self._work.put((future, work, arguments))
        with self._turn:
            if not self._idle.acquire(blocking=False) and self._started < self._most:
                Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
                self._started += 1
        return future

    def _run(self) -> None:
        while True:
            _do(*self._work.get())  # whose references end with it, the model's among them
            self._idle.release()


def _do(future: Future[Any], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        found = work(*arguments)
    except BaseException as error:  # noqa: BLE001 - for whoever waits
        future.set_exception(error)
    else:
        future.set_result(found)
