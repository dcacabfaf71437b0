"""The language model of a DSPy program, computed here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import dspy

from densecore.dspy import draws
from densecore.dspy.engine import AsyncDenseEngine, DenseEngine
from densecore.dspy.engine import model_id as model_id
from densecore.dspy.request import MAX_TOKENS
from densecore.errors import ArgumentError
from densecore.model import Model
from densecore.spelling import FOREIGN, LOADING, refuse

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from densecore.hidden import Hidden

_KNOWN = [
    *sorted(DenseEngine.supported_params | {"max_completion_tokens", "n", "rollout_id", "top_logprobs"}),
    *("cache", "callbacks", "load", "num_retries", "prompt_cache", "provider", "use_developer_role"),
    *("finetuning_model", "launch_kwargs", "train_kwargs"),
]
"""Options of this class and those it hands to ``dspy.LM``."""
_FOLLOWS = "the name follows the engine that answers, here {}; give another engine, or make another DenseLM"


class DenseLM(dspy.LM):  # type: ignore[misc]
    """A :class:`densecore.Model` as ``dspy.LM``: what DSPy knows of language models stays DSPy's.

    Answers are greedy unless ``temperature`` says otherwise; drawn ones differ from call to call unless ``seed`` is given:
    then each call draws the same ones, which still differ from one another (``n=``) and from rollout to rollout.
    ``n`` answers are one batch. The model id, :attr:`model`, is read off the engine that answers: it names the weights and
    the template by their fingerprint, and how the model was loaded, so that DSPy's cache never gives one model's answer for
    another's. Any number of threads may call it, and the model computes them together.

    Args:
        model: A name for :meth:`densecore.Model.load`, or a loaded model.
        temperature: 0 takes the likeliest token.
        max_tokens: Tokens of an answer at most, 1024 by default; ``max_completion_tokens``, its newer name, means the same.
        cache: Let DSPy answer a repeated request from its cache.
        load: Options of ``Model.load``, for a name.
        cache_salt: Share kept prefixes only with calls of the same salt, see :class:`densecore.GenerateOptions`. It is saved
            with nothing: give it again after loading. DSPy's own cache knows no salts; ``cache=False`` keeps answers from it.
        options: What ``dspy.LM`` takes: ``top_p``, ``top_k``, ``stop``, ``seed``, ``n``, ``logprobs``, ``callbacks`` ...

    >>> lm = DenseLM("smollm2-135m-instruct", max_tokens=8, cache=False)
    >>> len(lm("Tell a story.", n=2, temperature=1.0))
    2
    >>> lm.decode(lm.dense.embed("The capital of France is"), max_tokens=1)
    ' Paris'
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Model,
        *,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        cache: bool = True,
        load: dict[str, Any] | None = None,
        cache_salt: str | None = None,
        **options: Any,
    ) -> None:
        for name in ("engine", "async_engine", "model_type"):
            if name in options:
                raise ArgumentError(f"{name} = {options[name]!r:.80}: it is this class's own; leave it out")
        refuse("DenseLM", options, _KNOWN, {"load={...}": LOADING})
        options = _named({"max_tokens": max_tokens, **options})
        most = options.pop("max_tokens")
        named = model if isinstance(model, Model) else os.fspath(model)
        engine = DenseEngine(named, cache_salt=cache_salt, **(load or {}))
        super().__init__(
            model_id(engine.model),
            temperature=temperature,
            max_tokens=MAX_TOKENS if most is None else most,
            cache=cache,
            engine=engine,
            async_engine=AsyncDenseEngine(engine),
            **options,
        )

    @property
    def dense(self) -> Model:
        """The model itself, with all its verbs."""
        model: Model = self.engine.model
        return model

    @property
    def model(self) -> str:
        """What names the answers, for DSPy's cache: it follows the engine, and cannot be set to anything else."""
        name: str = self.engine.model_id
        return name

    @model.setter
    def model(self, name: str) -> None:
        if name != self.model:
            raise ArgumentError(f"model = {name!r:.80}: {_FOLLOWS.format(self.model)}")

    def __call__(self, prompt: Any = None, **options: Any) -> Any:
        """As in ``dspy.LM``. Samples and rollouts of one seed differ."""
        options = _named(options)
        with self._drawing(options):
            return super().__call__(prompt, **options)

    async def acall(self, prompt: Any = None, **options: Any) -> Any:
        """The same for coroutines."""
        options = _named(options)
        with self._drawing(options):
            return await super().acall(prompt, **options)

    def _drawing(self, options: dict[str, Any]) -> AbstractContextManager[None]:
        """The call as :mod:`densecore.dspy.draws` needs to know it. An engine around ours has its own way with samples."""
        refuse("DenseLM", [name for name in options if name in FOREIGN], [*_KNOWN, "model", "messages"])
        merged = {**self.kwargs, **options}
        self.model = merged.get("model", self.model)  # refuses another
        _check_pair(self.engine, self._async_engine_spec)
        samples = merged.get("n") if isinstance(self.engine, DenseEngine) else 1
        return draws.call(merged.get("rollout_id"), samples if isinstance(samples, int) else 1)

    def copy(self, **options: Any) -> DenseLM:
        """As in ``dspy.LM``: the same weights, other settings; with ``engine``, another model.

        The engine is a :class:`DenseEngine`, or what wraps one and says its ``model_id``.
        """
        options = _named(options)
        own = [name for name in (*_KNOWN, "engine", "async_engine") if name != "load"]
        given = [name for name in options if not hasattr(self, name)]
        refuse("DenseLM.copy", given, own, {"another DenseLM, in load={...}": LOADING})
        engine: Any = options.get("engine", self.engine)
        if not isinstance(getattr(engine, "model_id", None), str):
            raise ArgumentError(
                f"engine = {engine!r:.80}: it does not say what model answers; give a densecore.dspy.DenseEngine, or use "
                "dspy.LM with this engine"
            )
        if "engine" in options and isinstance(engine, DenseEngine):
            options = {"async_engine": AsyncDenseEngine(engine), **options}
        _check_pair(engine, options.get("async_engine"))
        if (name := options.pop("model", engine.model_id)) != engine.model_id:
            raise ArgumentError(f"model = {name!r:.80}: {_FOLLOWS.format(engine.model_id)}")
        made: DenseLM = super().copy(**options)
        return made

    # `forward` is DSPy's: a class that overrides it loses DSPy's cache and retries. Vectors have names of their own.

    def encode(self, prompt: Any, **options: Any) -> Any:
        """Hidden states of a prompt, see :meth:`densecore.Model.encode`."""
        return self.dense.encode(prompt, **options)

    def forward_vectors(self, vectors: Any, **options: Any) -> Any:
        """Input vectors to final states, see :meth:`densecore.Model.forward`."""
        return self.dense.forward(vectors, **options)

    def decode(self, vectors: Hidden | Any, **options: Any) -> Any:
        """Text that goes on from input vectors, see :meth:`densecore.Model.decode`."""
        return self.dense.decode(vectors, **options)

    @classmethod
    def load_state(cls, state: dict[str, Any], *, allow_custom_lm_class: bool = False) -> DenseLM:
        """The language model that was saved, over weights that must still be the same."""
        own = ("engine", "async_engine", "model", "model_type", "_dspy_lm_class")
        engine = DenseEngine.load_state({**state["engine"]["state"], "id": state["model"]})
        return cls(str(engine.source), load=engine.options, **{k: v for k, v in state.items() if k not in own})


def _check_pair(engine: Any, beside: Any) -> None:
    """What answers coroutines must be the engine whose name the answers get."""
    if beside is not None and getattr(beside, "engine", None) is not engine:
        raise ArgumentError(f"async_engine = {beside!r:.80}: it answers with another engine; leave it out")


def _named(options: dict[str, Any]) -> dict[str, Any]:
    """The options with one name for tokens at most.

    >>> _named({"max_completion_tokens": 3, "max_tokens": None})
    {'max_tokens': 3}
    """
    if "max_completion_tokens" not in options:
        return options
    options = dict(options)
    most, known = options.pop("max_completion_tokens"), options.get("max_tokens")
    if known is not None and known != most:
        raise ArgumentError(
            f"max_tokens = {known}, max_completion_tokens = {most}: they mean the same; give one of them"
        )
    return {**options, "max_tokens": most}
