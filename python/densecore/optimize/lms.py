"""The language models and the adapter of a compile, from what the caller gives."""

from __future__ import annotations

import json
from typing import Any

import dspy
from dspy.clients.backend_selection import CLIENT_KEYS

from densecore.errors import ArgumentError
from densecore.eval import choice

REMOTE = "dspy:"
"""What the name of a language model begins with that DSPy reaches, as in ``dspy:openai/gpt-4.1``."""
PATIENCE = 24 * 3600.0
"""Seconds a call may wait for memory: in a compile all of them have time."""


def language_model(name: str, **options: Any) -> dspy.LM:
    """The language model of a name: a model computed here, by catalogue name, hub id or path, or ``dspy:PROVIDER/NAME``.

    Options are those of ``densecore.eval.choice.language_model``.
    """
    if name.startswith(REMOTE):
        return choice.language_model(name.removeprefix(REMOTE), api=True, **options)
    return choice.language_model(name, queue_seconds=PATIENCE, **options)


def given(lm: object) -> dspy.LM:
    """What the caller means by ``lm``: a language model, the name of one, or the one in use."""
    found = dspy.settings.lm if lm is None else language_model(lm) if isinstance(lm, str) else lm
    if not isinstance(found, dspy.LM):
        raise ArgumentError(
            f"lm = {found!r:.80}: give a dspy.LM, densecore.dspy.DenseLM say, or a name, or set one with dspy.configure"
        )
    return found


def adapter(how: object) -> dspy.Adapter:
    """What the caller means by ``adapter``."""
    if isinstance(how, str):
        return choice.adapter(how)
    found = dspy.settings.adapter or choice.adapter("dense") if how is None else how
    if not isinstance(found, dspy.Adapter):
        raise ArgumentError(f"adapter = {found!r:.80}: give a dspy.Adapter, or one of {', '.join(choice.ADAPTERS)}")
    return found


def facts(lm: dspy.LM) -> dict[str, Any]:
    """What names a language model's answers, keys and addresses left out. A ``DenseLM``'s name has the fingerprint.

    >>> facts(dspy.LM("openai/gpt-4.1", temperature=0.5, api_key="secret"))
    {'lm': 'openai/gpt-4.1', 'temperature': 0.5}
    """
    shown = {name: value for name, value in lm.kwargs.items() if name not in CLIENT_KEYS and value is not None}
    return {"lm": lm.model, **json.loads(json.dumps(shown, sort_keys=True, default=repr))}
