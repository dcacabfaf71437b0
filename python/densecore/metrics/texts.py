"""Exact match and F1 of short texts, as the evaluation scripts of SQuAD 1.1 and HotPotQA compute them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from densecore.errors import ArgumentError

_Score = TypeVar("_Score", bool, float)
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_JUDGEMENTS = ("yes", "no", "noanswer")


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, without the articles a, an, the, and with single spaces.

    >>> normalize_answer("The  U.S. -- an example")
    'us example'
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(prediction: str, gold: str | Iterable[str]) -> bool:
    """Whether the normalised prediction equals one of the normalised gold answers.

    Official to the letter: a gold answer of punctuation alone, of which SQuAD has two, equals an empty prediction.

    >>> exact_match("the Beatles.", ["Beatles", "The Fab Four"])
    True
    """
    said = normalize_answer(prediction)
    return _best(lambda answer: said == normalize_answer(answer), gold)


def f1(prediction: str, gold: str | Iterable[str]) -> float:
    """Token F1 after normalisation, of the gold answer where it is highest; 0 where no token is shared.

    >>> f1("in the year 1957", ["1957", "the year 1957"])
    0.8
    """
    said = normalize_answer(prediction).split()
    return _best(lambda answer: _shared(said, normalize_answer(answer).split()), gold)


def hotpot_f1(prediction: str, gold: str | Iterable[str]) -> float:
    """:func:`f1` as HotPotQA has it: where one side is yes, no or noanswer, the other must say just the same.

    >>> hotpot_f1("no, it is not", "no"), f1("no, it is not", "no")
    (0.0, 0.4)
    """
    said = normalize_answer(prediction)

    def score(answer: str) -> float:
        wanted = normalize_answer(answer)
        if said != wanted and (said in _JUDGEMENTS or wanted in _JUDGEMENTS):
            return 0.0
        return _shared(said.split(), wanted.split())

    return _best(score, gold)


def _best(score: Callable[[str], _Score], gold: str | Iterable[str]) -> _Score:
    answers = [gold] if isinstance(gold, str) else list(gold)
    if not answers:
        raise ArgumentError("gold = []: give at least one answer that is right")
    return max(map(score, answers))


def _shared(said: list[str], wanted: list[str]) -> float:
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)
