"""Signatures that adapters are asked with."""

from __future__ import annotations

from typing import Any

import pytest

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")


def is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() == value and value != ""


def asking(kind: Any, thought: bool = False, **field: Any) -> Any:
    """A signature with the field and a text behind it, and if need be one before it."""
    asked = dspy.Signature("question -> thought" if thought else {"question": (str, dspy.InputField())}, "Answer.")
    return asked.append("value", dspy.OutputField(**field), kind).append("last", dspy.OutputField(max_length=40), str)


def ask(model: Any, signature: Any, max_tokens: int, seed: int | None = None, temperature: float = 1.0) -> Any:
    """One prediction under the adapter, from a language model that remembers nothing."""
    lm = bridge.DenseLM(model, temperature=temperature, max_tokens=max_tokens, cache=False)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        return dspy.Predict(signature)(question="What is it?", config={"seed": seed})
