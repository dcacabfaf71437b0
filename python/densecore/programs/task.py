"""A task: what a program is asked, and how its answers are judged. Word problems and questions over passages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy import lm15
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

from densecore import metrics
from densecore.data import Row
from densecore.errors import ArgumentError, ContextLengthError
from densecore.programs.search import passages
from densecore.report import EXACT, F1
from densecore.retrieval.bm25 import BM25

MARK = "####"
"""What the last line of a solution begins with, as in GSM8K."""
PASSAGES = 4
"""Passages that a question is given, the best by BM25."""
OWN_FAILURES = (AdapterParseError, ContextWindowExceededError, lm15.ContextLengthError, ContextLengthError)
"""What a program raises by the model's fault: wrong answers. Anything else says nothing of the model."""
_ANNOTATION = re.compile(r"<<[^<>]*>>")  # GSM8K's marks for a calculator


class Problem(dspy.Signature):  # type: ignore[misc]
    """Solve the word problem."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="the number alone, without unit")


class Question(dspy.Signature):  # type: ignore[misc]
    """Answer the question from the passages."""

    context: list[str] = dspy.InputField(desc="passages that may hold the answer")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField(desc="as short as possible: a name, a date, a number, yes or no")


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth."""

    correct: bool
    score: float
    """0 to 1, in the task's metric."""
    prediction: str
    """The answer as it was judged."""
    failure: str | None
    """The class of the failure, of a wrong answer."""
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What a program is asked."""

    name: str
    signature: type[dspy.Signature]
    """Inputs to ``answer``."""
    working: str
    """What to ask for where the working and the answer are one text, which :func:`answer_of` reads."""
    metric_name: str
    judged: Callable[[Row, object, str], Verdict] = field(repr=False)

    def example(self, row: Row, reads: Sequence[str] = ()) -> dspy.Example:
        """A row for DSPy: the inputs a program reads (all of the signature's by default), the answer, the working."""
        facts: dict[str, Any] = {"row_id": row.id, "answer": row.answer}
        if row.solution:
            text = _ANNOTATION.sub("", row.solution).split(MARK)[0].strip()
            facts |= {"reasoning": text, "solution": f"{text}\n{MARK} {row.answer}"}
        names = tuple(reads) or tuple(self.signature.input_fields)
        for name in names:
            facts[name] = best(row) if name == "context" else row.field(name)
        if "paragraphs" in names:
            facts["paragraphs"] = list(row.paragraphs)
        return dspy.Example(row=row, **facts).with_inputs(*names)

    def judge(self, row: Row, answer: object, written: str = "") -> Verdict:
        """Judge an answer; ``written`` is all that the program wrote, for the class of a failure."""
        return self.judged(row, answer, written)

    def metric(
        self, example: dspy.Example, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
    ) -> float:
        """The score as DSPy's optimisers ask for it."""
        return self.judge(example.row, getattr(prediction, "answer", None), written(prediction)).score


def best(row: Row, k: int = PASSAGES) -> list[str]:
    """The row's passages that fit its question best, the best first."""
    texts = passages(row.paragraphs)
    return [texts[hit.index] for hit in BM25(texts).search(row.question, min(k, len(texts)))] if texts else []


def answer_of(solution: str, task: str = "math") -> str:
    """What stands behind the last mark of a solution; its last line where there is no mark, of ``math`` one with a number.

    >>> answer_of("2 + 2 = 4\\n#### 4 pens")
    '4 pens'
    >>> answer_of("So it is 4.\\nThat is all.")
    'So it is 4.'
    """
    _, mark, rest = solution.rpartition(MARK)
    lines = [line.strip() for line in (rest if mark else solution).splitlines() if line.strip()]
    if mark:
        return lines[0] if lines else ""
    numbered = [line for line in lines if metrics.number(line) is not None] if task == "math" else []
    return (numbered or lines or [""])[-1]


def written(prediction: Any) -> str:
    """All texts of a prediction, in the order in which they were written; an answer that was read out of one, once.

    >>> written(dspy.Prediction(solution="1 + 1 = 2", answer="2")), written(dspy.Prediction(plan="add", answer="2"))
    ('1 + 1 = 2', 'add\\n2')
    """
    facts = prediction.toDict() if hasattr(prediction, "toDict") else {"answer": prediction}
    answer = facts.pop("answer", None)
    texts = [value for value in facts.values() if isinstance(value, str)]
    known = answer is None or (texts and str(answer) in texts[-1])
    return "\n".join(texts if known else [*texts, str(answer)])


def _problem(row: Row, answer: object, written: str) -> Verdict:
    found = metrics.number(answer)
    correct = metrics.gsm8k_match(answer, row.answers)
    failure = metrics.failure(written or str(answer), answer, row.answers)
    theirs = float(metrics.dspy_gsm8k_match(answer, row.answer))
    shown = str(answer if found is None else found) if answer is not None else ""
    return Verdict(correct, float(correct), shown, failure, {"dspy_gsm8k_metric": theirs})


def _question(row: Row, answer: object, written: str) -> Verdict:
    said = str(answer or "").strip()
    f1 = metrics.hotpot_f1 if row.set == "hotpotqa" else metrics.f1  # each set in its official way
    correct, score = metrics.exact_match(said, row.answers), f1(said, row.answers)
    return Verdict(correct, score, said, None if correct else _miss(said, score, row), {"exact_match": float(correct)})


def _miss(said: str, score: float, row: Row) -> str:
    """Why a short answer is wrong, as far as its words show it."""
    if not metrics.normalize_answer(said):
        return "no answer"
    words = f" {metrics.normalize_answer(said)} "
    if any(f" {metrics.normalize_answer(each)} " in words for each in row.answers):
        return "too long"
    return "overlap" if score else "another answer"


MATH = Task(
    "math",
    Problem,
    f"Solve the problem step by step. End with the final answer on its own line in the form '{MARK} <number>'.",
    EXACT,
    _problem,
)
QA = Task(
    "qa",
    Question,
    f"Think step by step. End with the answer alone on its own line in the form '{MARK} <answer>', as short as possible.",
    F1,
    _question,
)
_TASKS = {"gsm8k": MATH, "svamp": MATH, "problems": MATH, "hotpotqa": QA, "squad": QA}


def task_of(name: str) -> Task:
    """The task of a data set.

    >>> task_of("gsm8k").name
    'math'
    """
    if name not in _TASKS:
        raise ArgumentError(f"set = {name!r:.80}: there are {', '.join(_TASKS)}")
    return _TASKS[name]
