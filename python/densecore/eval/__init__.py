"""Evaluation: programs answer the questions of a set, and what they left is judged and shown. Needs the extra ``dspy``.

``run.py`` is one program and how its answers come into a journal; ``turns.py`` lets several take turns, so that the same
hours of the machine count for all; ``progress.py`` is what a person sees meanwhile; ``choice.py`` leads from names to
programs and runs.
"""

from __future__ import annotations

from densecore.eval.choice import begin
from densecore.eval.run import Run
from densecore.eval.turns import take_turns
from densecore.programs.lms import language_model

__all__ = ["Run", "begin", "language_model", "take_turns"]
