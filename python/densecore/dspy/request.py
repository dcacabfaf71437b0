"""What a request of DSPy's asks of the model: its conversation, and its settings by our names."""

from __future__ import annotations

import json
from typing import Any

from dspy import lm15

from densecore.errors import OptionError
from densecore.forms import response
from densecore.spelling import refuse
from densecore.states.store import expand

MAX_TOKENS = 1024  # of an answer, where neither the request nor the language model says
SUPPORTED = frozenset(
    {"temperature", "max_tokens", "top_p", "top_k", "stop", "seed", "logprobs", "response_format"}
    | {"frequency_penalty", "presence_penalty", "logit_bias"}
)
"""Settings that requests can carry and the engine has."""


def messages(request: lm15.Request) -> list[dict[str, Any]]:
    """The conversation as the model's template takes it, with the vectors of its states in their places."""
    turns = [{"role": "system", "content": expand(_text(request.system))}] if request.system else []
    if request.tools:
        raise lm15.UnsupportedFeatureError(
            "this engine takes no tools natively; use dspy.ReAct, which needs none", feature="tools"
        )
    roles = {"developer": "system", "tool": "user"}
    turns += [{"role": roles.get(m.role, m.role), "content": expand(_text(m.parts))} for m in request.messages]
    return turns


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_written(part) for part in content)


def _written(part: Any) -> str:
    """A part of a message in words; calls of tools and what they gave too, as text adapters write them."""
    if part.type == "text":
        return str(part.text)
    if part.type == "tool_call":
        return json.dumps({"name": part.name, "args": part.input}, ensure_ascii=False, default=str)
    if part.type == "tool_result":
        return _text(part.content)
    raise lm15.UnsupportedFeatureError(
        f"a message has a part of type {part.type!r}, and this engine reads text: leave it out, or put what it "
        "shows into words",
        feature=part.type,
    )


def options(request: lm15.Request) -> dict[str, Any]:
    """The settings as :meth:`densecore.Model.generate` names them, without the seed, which is the draw's."""
    config, extensions = request.config, dict(request.config.extensions or {})
    bias = extensions.pop("logit_bias", None)
    forced = config.tool_choice is not None and (config.tool_choice.mode == "required" or config.tool_choice.allowed)
    for name in ("reasoning", "probabilities", *(["tool_choice"] if forced else [])):
        if getattr(config, name):
            raise _unsupported(
                name, f"{getattr(config, name)!r:.80}: leave it out; there are {', '.join(sorted(SUPPORTED))}"
            )
    try:
        refuse("the engine", extensions, sorted(SUPPORTED))
    except OptionError as error:
        raise _unsupported(next(iter(extensions)), str(error)) from error
    given = {
        "form": response.read(config.response_format),
        "max_tokens": config.max_tokens or MAX_TOKENS,
        "temperature": config.temperature or 0.0,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "stop": list(config.stop) or None,
        "logprobs": config.logprobs,
        "frequency_penalty": config.frequency_penalty,
        "presence_penalty": config.presence_penalty,
        "logit_bias": bias and {int(token): value for token, value in bias.items()},
    }
    return {name: value for name, value in given.items() if value is not None}


def _unsupported(name: str, why: str) -> lm15.UnsupportedFeatureError:
    return lm15.UnsupportedFeatureError(f"{name}: {why}", feature=name)
