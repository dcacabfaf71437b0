"""A language model that is a function: from the turns of a conversation to an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import dspy
from dspy import lm15


class Answering:
    """The engine; ``asked`` holds every conversation, with the tokens that were allowed."""

    supported_params = frozenset({"temperature", "max_tokens", "seed"})

    def __init__(self, rule: Callable[[list[str]], str]) -> None:
        self.rule = rule
        self.asked: list[tuple[list[str], int | None]] = []
        self._turn = threading.Lock()

    def __deepcopy__(self, memo: Any) -> Answering:
        return self

    def complete(self, request: lm15.Request) -> lm15.Response:
        turns = ["".join(part.text for part in message.parts) for message in request.messages]
        with self._turn:
            self.asked.append((turns, request.config.max_tokens))
        text = self.rule(turns)
        usage = lm15.Usage(input_tokens=sum(map(len, turns)), output_tokens=len(text))
        message = lm15.Message.assistant([lm15.TextPart(text)])
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


def answering(rule: Callable[[list[str]], str], name: str = "test/answering") -> dspy.LM:
    """The language model."""
    return dspy.LM(name, engine=Answering(rule), cache=False)
