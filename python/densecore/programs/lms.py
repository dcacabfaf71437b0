"""Who answers and how it is asked: language models and adapters from what a user names."""

from __future__ import annotations

import json
from typing import Any

import dspy
from dspy.clients.backend_selection import CLIENT_KEYS

from densecore.dspy import DenseAdapter, DenseLM
from densecore.errors import ArgumentError

MAX_TOKENS = 512
"""Of an answer, unless a program has limits of its own."""
ADAPTERS: dict[str, type[dspy.Adapter]] = {"dense": DenseAdapter, "chat": dspy.ChatAdapter, "json": dspy.JSONAdapter}
"""By name; ``dense`` holds answers to their form."""
REMOTE = "dspy:"
"""What the name of a language model begins with that DSPy reaches, as in ``dspy:openai/gpt-4.1``."""
PATIENCE = 24 * 3600.0
"""Seconds a call may wait for memory: in an evaluation or a compile all of them have time."""


def language_model(
    name: str,
    *,
    api_base: str | None = None,
    temperature: float = 0.0,
    max_tokens: int = MAX_TOKENS,
    seed: int | None = None,
    cache: bool = False,
    **load: Any,
) -> dspy.LM:
    """A model computed here, by catalogue name, hub id or path; or one that DSPy reaches, as ``dspy:PROVIDER/NAME``.

    ``api_base`` is the address of a server that has the latter, vLLM say; ``load`` are options of ``Model.load``.

    >>> language_model("dspy:openai/gpt-4.1").model
    'openai/gpt-4.1'
    """
    check_base(name, api_base)
    drawn: dict[str, Any] = {} if seed is None or not temperature else {"seed": seed}
    if not name.startswith(REMOTE):
        load = {"queue_seconds": PATIENCE, **load}
        return DenseLM(name, temperature=temperature, max_tokens=max_tokens, cache=cache, load=load, **drawn)
    there = {} if api_base is None else {"api_base": api_base}
    asked = name.removeprefix(REMOTE)
    return dspy.LM(asked, temperature=temperature, max_tokens=max_tokens, cache=cache, **there, **drawn)


def check_base(name: str | None, api_base: str | None, option: str = "api_base") -> None:
    """Raise where a server's address is given, in ``option``, and not the name of what DSPy shall reach there."""
    if api_base and not (name or "").startswith(REMOTE):
        raise ArgumentError(
            f"{option} = {api_base!r:.80}: it is a server's address; name its model as {REMOTE}PROVIDER/NAME"
        )


def given(lm: object) -> dspy.LM:
    """What the caller means by ``lm``: a language model, the name of one, or the one in use."""
    found = dspy.settings.lm if lm is None else language_model(lm) if isinstance(lm, str) else lm
    if not isinstance(found, dspy.LM):
        raise ArgumentError(
            f"lm = {found!r:.80}: give a dspy.LM, densecore.dspy.DenseLM say, or a name, or set one with dspy.configure"
        )
    return found


def adapter(how: object) -> dspy.Adapter:
    """What the caller means by ``adapter``: one, its name among ``ADAPTERS``, or the one in use.

    >>> type(adapter("json")).__name__
    'JSONAdapter'
    """
    if how is None:
        return dspy.settings.adapter or DenseAdapter()
    if isinstance(how, str) and how in ADAPTERS:
        return ADAPTERS[how]()
    if not isinstance(how, dspy.Adapter):
        raise ArgumentError(f"adapter = {how!r:.80}: there are {', '.join(ADAPTERS)}; from Python, give a dspy.Adapter")
    return how


def heeds(program: dspy.Module, name: str, model: str, temperature: float, max_tokens: int | None) -> None:
    """Raise what a program would not heed of what was asked for, before a model is loaded.

    Args:
        program: As made.
        name: What it is called.
        model: As :func:`language_model` takes it.
        temperature: Asked for; 0 asks for nothing.
        max_tokens: Asked for, if it was.
    """
    if model.startswith(REMOTE) and getattr(program, "needs_states", False):
        raise ArgumentError(f"{name} needs hidden states, which no API gives: name a model computed here")
    limits = getattr(program, "limits", ())
    if limits and max_tokens is not None:
        own = ":".join(f"{limit}={getattr(program, limit)}" for limit in limits)
        raise ArgumentError(f"max_tokens = {max_tokens}: {name} has limits of its own; set them as in {name}:{own}")
    if temperature and getattr(program, "greedy", False):
        raise ArgumentError(f"temperature = {temperature}: {name} draws nothing; leave out the temperature or {name}")


def limits(program: dspy.Module, lm: dspy.LM) -> dict[str, Any]:
    """How answers are drawn and what bounds them: as the language model is told, or by the program's own settings."""
    drawn = {"temperature": 0.0 if getattr(program, "greedy", False) else lm.kwargs.get("temperature")}
    own = {name: getattr(program, name) for name in getattr(program, "limits", ())}
    return drawn | (own or {"max_tokens": lm.kwargs.get("max_tokens")})


def facts(lm: dspy.LM) -> dict[str, Any]:
    """What names a language model's answers, keys and addresses left out. A ``DenseLM``'s name has the fingerprint.

    >>> facts(dspy.LM("openai/gpt-4.1", temperature=0.5, api_key="secret"))
    {'lm': 'openai/gpt-4.1', 'temperature': 0.5}
    """
    shown = {name: value for name, value in lm.kwargs.items() if name not in CLIENT_KEYS and value is not None}
    return {"lm": lm.model, **json.loads(json.dumps(shown, sort_keys=True, default=repr))}
