"""DSPy's side of one attempt: a request becomes one call of the model, its answer a response or a stream of events.

DSPy keeps what is its own: cache, retries, several candidates, history. Calls from its threads meet in the model, which
computes them together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, NoReturn

from dspy import lm15

from densecore import errors
from densecore.arguments import Cancel
from densecore.dspy import draws
from densecore.forms import response
from densecore.model import Model
from densecore.results import Generation, TokenLogprob
from densecore.runs.meter import record
from densecore.states.store import expand

MAX_TOKENS = 1024  # of an answer, where neither the request nor the language model says

_threads = ThreadPoolExecutor(256, "densecore-async")  # started as they are needed
_loaded: dict[tuple[Any, ...], Model] = {}
_loading = threading.Lock()


def load(name: str, options: dict[str, Any]) -> Model:
    """The model of this name and these options; loaded once in a process, however many programs name it."""
    key = (name, *sorted(options.items()))
    with _loading:
        if key not in _loaded:
            _loaded[key] = Model.load(name, **options)
        return _loaded[key]


class DenseEngine:
    """A model behind DSPy's engine contract. Copies, deep ones included, share it.

    Args:
        model: A loaded model, or a name for :meth:`densecore.Model.load`.
        options: Those of ``Model.load``, for a name. Only an engine made from a name can be saved.
    """

    supports_function_calling = False
    supports_reasoning = False
    supports_response_schema = True
    holds_grammar = True
    """Whether a grammar in a request binds the answer, as our adapter's do."""
    supported_params = frozenset(
        {"temperature", "max_tokens", "top_p", "top_k", "stop", "seed", "logprobs", "response_format"}
    )

    def __init__(self, model: Model | str, **options: Any) -> None:
        self.source = None if isinstance(model, Model) else str(model)
        self.options = options
        if isinstance(model, Model):
            if options:
                raise errors.ArgumentError(
                    f"options = {sorted(options)}: they are for loading, and this model is loaded"
                )
            self.model = model
        else:
            self.model = load(str(model), options)

    def __deepcopy__(self, memo: Any) -> DenseEngine:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.dump_state())

    def dump_state(self) -> dict[str, Any]:
        """What :meth:`load_state` needs: the name and its options, no weights."""
        if self.source is None:
            raise errors.StateError(
                "an engine around a loaded model cannot be saved: make it from the model's name or path, or save the "
                "program without its language model"
            )
        return {"model": self.source, "options": self.options}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> DenseEngine:
        """The engine that was saved."""
        return cls(state["model"], **state.get("options", {}))

    def complete(self, request: lm15.Request, cancel: Cancel | None = None) -> lm15.Response:
        """One answer."""
        try:
            found = self.model.generate(_messages(request), cancel=cancel, **_options(request))
        except errors.DenseCoreError as error:
            _translate(error)
        draws.answered()
        record(found.usage)
        return _response(request, found, self.model)

    def stream(self, request: lm15.Request, cancel: Cancel | None = None) -> Generator[Any, None, None]:
        """The same as events: a start, deltas as tokens come, an end. Closing the stream stops the model."""
        cancel, options = cancel or Cancel(), _options(request)
        silent: list[Any] = []  # logprobs of tokens whose text has not come yet
        try:
            events = self.model.stream(_messages(request), cancel=cancel, **options)
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


def _messages(request: lm15.Request) -> list[dict[str, Any]]:
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
    texts = []
    for part in content:
        if part.type != "text":
            raise lm15.UnsupportedFeatureError(
                f"a message has a part of type {part.type!r}, and this engine reads text: leave it out, or put what it "
                "shows into words",
                feature=part.type,
            )
        texts.append(part.text)
    return "\n".join(texts)


def _options(request: lm15.Request) -> dict[str, Any]:
    """The request's settings as :meth:`densecore.Model.generate` names them."""
    config = request.config
    for name in (
        "reasoning",
        "frequency_penalty",
        "presence_penalty",
        "probabilities",
        "extensions",
    ):
        if getattr(config, name):
            raise lm15.UnsupportedFeatureError(
                f"{name} = {getattr(config, name)!r:.80}: this engine has no such setting; leave it out (it knows temperature, "
                "top_p, top_k, seed, stop, max_tokens, logprobs, response_format)",
                feature=name,
            )
    try:
        form = response.read(config.response_format)
    except errors.ArgumentError as error:
        _translate(error)
    given = {
        "form": form,
        "max_tokens": config.max_tokens or MAX_TOKENS,
        "temperature": config.temperature or 0.0,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "stop": list(config.stop) or None,
        "seed": None if config.seed is None else draws.seed(config.seed),
        "logprobs": config.logprobs,
    }
    return {name: value for name, value in given.items() if value is not None}


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
