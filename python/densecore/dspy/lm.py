"""The language model of a DSPy program, computed here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import dspy

from densecore.dspy import draws
from densecore.dspy.engine import MAX_TOKENS, AsyncDenseEngine, DenseEngine
from densecore.errors import ArgumentError, StateError
from densecore.model import Model

if TYPE_CHECKING:
    from densecore.hidden import Hidden


class DenseLM(dspy.LM):  # type: ignore[misc]
    """A :class:`densecore.Model` as ``dspy.LM``: what DSPy knows of language models stays DSPy's.

    Answers are greedy unless ``temperature`` says otherwise; drawn ones differ from call to call unless ``seed`` is given:
    then each call draws the same ones, which still differ from one another (``n=``) and from rollout to rollout.
    The model id names the weights and the template by their fingerprint, and how the model was loaded, so that DSPy's cache
    never gives one model's answer for another's. Any number of threads may call it, and the model computes them together.

    Args:
        model: A name for :meth:`densecore.Model.load`, or a loaded model.
        temperature: 0 takes the likeliest token.
        max_tokens: Tokens of an answer at most, 1024 by default; ``max_completion_tokens``, its newer name, means the same.
        cache: Let DSPy answer a repeated request from its cache.
        load: Options of ``Model.load``, for a name.
        options: What ``dspy.LM`` takes: ``top_p``, ``top_k``, ``stop``, ``seed``, ``logprobs``, ``callbacks`` ...

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
        **options: Any,
    ) -> None:
        for name in ("engine", "async_engine", "model_type"):
            if name in options:
                raise ArgumentError(f"{name} = {options[name]!r:.80}: it is this class's own; leave it out")
        options = _named({"max_tokens": max_tokens, **options})
        most = options.pop("max_tokens")
        engine = DenseEngine(model if isinstance(model, Model) else os.fspath(model), **(load or {}))
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

    def __call__(self, prompt: Any = None, **options: Any) -> Any:
        """As in ``dspy.LM``. Samples and rollouts of one seed differ."""
        options = _named(options)
        with draws.call(options.get("rollout_id", self.kwargs.get("rollout_id"))):
            return super().__call__(prompt, **options)

    async def acall(self, prompt: Any = None, **options: Any) -> Any:
        """The same for coroutines."""
        options = _named(options)
        with draws.call(options.get("rollout_id", self.kwargs.get("rollout_id"))):
            return await super().acall(prompt, **options)

    def copy(self, **options: Any) -> DenseLM:
        """As in ``dspy.LM``: the same weights, other settings."""
        made: DenseLM = super().copy(**_named(options))
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
        engine = dict(state["engine"])["state"]
        own = ("engine", "async_engine", "model", "model_type", "_dspy_lm_class")
        found = cls(engine["model"], load=engine["options"], **{k: v for k, v in state.items() if k not in own})
        if found.model != state["model"]:
            raise StateError(
                f"the program was saved with {state['model']}, and {engine['model']} is now {found.model}: bring those weights "
                "back, or load the program without its language model"
            )
        return found


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


def model_id(model: Model) -> str:
    """What names a model's answers: weights, quantisation and template (the fingerprint), and how it was loaded."""
    return f"densecore/{model.name}@{model.fingerprint}-{model.kv}{'-exact' if model.exact else ''}"
