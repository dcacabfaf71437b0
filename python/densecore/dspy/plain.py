"""Plain conversation instead of marked fields: what a small model was trained on, in a fifth of the tokens."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from densecore.errors import ArgumentError

SYSTEM = "You are a helpful assistant."


class PlainAdapter(dspy.Adapter):  # type: ignore[misc]
    """A signature with one output as plain turns: the inputs, then the instructions; the whole answer is the output.

    Demonstrations are turns before the question. A single input stands alone, several have their names before them.

    >>> signature = dspy.Signature("question -> solution", "Solve it.")
    >>> PlainAdapter().format(signature, [], {"question": "1 + 1?"})[1]
    {'role': 'user', 'content': '1 + 1?\\n\\nSolve it.'}
    """

    def format_system_message(self, signature: type[dspy.Signature]) -> str:
        """The same for every signature: instructions stand with the question, where small models heed them."""
        _output(signature)
        return SYSTEM

    def format_user_message_content(
        self,
        signature: type[dspy.Signature],
        inputs: dict[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        """Inputs, then instructions."""
        given = [(name, field) for name, field in signature.input_fields.items() if inputs.get(name) is not None]
        if len(given) == 1:
            parts = [_written(inputs[given[0][0]])]
        else:
            parts = [f"{name.replace('_', ' ').capitalize()}:\n{_written(inputs[name])}" for name, _ in given]
        return "\n\n".join(part for part in (prefix, *parts, signature.instructions, suffix) if part)

    def format_assistant_message_content(
        self, signature: type[dspy.Signature], outputs: dict[str, Any], missing_field_message: str | None = None
    ) -> str:
        """The output alone."""
        return str(outputs.get(_output(signature), missing_field_message))

    def format_demos(self, signature: type[dspy.Signature], demos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Whole demonstrations only: an answer that is missing would be imitated."""
        whole = [demo for demo in demos if all(demo.get(name) is not None for name in signature.fields)]
        return list(super().format_demos(signature, whole))

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """The whole answer."""
        name, text = _output(signature), completion.strip()
        if not text:
            raise AdapterParseError("PlainAdapter", signature, completion, message="the answer is empty")
        return {name: text}


def _output(signature: type[dspy.Signature]) -> str:
    names = [str(name) for name in signature.output_fields]
    if len(names) != 1 or signature.output_fields[names[0]].annotation is not str:
        raise ArgumentError(
            f"signature {signature.__name__} has the outputs {', '.join(names)}: PlainAdapter takes one, a str; use "
            "dspy.ChatAdapter for others"
        )
    return names[0]


def _written(value: Any) -> str:
    """A list is numbered, so that the model can tell its items apart."""
    if isinstance(value, (list, tuple)):
        return "\n".join(f"[{number}] {item}" for number, item in enumerate(value, 1))
    return str(value)
