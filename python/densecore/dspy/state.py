"""Hidden states as the value of a DSPy field.

>>> import dspy
>>> from densecore.dspy import DenseLM, DenseState
>>> from densecore.dspy.plain import PlainAdapter
>>> lm = DenseLM("smollm2-135m-instruct", max_tokens=8, cache=False)
>>> state = DenseState.of(lm.dense.embed("What is the capital of France"))
>>> state
DenseState(6 x 576, sha256:..., llama-...)
>>> with dspy.context(lm=lm, adapter=PlainAdapter()):
...     "Paris" in dspy.Predict(dspy.Signature("question: DenseState -> answer", "Answer."))(question=state).answer
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import dspy
import pydantic

from densecore.errors import ArgumentError, FingerprintError
from densecore.hidden import Hidden
from densecore.states.store import Handle, current, find

if TYPE_CHECKING:
    from densecore.kinds import Tensor
    from densecore.model import Model


class DenseState(dspy.Type):  # type: ignore[misc]
    """A handle of vectors in a model's input space, for inputs, demonstrations and histories of DSPy programs.

    The engine reads the vectors where the handle stands. The handle is a short text that follows from the content: equal vectors
    are equal states, DSPy's cache tells different ones apart, and examples and programs with states are saved as JSON. The
    vectors stay in a :class:`~densecore.dspy.DenseStore`; to run a saved program in another process, open one on a folder first.

    ``str()`` writes the handle, ``repr()`` leaves out its seal; see :mod:`densecore.states.store` for what the seal is for.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    handle: str

    @classmethod
    def of(cls, hidden: Hidden | Tensor, model: Model | None = None) -> DenseState:
        """A state of these vectors, which are copied into the store that was opened last.

        Args:
            hidden: ``(T, d)`` in the input space. A state of a layer is refused; ``state.as_space("input")`` says it is meant.
            model: The model they are for; an array or tensor needs it.
        """
        if not isinstance(hidden, Hidden):
            if model is None:
                raise ArgumentError(
                    f"model = None: a {type(hidden).__name__} does not say which model its vectors are for"
                )
            hidden = Hidden.wrap(hidden, model)
        elif model is not None and hidden.fingerprint != model.fingerprint:
            raise FingerprintError(
                f"a state of model {hidden.fingerprint} was given for model {model.fingerprint}; states fit only the model "
                "that made them"
            )
        return cls(handle=str(current().put(hidden)))

    def hidden(self) -> Hidden:
        """The vectors."""
        return find(self._parts)

    @property
    def shape(self) -> tuple[int, int]:
        """``(T, d)``."""
        return self._parts.shape

    @property
    def fingerprint(self) -> str:
        """The model the vectors belong to."""
        return self._parts.fingerprint

    @property
    def sha256(self) -> str:
        """Of the content: components, shape, model and space."""
        return self._parts.sha256

    @property
    def _parts(self) -> Handle:
        return Handle.read(self.handle)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """DSPy saves a state as its handle alone."""
        return {"handle": value} if isinstance(value, str) else value

    @pydantic.field_validator("handle")
    @classmethod
    def _check(cls, handle: str) -> str:
        Handle.read(handle)
        return handle

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> NoReturn:
        """Adapters ask for the schema of what a language model shall write."""
        raise ArgumentError(
            "a language model cannot write a DenseState: use it as an input, or return it from a module of your own that "
            "makes it with DenseState.of and puts it into its Prediction"
        )

    def format(self) -> str:
        """What stands in the prompt."""
        return self.handle

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DenseState) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __str__(self) -> str:
        return self.handle

    def __repr__(self) -> str:
        rows, width = self.shape
        return f"DenseState({rows} x {width}, sha256:{self.sha256[:12]}..., {self.fingerprint})"
