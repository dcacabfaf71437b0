"""DSPy's side of one attempt: a request becomes one call of the model, its answer a response or a stream of events.

DSPy keeps what is its own: cache, retries, several candidates, history. Calls from its threads meet in the model, which
computes them together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from dspy import lm15

from densecore import errors
from densecore.arguments import Cancel, salt
from densecore.dspy import draws
from densecore.dspy.request import SUPPORTED, messages, options
from densecore.dspy.threads import Threads
from densecore.forms import response
from densecore.model import Model
from densecore.results import Generation, TokenLogprob
from densecore.runs.meter import record

_OURS = "densecore/"
_threads = Threads(256, "densecore-async")
_loaded: WeakValueDictionary[tuple[Any, ...], Model] = WeakValueDictionary()
_loading = threading.Lock()


def load(name: str, options: dict[str, Any]) -> Model:
    """The model of this name and these options: one in a process while anybody has it, however many programs name it."""
    key = (name, *sorted(options.items()))
    with _loading:
        model = _loaded.get(key)
        if model is None or not _is_open(model):
            model = _loaded[key] = Model.load(name, **options)
        return model


def _is_open(model: Model) -> bool:
    try:
        return bool(model.fingerprint)
    except errors.StateError:  # somebody closed it
        return False


def model_id(model: Model) -> str:
    """What names a model's answers: weights, quantisation and template (the fingerprint), and how it was loaded."""
    return f"{_OURS}{model.name}@{model.fingerprint}-{model.kv}{'-exact' if model.exact else ''}"


class DenseEngine:
    """A model behind DSPy's engine contract. Copies, deep ones included, share it.

    Args:
        model: A loaded model, or a name for :meth:`densecore.Model.load`.
        cache_salt: Of every call, see :class:`densecore.GenerateOptions`; an engine that is saved or pickled has none afterwards.
        options: Those of ``Model.load``, for a name. Only an engine made from a name can be saved.
    """

    supports_function_calling = False
    supports_reasoning = False
    supports_response_schema = True
    holds_grammar = True
    """Whether a grammar in a request binds the answer, as our adapter's do."""
    supported_params = SUPPORTED

    def __init__(self, model: Model | str, *, cache_salt: str | None = None, **options: Any) -> None:
        self._salt = salt("cache_salt", cache_salt)
        self.source = None if isinstance(model, Model) else str(model)
        self.options = options
        if isinstance(model, Model):
            if options:
                raise errors.ArgumentError(
                    f"options = {sorted(options)}: they are for loading, and this model is loaded"
                )
            self._model = model
        else:
            self._model = load(str(model), options)

    @property
    def model(self) -> Model:
        """The model that answers."""
        return self._model

    @property
    def model_id(self) -> str:
        """The name of its answers, in DSPy's cache too."""
        return model_id(self._model)

    def __deepcopy__(self, memo: Any) -> DenseEngine:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.dump_state())

    def dump_state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs: the name and its options, no weights and no salt."""
        if self.source is None:
            raise errors.StateError(
                "an engine around a loaded model cannot be saved: make it from the model's name or path, or save the "
                "program without its language model"
            )
        return {"model": self.source, "options": self.options, "id": self.model_id}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> DenseEngine:
        """The engine that was saved, over weights that must still be the same."""
        made = cls(state["model"], **state.get("options", {}))
        if (saved := state.get("id", made.model_id)) != made.model_id:
            raise errors.StateError(
                f"the program was saved with {saved}, and {state['model']} is now {made.model_id}: bring those weights "
                "back, or load the program without its language model"
            )
        return made

    def complete(self, request: lm15.Request, cancel: Cancel | None = None) -> lm15.Response:
        """One answer. The first of a call's samples has the others computed with it."""
        self._check(request)

        def draw(count: int) -> list[Generation]:
            options = {**self._options(request), "seed": draws.seeds(request.config.seed, count)}
            found: list[Generation] = self.model.generate([messages(request)] * count, cancel=cancel, **options)
            for each in found:
                record(each.usage)
            return found

        try:
            found = draws.sample(request, draw)
        except errors.DenseCoreError as error:
            _translate(error)
        if found.error is not None:
            _translate(found.error)
        return _response(request, found, self.model)

    def stream(self, request: lm15.Request, cancel: Cancel | None = None) -> Generator[Any, None, None]:
        """The same as events: a start, deltas as tokens come, an end. Closing the stream stops the model."""
        self._check(request)
        cancel = cancel or Cancel()
        options = {**self._options(request), "seed": draws.seeds(request.config.seed, 1)}
        silent: list[Any] = []  # logprobs of tokens whose text has not come yet
        try:
            events = self.model.stream(messages(request), cancel=cancel, **options)
            yield lm15.StreamStartEvent(model=request.model)
            for event in events:
                silent += (_logprob(token, self.model) for token in event.logprobs or ())
                if event.text or (event.finish_reason and silent):
                    yield lm15.StreamDeltaEvent(lm15.TextDelta(event.text, logprobs=tuple(silent)))
                    silent.clear()
            found = events.result()
        except errors.DenseCoreError as error:
            _translate(error)
        finally:
            cancel.cancel()
        draws.answered()
        record(found.usage)
        reason = _finish(request, found, self.model)
        yield lm15.StreamEndEvent(finish_reason=reason, usage=_usage(found), provider_data=_shortened(found))

    def _options(self, request: lm15.Request) -> dict[str, Any]:
        try:
            return {**options(request), "cache_salt": self._salt}
        except errors.DenseCoreError as error:
            _translate(error)

    def _check(self, request: lm15.Request) -> None:
        """A request that names one of our models means that one: its answer is filed under that name."""
        if request.model.startswith(_OURS) and request.model != self.model_id:
            raise lm15.InvalidRequestError(
                f"model = {request.model!r}: this engine answers as {self.model_id}; ask with that name, as DenseLM does"
            )

    def close(self) -> None:
        """Nothing to close: others may use the model."""


class AsyncDenseEngine:
    """The same for coroutines: the model computes in a thread, and the event loop goes on.

    A task that is cancelled, by a timeout say, stops the model at its next step.
    """

    def __init__(self, engine: DenseEngine) -> None:
        self.engine = engine

    def __deepcopy__(self, memo: Any) -> AsyncDenseEngine:
        return self

    def dump_state(self) -> dict[str, Any]:
        """See :meth:`DenseEngine.dump_state`."""
        return self.engine.dump_state()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncDenseEngine:
        """The engine that was saved; it shares its model with the synchronous one."""
        return cls(DenseEngine.load_state(state))

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """One answer."""
        cancel = Cancel()
        try:
            return await asyncio.wrap_future(_in_thread(self.engine.complete, request, cancel))
        finally:
            cancel.cancel()

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        """The same as events."""
        cancel, end = Cancel(), object()
        events, step = self.engine.stream(request, cancel), None
        try:
            while True:
                step = _in_thread(next, events, end)
                if (event := await asyncio.wrap_future(step)) is end:
                    return
                yield event
        finally:
            cancel.cancel()
            if step is not None and not step.cancel():  # a generator cannot be closed while a thread is in it
                ended = asyncio.wrap_future(step)
                await asyncio.wait([ended])
                ended.exception()
            events.close()

    async def aclose(self) -> None:
        """Nothing to close: others may use the model."""


def _in_thread(work: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Begin work in a thread of the engine's own, with the caller's context: asyncio has too few for a batch."""
    return _threads.submit(copy_context().run, work, *arguments)


def _restore(cls: type[DenseEngine], state: dict[str, Any]) -> DenseEngine:
    return cls.load_state(state)


def _finish(request: lm15.Request, found: Generation, model: Model) -> Any:
    return "length" if response.was_cut(request.config.response_format, found, model) else "stop"


def _response(request: lm15.Request, found: Generation, model: Model) -> lm15.Response:
    return lm15.Response(
        id=None,
        model=request.model,
        message=lm15.Message.assistant([lm15.TextPart(found.text)]),
        finish_reason=_finish(request, found, model),
        usage=_usage(found),
        logprobs=None if found.logprobs is None else tuple(_logprob(t, model) for t in found.logprobs),
        provider_data=_shortened(found),
    )


def _shortened(found: Generation) -> dict[str, int] | None:
    """What DSPy's answer has no place for: texts that were ended where they would have gone on."""
    return {"shortened": found.shortened} if found.shortened else None


def _usage(found: Generation) -> lm15.Usage:
    used = found.usage
    return lm15.Usage(
        input_tokens=used.prompt_tokens + used.prompt_vectors,
        output_tokens=used.emitted_tokens,
        cache_read_tokens=used.cached_positions,
    )


def _logprob(token: TokenLogprob, model: Model) -> Any:
    top = tuple(lm15.TopLogprob(token=model.detokenize([i]), logprob=value, token_id=i) for i, value in token.top)
    return lm15.TokenLogprob(token=model.detokenize([token.id]), logprob=token.logprob, token_id=token.id, top=top)


def _translate(error: errors.DenseCoreError) -> NoReturn:
    """Raise DSPy's error of the same meaning: it trims on one, waits on another, and gives up on the rest."""
    if isinstance(error, errors.ContextLengthError):
        raise lm15.ContextLengthError(str(error)) from error
    if isinstance(error, errors.OverloadedError):
        raise lm15.RateLimitError(str(error)) from error
    if isinstance(error, (errors.ArgumentError, errors.PromptError, errors.TokenizerError, errors.TemplateError,
                          errors.VectorError, errors.LimitError, errors.StateError)):  # fmt: skip
        raise lm15.InvalidRequestError(str(error)) from error
    raise error
