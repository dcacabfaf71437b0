"""One class per kind of failure, all under :class:`DenseCoreError`.

Each also derives from the built-in class a caller would expect (``ValueError``, ``OSError`` ...), so code that
knows nothing of densecore still catches the right thing. Messages say what failed, with which value, and what to
do next.

>>> from densecore import errors
>>> issubclass(errors.ContextLengthError, ValueError)
True
"""

from __future__ import annotations


class DenseCoreError(Exception):
    """Base of every error densecore raises on purpose."""


class ModelNotFoundError(DenseCoreError, FileNotFoundError):
    """No model under that name or path."""

    __str__ = Exception.__str__


class ModelFormatError(DenseCoreError, ValueError):
    """A model file contradicts itself or its format."""


class UnsupportedModelError(DenseCoreError, ValueError):
    """A sound model that the engine does not implement, refused rather than computed wrongly."""


class IntegrityError(DenseCoreError, ValueError):
    """Bytes that do not have the size or SHA-256 they should have."""


class DownloadError(DenseCoreError, OSError):
    """A download failed: network, disk or server."""

    __str__ = Exception.__str__


class OfflineError(DownloadError):
    """A download would be needed, but the caller asked to stay offline."""


class StorageError(DenseCoreError, OSError):
    """A local file could not be read or written."""

    __str__ = Exception.__str__


class TokenizerError(DenseCoreError, ValueError):
    """Text or ids the tokenizer cannot handle, or a tokenizer the engine does not know."""


class TemplateError(DenseCoreError, ValueError):
    """The chat template is missing, failed, or asked for too much work."""


class ArgumentError(DenseCoreError, ValueError):
    """An argument outside its range."""


class OptionError(ArgumentError, TypeError):
    """An option that a call does not have; the message names the one that is meant."""


class PromptError(DenseCoreError, ValueError):
    """A prompt that cannot be used as it stands."""


class ContextLengthError(PromptError):
    """Prompt and answer need more positions than the context holds."""


class VectorError(DenseCoreError, ValueError):
    """Vectors that do not fit the model."""


class WidthError(VectorError):
    """Vectors of the wrong width."""


class NonFiniteError(VectorError):
    """NaN or infinity in a vector."""


class SpaceError(VectorError):
    """A hidden state used in a space where it does not belong."""


class FingerprintError(VectorError):
    """A hidden state of another model."""


class StateError(DenseCoreError, ValueError):
    """What was kept cannot be had back: an exported context, a state behind a handle, the model of a saved program."""


class InsufficientMemoryError(DenseCoreError, MemoryError):
    """A model that does not fit into memory, or a call that would not fit into its empty cache."""


class LimitError(DenseCoreError, ValueError):
    """Something is longer or larger than the engine takes.

    The message says what, how large it is, what the cap is, and what to do. Caps of files and prompts are fixed; those of
    the queue are ``queue`` and ``queue_seconds`` of :meth:`densecore.Model.load`.
    """


class OverloadedError(DenseCoreError, RuntimeError):
    """Others hold the room in the key-value cache that a call needs, and waiting (longer) is not allowed or no use."""


class NumericError(DenseCoreError, ArithmeticError):
    """The model computed NaN or infinity for a sequence, or a key or value too large for its storage."""


class ThreadError(DenseCoreError, RuntimeError):
    """The system gave no thread: there are too many, or too little memory for another one."""


class GenerationCancelled(DenseCoreError, RuntimeError):
    """The caller cancelled."""


class ForkError(DenseCoreError, RuntimeError):
    """The process was forked after the engine started."""


class BackendError(DenseCoreError, RuntimeError):
    """A device or kernel this machine cannot provide."""


class MissingExtraError(DenseCoreError, ImportError):
    """A part of the package whose dependencies are not installed; the message names the extra."""


class DataError(DenseCoreError, ValueError):
    """A file of examples, or of what a run left, that cannot be right."""


class InternalError(DenseCoreError, RuntimeError):
    """A defect of densecore."""
