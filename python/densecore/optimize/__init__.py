"""Programs compiled offline: DSPy's optimisers over any language model, with what they did kept. Needs the extra ``optimize``.

    compiled.py         one compile, and its best program
    optimisers.py       the six optimisers and their settings
    run.py              the folder of a compile
    lines.py            its files: JSON lines that outlive a kill
    answers.py          what language models answered, so that nothing is asked twice
    trials.py           the candidates and their scores
    rows.py             what may be fitted and chosen on
    feedback.py         scores, and what is to be said about an answer
    progress.py         what a person sees
    __main__.py         the command

>>> from densecore import optimize
>>> best = optimize.compile("PlainChainOfThought", "problems", optimiser="labeled", lm="smollm2-135m-instruct", adapter="chat",
...     settings={"tokens": 4}, train_rows=4, select_rows=2, options={"k": 1})
>>> best.provenance["optimiser"], len(best.provenance["candidates"])
('labeled', 2)
>>> answer = best.program(question="Ann has 2 pens and buys 3. How many pens has she?").answer
"""

from __future__ import annotations

from densecore.errors import MissingExtraError

try:
    import dspy as _dspy  # noqa: F401 - only to say clearly that it is missing
except ModuleNotFoundError as error:
    if error.name != "dspy":
        raise
    raise MissingExtraError(
        "densecore.optimize needs dspy; install it with: pip install 'densecore[optimize]'"
    ) from error

from densecore.optimize.compiled import Best, compile  # noqa: A004  (the word of DSPy's optimisers)
from densecore.optimize.optimisers import names

__all__ = ["Best", "compile", "names"]
