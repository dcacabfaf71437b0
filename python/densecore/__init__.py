"""Frozen language models that talk in hidden states.

The path of every call::

    text -> tokens -> embeddings -> hidden -> edge -> hidden -> logits -> tokens -> text

>>> import densecore
>>> model = densecore.Model.load("smollm2-135m-instruct")
>>> vectors = model.embed("The capital of France is")      # text -> embeddings
>>> model.decode(vectors, max_tokens=1)                    # embeddings -> text
' Paris'
>>> states = model.encode("The capital of France is")      # text -> hidden
>>> model.readout(states).tokens[-1]                       # hidden -> tokens
[' Paris']
"""

from __future__ import annotations

from densecore import errors
from densecore._core import __version__
from densecore._core import trace as _trace
from densecore.arguments import Cancel
from densecore.chat import Chat
from densecore.config import Memory, ModelConfig
from densecore.context import Context
from densecore.errors import DenseCoreError
from densecore.forms.form import Choice, Form, Json, Lark, Regex
from densecore.gradient import Loss, Vjp
from densecore.hardware import CPU, GPU, BackendConfig, Hardware, hardware
from densecore.hidden import Hidden
from densecore.model import Model
from densecore.options import GenerateOptions
from densecore.prompt import Ids, Prompt
from densecore.results import Event, Generation, Readout, Score, Thought, TokenLogprob, Usage
from densecore.stream import Stream


def trace(level: str = "info") -> None:
    """Write the engine's spans of ``level`` and above to standard error, with their times; once a process."""
    _trace(level)


__all__ = [
    "CPU",
    "GPU",
    "BackendConfig",
    "Cancel",
    "Chat",
    "Choice",
    "Context",
    "DenseCoreError",
    "Event",
    "Form",
    "GenerateOptions",
    "Generation",
    "Hardware",
    "Hidden",
    "Ids",
    "Json",
    "Lark",
    "Loss",
    "Memory",
    "Model",
    "ModelConfig",
    "Prompt",
    "Readout",
    "Regex",
    "Score",
    "Stream",
    "Thought",
    "TokenLogprob",
    "Usage",
    "Vjp",
    "__version__",
    "errors",
    "hardware",
    "trace",
]
