"""A frozen model: text and vectors in, text and vectors out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast, overload

import numpy as np
import numpy.typing as npt

from densecore import _core, gradient, results
from densecore.arguments import Cancel, flag, number, salt, think_options, truth, whole
from densecore.arguments import optional as optional_whole
from densecore.chat import Chat
from densecore.chat import checked as checked_text
from densecore.config import Memory, ModelConfig
from densecore.context import Context, thought
from densecore.errors import ArgumentError, OptionError, PromptError, StateError, StorageError
from densecore.gradient import Loss, Vjp
from densecore.hardware import BackendConfig, resolve_threads
from densecore.hidden import Hidden
from densecore.options import READERS
from densecore.options import read as read_options
from densecore.prompt import chat, read, text_only
from densecore.prompt import ids as token_ids
from densecore.results import Generation, Readout, Score, Thought
from densecore.spelling import LOADING, refuse
from densecore.stream import Stream

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from densecore.kinds import (
        Call,
        Encode,
        Generate,
        Grad,
        Many,
        One,
        Prefix,
        Salted,
        Stop,
        Target,
        Tensor,
        Think,
        Vectors,
    )
    from densecore.options import GenerateOptions


class Model:
    """A frozen model. Any number of threads may call one.

    >>> import densecore
    >>> model = densecore.Model.load("smollm2-135m-instruct")
    >>> vectors = model.embed("The capital of France is")
    >>> vectors.shape
    (5, 576)
    >>> model.decode(vectors, max_tokens=1)
    ' Paris'
    """

    __slots__ = ("__weakref__", "_closed", "_config", "_core")

    def __init__(self, core: _core.Model | None = None, *rest: object, **options: object) -> None:
        if not isinstance(core, _core.Model) or rest or options:
            name = "..." if core is None else repr(core)
            raise OptionError(f"Model({name:.80}): load a model with densecore.Model.load(name, ...)")
        self._core = core
        self._closed = ""
        self._config = ModelConfig(**core.config())

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        backend: BackendConfig | None = None,
        context: int | None = None,
        kv: str = "auto",
        exact: bool = False,
        cache_bytes: int | None = None,
        max_memory: int | None = None,
        prefix_bytes: int | None = None,
        queue: int = 256,
        queue_seconds: float = 60.0,
        offline: bool | None = None,
        progress: bool | None = None,
        **unknown: NoReturn,
    ) -> Model:
        """Load a model by catalogue name, hub id or path; download it first if needed.

        Args:
            name: See ``python -m densecore.models list``; ``org/name`` of the hub; a ``.gguf`` file; a folder.
            backend: ``densecore.CPU(threads=...)``; all cores by default.
            context: Longest sequence in positions; what the model was made for by default.
            kv: Storage of keys and values: ``"f16"``, ``"f32"``, or ``"auto"`` (f32 for float32 weights, else f16).
            exact: Compute with float32 weights: quantised ones are unpacked, at 4 bytes each, and ``kv="auto"`` means f32.
                The reference path: slow, and without the rounding of inputs to 8 bits.
            cache_bytes: Memory for the keys and values of all calls and contexts together, kept from other models; without it
                the models of this process share three quarters of what is free. A call enters when there is room for
                all it may come to need, first come, first served, and is then never stopped for lack of it.
            max_memory: Refuse to load what needs more bytes than this; what the machine has free by default.
            prefix_bytes: How much of the contexts' memory may keep prefixes for prompts that begin alike (0 for none);
                a quarter by default, at most 1 GiB. A reused prefix gives the same numbers, and shows as ``cached_positions``.
            queue: Callers that may wait for that room at once; one more gets ``OverloadedError``.
            queue_seconds: How long each may wait before it gets the same. A call that only contexts you hold are in the way
                of gets it at once, for nothing would end the wait; one that could never fit, ``InsufficientMemoryError``.
            offline: Never touch the network; follows ``HF_HUB_OFFLINE`` by default.
            progress: Show download progress; by default on a terminal.
            unknown: Options of other libraries: the error says how they are spelt here.
        """
        refuse("Model.load", unknown, LOADING, {"Model.generate": READERS})
        threads = resolve_threads(backend)
        length = optional_whole("context", context, 1)
        room = optional_whole("cache_bytes", cache_bytes, 1)
        cap = optional_whole("max_memory", max_memory, 1)
        kept = optional_whole("prefix_bytes", prefix_bytes)
        places, patience = whole("queue", queue), number("queue_seconds", queue_seconds)
        truth("exact", exact)
        if not isinstance(kv, str):
            raise ArgumentError(f'kv = {kv!r}: it must be "auto", "f32" or "f16"')
        from densecore.models import resolve

        path = resolve(name, offline=offline, progress=progress).path
        return cls(_core.Model.load(path, threads, length, kv, room, cap, kept, places, patience, exact))

    def close(self) -> None:
        """Give the memory back: calls that run come to their end, later ones raise ``StateError``, those of contexts too.

        The weights go when the last of those calls, contexts and streams is gone. ``with Model.load(...) as model:`` closes it
        at its end.
        """
        if self._closed:
            return
        self._core.close()
        self._closed = repr(self)
        self._core = cast(_core.Model, _Closed(self._closed))

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def from_pretrained(cls, *arguments: object, **options: object) -> NoReturn:
        """Refused: the name of this is :meth:`load`."""
        name = repr(arguments[0]) if arguments else "..."
        refuse("Model.load", options, LOADING, {"Model.generate": READERS})
        raise OptionError(f"Model.from_pretrained({name:.80}): the call is densecore.Model.load({name:.80})")

    # -- facts ---------------------------------------------------------------------------------------------------

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._config

    @property
    def name(self) -> str:
        """The model's own name."""
        return self._core.name

    @property
    def fingerprint(self) -> str:
        """Identity of the weights; states carry it."""
        return self._core.fingerprint

    @property
    def threads(self) -> int:
        """Compute threads."""
        return self._core.threads

    @property
    def kv(self) -> str:
        """Storage of keys and values, ``"f16"`` or ``"f32"``."""
        return self._core.kv

    @property
    def exact(self) -> bool:
        """Whether it computes with float32 weights whatever the file holds."""
        return self._core.exact

    @property
    def eos_ids(self) -> list[int]:
        """Tokens that end an answer."""
        return self._core.eos_ids

    @property
    def bos_id(self) -> int | None:
        """The token a plain prompt begins with, where the model's files say so; None where prompts begin with their text."""
        return self._core.bos_id

    @property
    def chat_templates(self) -> list[str]:
        """Names of the model's chat templates; ``"default"`` is used unless a chat asks for another."""
        return self._core.chat_templates

    @property
    def special_tokens(self) -> dict[str, int]:
        """Control tokens by name."""
        return {text: number for number, text in self._core.special_tokens()}

    @property
    def memory(self) -> Memory:
        """What the model takes now."""
        return Memory(*self._core.memory())

    # -- text <-> tokens -----------------------------------------------------------------------------------------

    @overload
    def tokenize(self, text: str, *, special: bool = False, bos: bool = False) -> list[int]: ...
    @overload
    def tokenize(
        self, text: list[str] | tuple[str, ...], *, special: bool = False, bos: bool = False
    ) -> list[list[int]]: ...
    def tokenize(
        self, text: str | list[str] | tuple[str, ...], *, special: bool = False, bos: bool = False
    ) -> list[int] | list[list[int]]:
        """Text to ids. Special tokens written in the text stay text unless ``special``.

        With ``bos`` each text begins as a plain prompt does: with :attr:`bos_id`, if there is one.
        """
        truth("bos", bos)
        if isinstance(text, str):
            return self._core.tokenize([checked_text(text)], special, bos)[0]
        if not isinstance(text, (list, tuple)):
            raise PromptError(f"{text!r:.80} ({type(text).__name__}) is no text; give a str or a list of them")
        for t in text:
            if not isinstance(t, str):
                raise PromptError(f"{t!r:.80} ({type(t).__name__}) is no text; give a str or a list of them")
        return self._core.tokenize([checked_text(t) for t in text], special, bos)

    @overload
    def detokenize(self, ids: Sequence[int], *, special: bool = True) -> str: ...
    @overload
    def detokenize(self, ids: Sequence[Sequence[int]], *, special: bool = True) -> list[str]: ...
    def detokenize(self, ids: Any, *, special: bool = True) -> str | list[str]:
        """Ids to text; ``special`` writes the names of special tokens, else they are left out."""
        if len(ids) and isinstance(ids[0], (list, tuple)):
            return self._core.detokenize([token_ids(i) for i in ids], special)
        return self._core.detokenize([token_ids(ids)], special)[0]

    def apply_chat_template(
        self,
        messages: Sequence[dict[str, Any]] | Chat,
        *,
        add_generation_prompt: bool | None = None,
        tools: Sequence[dict[str, Any]] | None = None,
        template: str | None = None,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The text the model's template makes of messages.

        Args:
            messages: Messages of text, or a :class:`densecore.Chat`, which takes no other arguments but the next.
            add_generation_prompt: End with what opens an answer; by default unless the last message is gone on with.
            tools: See :class:`densecore.Chat`, as for what follows.
            template: Which of the model's templates.
            continue_final_message: End within the last message.
            variables: What else the template reads.
        """
        if not isinstance(messages, Chat):
            messages = Chat(messages, tools, template, continue_final_message, **variables)
        elif tools is not None or template is not None or continue_final_message or variables:
            raise ArgumentError("messages = Chat(...): give tools, template and variables to the Chat")
        adds = not messages.continue_final_message if add_generation_prompt is None else add_generation_prompt
        if truth("add_generation_prompt", adds) and messages.continue_final_message:
            raise ArgumentError(
                "add_generation_prompt = True: with continue_final_message the last message goes on and none is opened; "
                "give only one of them"
            )
        found = chat(messages, self, "prompt" if adds else "message")
        for place, message in enumerate(found[0]):
            text_only(message, f"message {place}")
        return self._core.render(found)

    # -- text -> embeddings -> hidden -> tokens ------------------------------------------------------------------

    @overload
    def embed(self, prompt: Many) -> list[Hidden]: ...
    @overload
    def embed(self, prompt: One) -> Hidden: ...
    def embed(self, prompt: One | Many) -> Hidden | list[Hidden]:
        """Token embeddings of text or ids: vectors of the input space, which :meth:`decode` continues from."""
        raw, many = read(prompt, self)
        states = [Hidden(h) for h in self._core.embed(raw)]
        return states if many else states[0]

    @overload
    def encode(self, prompt: Many, **options: Unpack[Encode]) -> list[Hidden]: ...
    @overload
    def encode(self, prompt: One, **options: Unpack[Encode]) -> Hidden: ...
    def encode(
        self,
        prompt: One | Many,
        *,
        layer: int | None = None,
        normed: bool | None = None,
        pool: str | None = None,
        raw: bool = False,
        cancel: Cancel | None = None,
    ) -> Hidden | list[Hidden]:
        """Hidden states of a prompt, one a position.

        Args:
            prompt: One prompt or a list.
            layer: Layers passed: 0 is the input of the first, ``config.layers`` the last (the default). Layers above
                are not computed.
            normed: Apply the final norm; by default after the last layer only.
            pool: ``"mean"`` or ``"last"`` for one vector a prompt.
            raw: Let vectors of other spaces in.
            cancel: Stops the call.
        """
        if isinstance(layer, bool):
            raise ArgumentError(f"layer = {layer!r}: it must be a whole number")
        if normed is not None:
            truth("normed", normed)
        rows, many = read(prompt, self)
        states = self._core.encode(
            rows, optional_whole("layer", layer, 0, self._config.layers), normed, pool, raw, flag(cancel)
        )
        return [Hidden(h) for h in states] if many else Hidden(states[0])

    @overload
    def forward(self, hidden: Tensor, **options: Unpack[Call]) -> Hidden: ...
    @overload
    def forward(self, hidden: Vectors, **options: Unpack[Call]) -> list[Hidden]: ...
    def forward(
        self, hidden: Tensor | Vectors, *, raw: bool = False, cancel: Cancel | None = None
    ) -> Hidden | list[Hidden]:
        """Input vectors to final states (after the last layer and the final norm)."""
        many = isinstance(hidden, (list, tuple))
        batch = [self._vectors(h)._core for h in _listed(hidden)]
        if not batch:
            raise PromptError("the list of vectors is empty; give at least one Hidden")
        states = [Hidden(h) for h in self._core.forward(batch, raw, flag(cancel))]
        return states if many else states[0]

    @overload
    def decode(self, hidden: Tensor, **options: Unpack[Generate]) -> str: ...
    @overload
    def decode(self, hidden: Vectors, **options: Unpack[Generate]) -> list[str]: ...
    def decode(
        self, hidden: Tensor | Vectors, *, max_tokens: int = 64, raw: bool = False, **options: Any
    ) -> str | list[str]:
        """Continue from input vectors as if they were a prompt; takes the options of :meth:`generate`."""
        many = isinstance(hidden, (list, tuple))
        batch = [(self._vectors(h),) for h in _listed(hidden)]
        texts = [g.text for g in self.generate(batch, max_tokens=max_tokens, raw=raw, **options)]
        return texts if many else texts[0]

    def readout(self, hidden: Tensor, *, top_k: int = 1, raw: bool = False) -> Readout:
        """What each final state would say next: the ``top_k`` likeliest tokens and their probabilities."""
        ids, probabilities = self._core.readout(self._vectors(hidden)._core, whole("top_k", top_k), raw)
        table = np.asarray(ids)
        tokens = [self._core.detokenize([[int(i)] for i in row], True) for row in table]
        return Readout(table, np.asarray(probabilities), tokens)

    @overload
    def logits(self, prompt: Many, **options: Unpack[Call]) -> list[npt.NDArray[np.float32]]: ...
    @overload
    def logits(self, prompt: One, **options: Unpack[Call]) -> npt.NDArray[np.float32]: ...
    def logits(
        self, prompt: One | Many, *, raw: bool = False, cancel: Cancel | None = None
    ) -> npt.NDArray[np.float32] | list[npt.NDArray[np.float32]]:
        """Logits after every position, float32 ``(T, vocab)``."""
        rows, many = read(prompt, self)
        arrays: list[npt.NDArray[np.float32]] = [np.asarray(a) for a in self._core.logits(rows, raw, flag(cancel))]
        return arrays if many else arrays[0]

    # -- prompt -> text ------------------------------------------------------------------------------------------

    @overload
    def generate(self, prompt: Many, **options: Unpack[Generate]) -> list[Generation]: ...
    @overload
    def generate(self, prompt: One, **options: Unpack[Generate]) -> Generation: ...
    def generate(
        self,
        prompt: One | Many,
        *,
        raw: bool = False,
        cancel: Cancel | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generation | list[Generation]:
        """Continue a prompt, or each of a list.

        Args:
            prompt: One prompt or a list, see :mod:`densecore.prompt`.
            raw: Let vectors of other spaces in.
            cancel: Stops the call; what was written so far is returned.
            options: How to generate, see :class:`densecore.GenerateOptions`: ``max_tokens``, ``temperature``, ``top_k``,
                ``top_p``, ``min_p``, ``typical_p``, ``repetition_penalty``, ``presence_penalty``, ``frequency_penalty``,
                ``logit_bias``, ``min_tokens``, ``n``, ``seed``, ``stop``, ``stop_token_ids``, ``form``, ``logprobs``,
                ``ignore_eos``, ``cache_salt``.

        Returns:
            A :class:`Generation`, or a list of them for a list of prompts; with ``n`` above 1 a list of ``n`` a prompt. Of
            several answers one that fails for itself alone (its numbers went wrong, say) carries its error, and the others
            are whole.
        """
        engine, logprobs = read_options(options), options.get("logprobs") is not None
        rows, many = read(prompt, self)
        found = self._core.generate(rows, engine, raw, flag(cancel))
        answers = results.generations(found, logprobs, options.get("n", 1))
        return answers if many else results.alone(answers[0])

    def stream(
        self,
        prompt: One | Many,
        *,
        raw: bool = False,
        cancel: Cancel | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream:
        """The same, piece by piece."""
        engine, logprobs = read_options(options), options.get("logprobs") is not None
        rows, many = read(prompt, self)
        return Stream(self._core.stream(rows, engine, raw, flag(cancel)), many, logprobs, options.get("n", 1))

    @overload
    def score(
        self, prompt: Many, target: Sequence[Target], *, top: int = 0, **options: Unpack[Salted]
    ) -> list[Score]: ...
    @overload
    def score(self, prompt: One, target: Target, *, top: int = 0, **options: Unpack[Salted]) -> Score: ...
    def score(
        self,
        prompt: One | Many,
        target: Target | Sequence[Target],
        *,
        top: int = 0,
        cache_salt: str | None = None,
        raw: bool = False,
        cancel: Cancel | None = None,
    ) -> Score | list[Score]:
        """Log-probabilities of ``target`` (text or ids) after ``prompt``; lists of both are scored in pairs.

        ``cache_salt`` is that of :class:`densecore.GenerateOptions`.
        """
        rows, many = read(prompt, self)
        targets = [self._target(t) for t in (target if many else [target])]
        if len(targets) != len(rows):
            raise ArgumentError(f"target = {len(targets)} targets: give one for each of the {len(rows)} prompts")
        pairs = list(zip(rows, targets, strict=True))
        salted = salt("cache_salt", cache_salt)
        found = [results.score(s) for s in self._core.score(pairs, whole("top", top), salted, raw, flag(cancel))]
        return found if many else found[0]

    # -- loss -> gradient ----------------------------------------------------------------------------------------

    @overload
    def loss_and_grad(
        self, prefix: Prefix | list[Any], vectors: Vectors, targets: Sequence[Target], **options: Unpack[Grad]
    ) -> list[Loss]: ...
    @overload
    def loss_and_grad(self, prefix: Prefix, vectors: Tensor, targets: Target, **options: Unpack[Grad]) -> Loss: ...
    def loss_and_grad(
        self,
        prefix: Any,
        vectors: Any,
        targets: Any,
        *,
        weights: Any = None,
        grad: bool = True,
        kv_grad: bool = False,
        memory: int | None = None,
        raw: bool = False,
        cancel: Cancel | None = None,
    ) -> Loss | list[Loss]:
        """How unlikely ``targets`` are after ``prefix`` and ``vectors``, and the gradient of that by the vectors.

        The model sees the three in this order. The loss is the cross-entropy of the target tokens, the first included;
        the weights of the model stay as they are. A list of vectors is a batch, of any lengths.

        Args:
            prefix: What comes before: ``None``, a prompt, a :class:`Context`, or a list with one for each; vectors and ids in
                such a list are written as ``Prompt(...)``. It is read like any prompt, its beginning found among those kept,
                and has no gradient of its own unless ``kv_grad``.
            vectors: ``(T, d)`` of the input space: :class:`Hidden`, array or tensor.
            targets: Text or ids.
            weights: What each target token counts: its share of their mean by default; as they stand if given.
            grad: Compute the gradient, not only the loss.
            kv_grad: Also give the gradients by the keys and values of the prefix.
            memory: Bytes of activations to keep between the two passes; what does not fit is computed again. Half a gigabyte
                by default. The inputs of the layers, 4 bytes a component, are always kept.
            raw: Let vectors of other spaces in.
            cancel: Stops the call.

        With float32 weights and ``kv="f32"`` the gradient is exact up to float32 rounding. Quantised weights multiply inputs
        rounded to 15 bits on the way there, where serving takes 8; on the way back they are exact, and roundings (of inputs,
        and of keys and values to float16) count as none.

        >>> import densecore
        >>> model = densecore.Model.load("smollm2-135m-instruct")
        >>> found = model.loss_and_grad(None, model.embed("The capital of France is"), " Paris")
        >>> found.grad.shape
        (5, 576)
        """
        return gradient.loss_and_grad(self, prefix, vectors, targets, weights, grad, kv_grad, memory, raw, cancel)

    def vjp(
        self,
        vectors: Tensor | Vectors,
        *,
        prefix: Any = None,
        layer: int | None = None,
        normed: bool | None = None,
        kv_grad: bool = False,
        memory: int | None = None,
        raw: bool = False,
        cancel: Cancel | None = None,
    ) -> Vjp:
        """States of any layer, and the way back from gradients by them: ``states, pull`` of a vector-Jacobian product.

        Args:
            vectors: ``(T, d)`` of the input space, or a list of them.
            prefix: See :meth:`loss_and_grad`.
            layer: Layers passed; all by default. Those above are not computed.
            normed: Apply the final norm; by default after the last layer only.
            kv_grad: See :meth:`loss_and_grad`.
            memory: See :meth:`loss_and_grad`.
            raw: Let vectors of other spaces in.
            cancel: Stops the call.

        >>> import densecore, numpy as np
        >>> model = densecore.Model.load("smollm2-135m-instruct")
        >>> vjp = model.vjp([model.embed("Hello"), model.embed("Good morning")], layer=2)
        >>> [g.shape for g in vjp.pull([np.ones(s.shape, np.float32) for s in vjp.states])]
        [(1, 576), (2, 576)]
        """
        return gradient.vjp(self, vectors, prefix, layer, normed, kv_grad, memory, raw, cancel)

    # -- prompt -> context -> thought ----------------------------------------------------------------------------

    @overload
    def prefill(self, prompt: Many, **options: Unpack[Salted]) -> list[Context]: ...
    @overload
    def prefill(self, prompt: One, **options: Unpack[Salted]) -> Context: ...
    def prefill(
        self, prompt: One | Many, *, cache_salt: str | None = None, raw: bool = False, cancel: Cancel | None = None
    ) -> Context | list[Context]:
        """Read a prompt once, to go on from it as often as you like.

        ``cache_salt`` is that of :class:`densecore.GenerateOptions`; the context keeps it.
        """
        rows, many = read(prompt, self)
        contexts = [
            Context(c, self) for c in self._core.prefill(rows, salt("cache_salt", cache_salt), raw, flag(cancel))
        ]
        return contexts if many else contexts[0]

    def import_context(self, data: bytes | bytearray | str | os.PathLike[str]) -> Context:
        """Read back what :meth:`Context.export` wrote, bytes or a path; everything it claims is checked."""
        if not isinstance(data, (bytes, bytearray)):
            from densecore import regular  # kept out of the package's import time

            try:
                data = regular.read(data)
            except OSError as error:
                raise StorageError(
                    f"reading {os.fspath(data)!r} failed: {error}; give a file written by Context.export()"
                ) from error
        if not data:
            raise StateError("context data: it holds 0 bytes; it must come from Context.export()")
        return Context(self._core.import_context(bytes(data)), self)

    @overload
    def think(self, prompt: Many, steps: int, **options: Unpack[Think]) -> list[Thought]: ...
    @overload
    def think(self, prompt: One, steps: int, **options: Unpack[Think]) -> Thought: ...
    def think(
        self,
        prompt: One | Many,
        steps: int,
        *,
        mode: str = "mixture",
        temperature: float = 1.0,
        top_k: int = 10,
        stop: Stop = (),
        ignore_eos: bool = False,
        cache_salt: str | None = None,
        raw: bool = False,
        cancel: Cancel | None = None,
    ) -> Thought | list[Thought]:
        """Latent steps after a prompt: the model's output goes back in as a vector and no token is emitted.

        Args:
            prompt: One prompt or a list.
            steps: Steps at most.
            mode: What goes back in. ``"mixture"``: the probability-weighted mixture of the ``top_k`` likeliest tokens'
                embeddings. ``"state"``: the final hidden state, scaled to the mean length of an embedding.
                ``"token"``: the likeliest token's embedding, unprinted: the control.
            temperature: Of the mixture.
            top_k: Tokens in the mixture; 0 for the whole vocabulary.
            stop: Token ids (or texts of one token) that end the chain when they are the likeliest.
            ignore_eos: Go on past end tokens.
            cache_salt: That of :class:`densecore.GenerateOptions`; the thought's context keeps it.
            raw: Let vectors of other spaces in.
            cancel: Stops the call.
        """
        options = think_options(self, steps, mode, temperature, top_k, stop, ignore_eos, cache_salt)
        rows, many = read(prompt, self)
        found: list[Thought] = [thought(t, self) for t in self._core.think(rows, options, raw, flag(cancel))]
        return found if many else found[0]

    # -- helpers -------------------------------------------------------------------------------------------------

    def _vectors(self, value: Tensor) -> Hidden:
        return value if isinstance(value, Hidden) else Hidden.wrap(value, self)

    def _target(self, target: object) -> list[int]:
        if isinstance(target, str):
            found = self.tokenize(target)
        elif isinstance(target, (list, tuple, np.ndarray)):
            found = token_ids(list(target))
        else:
            raise ArgumentError(f"target = {target!r:.80}: give text or token ids")
        if not found:
            raise ArgumentError(f"target = {target!r:.80}: it is empty; give at least one token to score")
        return found

    def __repr__(self) -> str:
        if self._closed:
            return f"{self._closed}, closed"
        return f"Model({self.name}, {self.fingerprint}, {self.threads} threads)"


class _Closed:
    """What a closed model has in the engine's place."""

    def __init__(self, name: str) -> None:
        self.was = name

    def __getattr__(self, name: str) -> Any:
        raise StateError(f"{self.was} was closed; load it again")


def _listed(hidden: Any) -> list[Any]:
    return list(hidden) if isinstance(hidden, (list, tuple)) else [hidden]
