"""What language models answered in a run, kept by request: nothing is computed twice, by this start or by the next.

DSPy's own cache is not used here, for three reasons: its files are pickles; it belongs to the process, where one run's folder
should not change another's answers; and it keeps the several answers to one request only once all of them are there. Kept
by engine and not by cache, answers are JSON lines, in the run's folder, one a call.

The same request drawn again, at a temperature, is another draw: its number among its equals is part of what it is kept
by, and of the seed it is drawn with. So a run started anew draws the same answers, whether they were kept or not.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import dspy
from dspy import lm15
from dspy._vendor.lm15 import serde  # the public module has the types and not their JSON
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.utils.exceptions import ContextWindowExceededError

from densecore.errors import DataError, StorageError
from densecore.optimize.lines import Lines

FAILURES = 8
"""Requests that may fail one after another. DSPy counts a failure as a wrong answer, which a dead server's are not."""


class Stop(BaseException):
    """The end of a run, from wherever its budget ended: DSPy catches errors and goes on, and this is none.

    Args:
        reason: What ended: ``"minutes"``, ``"evaluations"`` or ``"failed"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Answers:
    """Answers of a run, by request and number.

    Args:
        lines: Where they are kept.
        seed: Of the draws.
        deadline: In ``time.monotonic()``: from then on nothing is computed, and what was is still given.
    """

    def __init__(self, lines: Lines, seed: int = 0, deadline: float | None = None) -> None:
        self.lines, self.seed, self.deadline = lines, seed, deadline
        self._known: dict[tuple[str, int], dict[str, Any]] = {}
        for record in lines.records:
            try:
                serde.response_from_dict(record["response"])
                self._known[str(record["request"]), int(record["number"])] = record["response"]
            except Exception as error:  # whatever DSPy's reader raises of what it did not write
                raise DataError(f"{lines.path}: {record!r:.80} is no answer: choose another folder") from error
        self._asked: Counter[str] = Counter()
        self._work: dict[tuple[str, int], Future[lm15.Response]] = {}
        self._turn = threading.Lock()
        self._failed = 0
        self.cause: Exception | None = None
        """What ended the run, where requests or the disk did."""
        self.computed = 0
        """Requests that this start computed."""

    def keeper(self, lm: dspy.LM) -> dspy.LM:
        """The language model, with its answers kept; DSPy's cache is off for it."""
        if not isinstance(lm.engine, str):
            return lm.copy(engine=_Keeping(lm.engine, self), cache=False)
        # DSPy's own engines are chosen call by call, so the model is asked as a whole, retries and connection included.
        kept = dspy.LM(lm.model, engine=_Keeping(_Whole(lm.copy(cache=False)), self), cache=False, num_retries=0)
        kept.kwargs = {name: value for name, value in lm.kwargs.items() if name not in CLIENT_KEYS}
        return kept

    def answer(self, request: lm15.Request, compute: Callable[[lm15.Request], lm15.Response], seeded: bool) -> Any:
        """The kept answer to a request, or a new one; threads that ask the same at once wait for one answer."""
        key = _key(request)
        drawn = bool(request.config.temperature) and request.config.seed is None
        with self._turn:
            place = key, self._asked[key] if drawn else 0
            self._asked[key] += 1
            if place in self._known:
                return serde.response_from_dict(self._known[place])
            mine = place not in self._work
            work = self._work.setdefault(place, Future())
        if not mine:
            return work.result()
        try:
            self.go_on()
            response = compute(self._with_seed(request, place) if drawn and seeded else request)
            self._keep(place, response)
        except BaseException as error:
            judged = self._judged(error)
            work.set_exception(judged)
            if judged is error:
                raise
            raise judged from error
        else:
            work.set_result(response)
            return response
        finally:
            with self._turn:
                del self._work[place]

    def go_on(self) -> None:
        """Raise :class:`Stop` if nothing may be computed any more."""
        if self.cause is not None:
            raise Stop("failed")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise Stop("minutes")

    def _with_seed(self, request: lm15.Request, place: tuple[str, int]) -> lm15.Request:
        drawn = hashlib.sha256(f"{self.seed} {place[0]} {place[1]}".encode()).digest()
        return replace(request, config=replace(request.config, seed=int.from_bytes(drawn[:4], "big") >> 1))

    def _keep(self, place: tuple[str, int], response: lm15.Response) -> None:
        said = serde.response_to_dict(response, include_provider_data=True)
        self.lines.append({"request": place[0], "number": place[1], "response": said})
        with self._turn:
            self._known[place] = said
            self.computed += 1
            self._failed = 0

    def _judged(self, error: BaseException) -> BaseException:
        """The error, or the end of the run where it is one too many or the disk is full."""
        if isinstance(error, (lm15.ContextLengthError, ContextWindowExceededError)) or not isinstance(error, Exception):
            return error
        with self._turn:
            self._failed += 1
            if isinstance(error, StorageError) or self._failed >= (FAILURES if self._known else 1):
                self.cause = self.cause or error
                return Stop("failed")
        return error

    @property
    def usage(self) -> dict[str, int]:
        """Calls and tokens of all starts together. What programs compute without a call is not in it."""
        with self._turn:
            used = [said.get("usage") or {} for said in self._known.values()]
        prompt, emitted = (sum(each.get(name) or 0 for each in used) for name in ("input_tokens", "output_tokens"))
        return {"calls": len(used), "prompt_tokens": prompt, "emitted_tokens": emitted}


def _key(request: lm15.Request) -> str:
    said = json.dumps(serde.request_to_dict(request), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


class _Keeping:
    """An engine that asks ``inner`` what is not known yet. All else of it is the inner engine's."""

    def __init__(self, inner: Any, answers: Answers) -> None:
        self.inner, self.answers = inner, answers

    def complete(self, request: lm15.Request) -> lm15.Response:
        """One answer."""
        seeded = "seed" in (getattr(self.inner, "supported_params", None) or ())
        return self.answers.answer(request, self.inner.complete, seeded)

    def __deepcopy__(self, memo: Any) -> _Keeping:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("inner", "complete_legacy"):  # the last would pass by what is kept
            raise AttributeError(name)
        return getattr(self.inner, name)


class _Whole:
    """A language model of DSPy's as an engine."""

    def __init__(self, lm: dspy.LM) -> None:
        self._lm = lm

    def complete(self, request: lm15.Request) -> lm15.Response:
        """One answer."""
        return self._lm(request)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("supports_"):
            return getattr(self._lm, name)
        if name == "supported_params":  # a remote draw is the server's: a seed would promise what few keep
            return frozenset(self._lm.supported_params) - {"seed"}
        raise AttributeError(name)
