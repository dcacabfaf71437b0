"""The engine as DSPy's language model, in this process: no server, no copy of the weights. Needs the extra ``dspy``.

>>> import dspy
>>> from densecore.dspy import DenseLM
>>> lm = DenseLM("smollm2-135m-instruct", max_tokens=8, cache=False)
>>> with dspy.context(lm=lm):
...     answers = lm("Say hello.")
>>> len(answers)
1

Under :class:`DenseAdapter` what a small model answers is of the signature's types, always:

>>> with dspy.context(lm=lm, adapter=DenseAdapter()):
...     count = dspy.Predict("question -> count: int", max_tokens=32)(question="How many legs has a goat?").count
>>> type(count)
<class 'int'>
"""

from __future__ import annotations

from densecore.errors import MissingExtraError

try:
    import dspy as _dspy  # noqa: F401 - only to say clearly that it is missing
except ModuleNotFoundError as error:
    if error.name != "dspy":
        raise
    raise MissingExtraError("densecore.dspy needs dspy; install it with: pip install 'densecore[dspy]'") from error

from densecore.dspy.adapter import DenseAdapter
from densecore.dspy.engine import AsyncDenseEngine, DenseEngine
from densecore.dspy.lm import DenseLM
from densecore.dspy.state import DenseState
from densecore.states.store import DenseStore

__all__ = ["AsyncDenseEngine", "DenseAdapter", "DenseEngine", "DenseLM", "DenseState", "DenseStore"]
