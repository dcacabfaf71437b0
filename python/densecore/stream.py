"""An answer while it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from densecore import _core
from densecore.errors import GenerationCancelled
from densecore.results import Event, alone, generations, logprobs


class Stream(Iterator[Event]):
    """Iterate for :class:`~densecore.Event` objects; :meth:`result` gives the finished answer.

    Leaving a ``with`` block, or dropping the stream, stops the engine.
    """

    def __init__(self, core: _core.Stream, many: bool, with_logprobs: bool, n: int = 1) -> None:
        self._core = core
        self._many = many
        self._with_logprobs = with_logprobs
        self._n = n

    def __next__(self) -> Event:
        index, text, ids, finish, tokens = next(self._core)
        if finish == "error" and not self._many and self._n == 1:
            self.result()  # raises it
        return Event(text, ids, finish, index, logprobs(tokens) if self._with_logprobs else None)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._core.cancel()

    def cancel(self) -> None:
        """Ask the engine to stop; events already written still come."""
        self._core.cancel()

    def results(self) -> list[Any]:
        """All answers, waiting for their end; with ``n`` above 1 a list of them a prompt."""
        for _ in self._core:
            pass
        found = self._core.results()
        if found is None:
            raise GenerationCancelled("the stream ended before its answers were finished; start it again")
        return generations(found, self._with_logprobs, self._n)

    def result(self) -> Any:
        """The answer (or with ``n`` the list of them) to a lone prompt, waiting for its end."""
        return alone(self.results()[0])
