"""DSPy's chat format with answers that always parse: the model can write nothing that is not of the signature's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from densecore.dspy.calls import chosen
from densecore.dspy.fields import LINE_ENDS, grammar
from densecore.dspy.request import MAX_TOKENS
from densecore.forms import response


class DenseAdapter(dspy.ChatAdapter):  # type: ignore[misc]
    """``dspy.ChatAdapter`` whose answers the engine holds to the signature's types.

    Of other language models it asks what ``ChatAdapter`` asks. Of ours, a text, a number, a choice, a date, a list or a
    model of fields comes back as its type says: there are no parse failures and no second calls. Required texts are not
    blank. Free text that other fields follow ends where the model would end its answer. It takes at most what ``max_tokens``
    leaves beside the room of those others, so that a long thought still has its conclusion; the last tokens of that are
    for finding a place to end. A
    ``max_tokens`` too small for the shortest answer is an error. Under ``dspy.ReAct`` the arguments fit the tool that was
    chosen.

    What judges a value beyond its type, a validator of your own say, can still refuse one.

    >>> from typing import Literal
    >>> import dspy
    >>> from densecore.dspy import DenseAdapter, DenseLM
    >>> feeling = dspy.Predict(dspy.Signature("sentence -> mood", "Say how it sounds.").with_updated_fields(
    ...     "mood", type_=Literal["calm", "merry", "cross"]))
    >>> with dspy.context(lm=DenseLM("smollm2-135m-instruct", cache=False), adapter=DenseAdapter()):
    ...     feeling(sentence="We danced until the lamps went out.").mood in ("calm", "merry", "cross")
    True
    """

    def __call__(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """One answer, parsed; DSPy's second call in JSON is for language models that are not held to a form."""
        call: Any = dspy.Adapter.__call__ if _is_ours(lm) else dspy.ChatAdapter.__call__
        found: list[dict[str, Any]] = call(self, lm, lm_kwargs, signature, demos, inputs)
        return found

    async def acall(
        self,
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """The same for coroutines."""
        call: Any = dspy.Adapter.acall if _is_ours(lm) else dspy.ChatAdapter.acall
        found: list[dict[str, Any]] = await call(self, lm, lm_kwargs, signature, demos, inputs)
        return found

    def _call_preprocess(
        self, lm: dspy.BaseLM, lm_kwargs: dict[str, Any], signature: type[dspy.Signature], inputs: dict[str, Any]
    ) -> type[dspy.Signature]:
        """DSPy's own, and then the form of what is left to write, where DSPy's cache sees it too."""
        choice = lm_kwargs.get("tool_choice")  # DSPy's own takes it away, for language models that are not held to it
        processed: type[dspy.Signature] = super()._call_preprocess(lm, lm_kwargs, signature, inputs)
        options = {**lm.kwargs, **lm_kwargs}
        if _is_ours(lm) and not options.get("response_format") and processed.output_fields:
            most = options.get("max_completion_tokens") or options.get("max_tokens") or MAX_TOKENS
            tools, calls = chosen(_tools(inputs), choice)
            lm_kwargs["response_format"] = response.wrap(*grammar(processed, tools, most, calls))
        return processed

    def _call_postprocess(
        self,
        processed_signature: type[dspy.Signature],
        original_signature: type[dspy.Signature],
        outputs: list[Any],
        lm: dspy.BaseLM,
        lm_kwargs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """DSPy's own; texts hold no unusual ends of lines, so where ours have one it stands in JSON."""
        if _is_ours(lm):
            outputs = [_escaped(output) for output in outputs]
        found: list[dict[str, Any]] = super()._call_postprocess(
            processed_signature, original_signature, outputs, lm, lm_kwargs
        )
        return found


# Where such a character ends a line in JSON, DSPy would cut a string.
_ESCAPES = str.maketrans({end: f"\\u{ord(end):04x}" for end in LINE_ENDS})


def _escaped(output: Any) -> Any:
    if isinstance(output, str):
        return output.translate(_ESCAPES)
    return {**output, "text": (output.get("text") or "").translate(_ESCAPES)}


# Listeners of DSPy's streams know adapters by this name.
DenseAdapter.__name__ = "ChatAdapter"


def _is_ours(lm: dspy.BaseLM) -> bool:
    return getattr(getattr(lm, "engine", None), "holds_grammar", False) is True


def _tools(inputs: Mapping[str, Any]) -> dict[str, dspy.Tool]:
    """Tools among the inputs, or of the module that is calling: ReAct's signature only names its tools."""
    given = [tool for value in inputs.values() for tool in (value if isinstance(value, list) else [value])]
    if found := {tool.name: tool for tool in given if isinstance(tool, dspy.Tool)}:
        return found
    for module in reversed(dspy.settings.caller_modules or []):
        tools = getattr(module, "tools", None)
        if isinstance(tools, dict) and tools and all(isinstance(tool, dspy.Tool) for tool in tools.values()):
            return dict(tools)
    return {}
