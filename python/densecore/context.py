"""A prefix the model has read, to go on from as often as you like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from densecore import _core, results
from densecore.arguments import Cancel, flag, think_options, whole
from densecore.errors import StorageError
from densecore.hidden import Hidden
from densecore.options import read as read_options
from densecore.prompt import one
from densecore.results import Score, Thought
from densecore.stream import Stream

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from densecore import wire
    from densecore.kinds import One, Stop, Target
    from densecore.model import Model
    from densecore.options import GenerateOptions


class Context:
    """Keys, values and last state of a prefix.

    :meth:`generate`, :meth:`score` and :meth:`think` leave it as it is; :meth:`extend` and :meth:`truncate` change it.
    Forks share memory until they differ.
    """

    __slots__ = ("_core", "_model")

    def __init__(self, core: _core.Context, model: Model) -> None:
        self._core = core
        self._model = model

    @property
    def model(self) -> Model:
        """The model it belongs to."""
        return self._model

    @property
    def length(self) -> int:
        """Positions held."""
        return self._core.length

    def __len__(self) -> int:
        return self._core.length

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, parts shared with forks included."""
        return self._core.bytes

    def fork(self) -> Context:
        """An independent copy; memory is shared until one of the two goes on."""
        return Context(self._core.fork(), self._model)

    def extend(self, prompt: One, *, raw: bool = False, cancel: Cancel | None = None) -> Context:
        """Read more. A failed or cancelled call leaves the context as it was."""
        self._core.extend(one(prompt, self._model), raw, flag(cancel))
        return self

    def truncate(self, length: int) -> Context:
        """Forget positions from ``length`` on."""
        self._core.truncate(whole("length", length))
        return self

    def generate(
        self,
        prompt: One | None = None,
        *,
        raw: bool = False,
        cancel: Cancel | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Any:
        """Continue, after ``prompt`` if one is given; see :meth:`densecore.Model.generate`."""
        engine, logprobs = read_options(options), options.get("logprobs") is not None
        more = None if prompt is None else one(prompt, self._model)
        found = self._core.generate(more, engine, raw, flag(cancel))
        return results.alone(results.generations(found, logprobs, options.get("n", 1))[0])

    def stream(
        self,
        prompt: One | None = None,
        *,
        raw: bool = False,
        cancel: Cancel | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """The same, piece by piece."""
        engine, logprobs = read_options(options), options.get("logprobs") is not None
        more = None if prompt is None else one(prompt, self._model)
        return Stream(self._core.stream(more, engine, raw, flag(cancel)), False, logprobs, options.get("n", 1))

    def score(self, target: Target, *, top: int = 0, cancel: Cancel | None = None) -> Score:
        """Log-probabilities of ``target`` (text or ids) as the continuation."""
        ids = self._model._target(target)
        return results.score(self._core.score(ids, whole("top", top), flag(cancel)))

    def think(
        self,
        steps: int,
        prompt: One | None = None,
        *,
        mode: str = "mixture",
        temperature: float = 1.0,
        top_k: int = 10,
        stop: Stop = (),
        ignore_eos: bool = False,
        raw: bool = False,
        cancel: Cancel | None = None,
    ) -> Thought:
        """Latent steps from here; see :meth:`densecore.Model.think`."""
        options = think_options(self._model, steps, mode, temperature, top_k, stop, ignore_eos)
        more = None if prompt is None else one(prompt, self._model)
        return thought(self._core.think(more, options, raw, flag(cancel)), self._model)

    def export(self, path: str | os.PathLike[str] | None = None) -> bytes | None:
        """The context as bytes for :meth:`densecore.Model.import_context`, returned, or written to ``path``.

        What it holds amounts to the prompt itself: treat the bytes as confidential as that.
        """
        data = self._core.export()
        if path is None:
            return data
        from pathlib import Path  # kept out of the package's import time

        from densecore.runs import replace

        try:
            replace.write(Path(path), data)
        except OSError as error:
            raise StorageError(f"writing {path} failed: {error}; check the folder and the free space") from error
        return None

    def __repr__(self) -> str:
        return f"Context({self.length} positions of {self._model.name})"


def thought(raw: wire.Thought, model: Model) -> Thought:
    """Name a thought's parts."""
    vectors, ids, stopped, context, counts = raw
    return Thought(Hidden(vectors), Context(context, model), ids, stopped is not None, results.usage(counts))
