"""The engine as DSPy's language model, in this process: no server, no copy of the weights. Needs the extra ``dspy``.

>>> import dspy
>>> import densecore.dspy
>>> lm = densecore.dspy.configure("smollm2-135m-instruct", max_tokens=32, cache=False)
>>> len(lm("Say hello."))
1

That sets :class:`DenseAdapter` too, under which what a small model answers is of the signature's types, always:

>>> type(dspy.Predict("question -> count: int")(question="How many legs has a goat?").count)
<class 'int'>
"""

from __future__ import annotations

import os
from typing import Any

from densecore.errors import MissingExtraError

try:
    import dspy as _dspy
except ModuleNotFoundError as error:
    if error.name != "dspy":
        raise
    raise MissingExtraError("densecore.dspy needs dspy; install it with: pip install 'densecore[dspy]'") from error

from densecore.dspy.adapter import DenseAdapter
from densecore.dspy.engine import AsyncDenseEngine, DenseEngine
from densecore.dspy.lm import DenseLM
from densecore.dspy.state import DenseState
from densecore.model import Model
from densecore.states.store import DenseStore


def configure(model: str | os.PathLike[str] | Model | DenseLM, **options: Any) -> DenseLM:
    """What ``dspy.configure`` is for others: DSPy's programs ask this model, under :class:`DenseAdapter`.

    Args:
        model: A name or path for :meth:`densecore.Model.load`, a loaded model, or a :class:`DenseLM`.
        options: Those of :class:`DenseLM`.

    Returns:
        The language model.
    """
    lm = DenseLM(model, **options) if not isinstance(model, DenseLM) else model.copy(**options) if options else model
    _dspy.configure(lm=lm, adapter=DenseAdapter())
    return lm


__all__ = ["AsyncDenseEngine", "DenseAdapter", "DenseEngine", "DenseLM", "DenseState", "DenseStore", "configure"]
