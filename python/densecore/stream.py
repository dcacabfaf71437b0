"""An answer while it is written."""

from __future__ import annotations

from collections.abc import Iterator

from densecore import _core
from densecore.errors import GenerationCancelled
from densecore.results import Event, Generation, generation, logprobs


class Stream(Iterator[Event]):
    """Iterate for :class:`~densecore.Event` objects; :meth:`result` gives the finished answer.

    Leaving a ``with`` block, or dropping the stream, stops the engine.
    """

    def __init__(self, core: _core.Stream, many: bool, with_logprobs: bool) -> None:
        self._core = core
        self._many = many
        self._with_logprobs = with_logprobs

    def __next__(self) -> Event:
        index, text, ids, finish, tokens = next(self._core)
        return Event(text, ids, finish, index, logprobs(tokens) if self._with_logprobs else None)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._core.cancel()

    def cancel(self) -> None:
        """Ask the engine to stop; events already written still come."""
        self._core.cancel()

    def results(self) -> list[Generation]:
        """All answers, waiting for their end."""
        for _ in self:
            pass
        found = self._core.results()
        if found is None:
            raise GenerationCancelled("the stream ended before its answers were finished; start it again")
        return [generation(g, self._with_logprobs) for g in found]

    def result(self) -> Generation:
        """The answer, waiting for its end."""
        return self.results()[0]
