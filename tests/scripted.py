"""A language model that answers by rule, fast: what an optimiser ought to find does raise its score.

Of the questions it knows it answers a fixed share rightly. Demonstrations that show their working raise the share, and so
does an instruction with the word GOOD; demonstrations without working raise it a little. Asked for an instruction it draws
one, and most of those that it may draw say GOOD.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
from dspy import lm15
from dspy._vendor.lm15.serde import request_to_dict

from densecore import data

GOOD = "methodically"
WORKING = "I add it up."
INSTRUCTIONS = ("Answer quickly.", f"Solve the problem {GOOD}.", f"Work {GOOD}, then answer.", f"Go on {GOOD}.")


def share(instructed: bool, worked: int, bare: int) -> float:
    """How many of the questions are answered rightly."""
    return min(0.3 + 0.4 * instructed + 0.15 * min(worked, 3) + 0.08 * min(bare, 3), 1.0)


class Rule:
    """The engine.

    Args:
        log: A file for the hash of every request that is computed, a line each.
        seconds: How long an answer takes.
        fails: Raises what it likes, given the request.
    """

    supported_params = frozenset({"temperature", "max_tokens", "seed"})

    def __init__(
        self, log: Path | None = None, seconds: float = 0.0, fails: Callable[[Any], None] | None = None
    ) -> None:
        self.log, self.seconds, self.fails = log, seconds, fails
        self.known = {row.question: row.answer for split in ("train", "select") for row in data.load("problems", split)}
        self.asked: list[str] = []
        self._turn = threading.Lock()

    def __deepcopy__(self, memo: Any) -> Rule:
        return self

    def complete(self, request: lm15.Request) -> lm15.Response:
        if self.fails is not None:
            self.fails(request)
        time.sleep(self.seconds)
        said = request_to_dict(request)
        key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        with self._turn:
            self.asked.append(key)
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(key + "\n")
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant([lm15.TextPart(self._text(request))]),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=10, output_tokens=5),
        )

    def _text(self, request: lm15.Request) -> str:
        turns = ["".join(part.text for part in message.parts) for message in request.messages]
        system = str(request.system or "")
        wanted = turns[-1].rpartition("Respond with")[2]
        fields = [name for name in re.findall(r"`(?:\[\[ ## )?(\w+)(?: ## \]\])?`", wanted) if name != "completed"]
        values = {name: self._value(name, request, system, turns) for name in fields}
        if "JSON" in wanted:
            return json.dumps(values)
        return (
            "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()) + "\n\n[[ ## completed ## ]]"
        )

    def _value(self, name: str, request: lm15.Request, system: str, turns: list[str]) -> str:
        if name in ("proposed_instruction", "new_instruction"):
            return INSTRUCTIONS[_number(f"{request.config.seed} {turns[-1]}") % len(INSTRUCTIONS)]
        if name == "reasoning":
            return WORKING
        if name != "answer":
            return "Something."
        asked = next((question for question in self.known if question in turns[-1]), "")
        worked = sum(WORKING in turn for turn in turns[:-1])
        level = share(GOOD in system, worked, len(turns) // 2 - worked)
        right = _number(asked) % 1000 < 1000 * level
        return self.known.get(asked, "?") if right else "-1"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def scripted(**options: Any) -> dspy.LM:
    """The language model."""
    return dspy.LM("test/scripted", engine=Rule(**options), cache=False, temperature=0.0, max_tokens=64)
