"""The engine under real DSPy: what DSPy's own language models do, ours does, and its answers are the model's."""

from __future__ import annotations

import asyncio
import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densecore
from densecore import errors
from tests import tiny
from tests.golden.fixtures import Pair, real_path

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")


@pytest.fixture(autouse=True)
def no_old_ways(no_cache_on_disk: None) -> Iterator[None]:
    """DSPy's old ways are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        yield


@pytest.fixture(scope="module")
def lm() -> Any:
    return bridge.DenseLM(str(real_path("smollm2-135m-instruct")), max_tokens=24, cache=False)


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def asking(text: str, most: int = 8) -> Any:
    message = dspy.lm15.Message.user(text)
    return dspy.lm15.Request(model="x", messages=(message,), config=dspy.lm15.Config(max_tokens=most))


def test_answers_are_the_models(lm: Any) -> None:
    answer = lm.dense.generate(chat("Name a colour."), max_tokens=24)
    assert lm("Name a colour.") == [answer.text]
    request = dspy.lm15.Request(model=lm.model, messages=(dspy.lm15.Message.user("Name a colour."),))
    response = lm.engine.complete(request)
    assert response.usage.input_tokens == answer.usage.prompt_tokens
    assert response.usage.output_tokens == len(lm.dense.generate(chat("Name a colour."), max_tokens=1024).ids)


def test_options_reach_the_model(lm: Any) -> None:
    assert (
        lm("Name a colour.", stop=["a"])[0] == lm.dense.generate(chat("Name a colour."), max_tokens=24, stop="a").text
    )
    drawn = lm("Tell a story.", temperature=1.0, seed=7)
    assert drawn == lm("Tell a story.", temperature=1.0, seed=7)
    several = lm("Tell a story.", temperature=1.0, n=3)
    assert len(set(several)) == 3, "samples without a seed must differ"
    with_logprobs = lm("Hi", logprobs=True, max_tokens=3)[0]["logprobs"]["content"]
    known = lm.dense.generate(chat("Hi"), max_tokens=3, logprobs=0)
    assert [each["token"] for each in with_logprobs] == [lm.dense.detokenize([i]) for i in known.ids]
    assert [each["logprob"] for each in with_logprobs] == pytest.approx([each.logprob for each in known.logprobs])
    penalised = {"frequency_penalty": 1.5, "presence_penalty": 0.5}
    held = lm.dense.generate(chat("Say a a a."), max_tokens=24, logit_bias={17: -5.0}, **penalised)
    assert lm("Say a a a.", logit_bias={"17": -5.0}, **penalised) == [held.text]
    with pytest.raises(Exception, match="reasoning"):
        lm("Hi", reasoning_effort="high")
    with pytest.raises(Exception, match="tool_choice"):
        lm("Hi", tool_choice="required")


def test_tokens_have_two_names(lm: Any, small: Any) -> None:
    """DSPy's own language models take either."""
    short = lm.dense.generate(chat("Name a colour."), max_tokens=3).text
    named = bridge.DenseLM(lm.dense, max_completion_tokens=3, cache=False)
    assert named("Name a colour.") == lm("Name a colour.", max_completion_tokens=3) == [short]
    assert lm.copy(max_completion_tokens=3)("Name a colour.") == [short]
    assert asyncio.run(lm.acall("Name a colour.", max_completion_tokens=3)) == [short]
    with pytest.raises(errors.ArgumentError, match="max_completion_tokens"):
        bridge.DenseLM(lm.dense, max_tokens=2, max_completion_tokens=3)
    with dspy.context(lm=lm.copy(max_tokens=400), adapter=bridge.DenseAdapter()):
        dspy.Predict("question -> thought, word: str", max_completion_tokens=40)(question="Why?")
    assert lm.history


def test_one_seed_gives_several_samples_and_the_same_again(lm: Any) -> None:
    """``n`` samples and rollouts differ, as DSPy's ``BestOfN`` needs; the call repeated gives what it gave."""
    seeded = lm.copy(seed=int(np.random.default_rng().integers(1 << 30)), temperature=1.0)
    three = seeded("Tell a story.", n=3)
    assert len(set(three)) == 3
    assert three == seeded("Tell a story.", n=3)
    assert three[:1] == seeded("Tell a story.")
    assert three == asyncio.run(seeded.acall("Tell a story.", n=3))
    rollouts = [seeded("Tell a story.", rollout_id=i)[0] for i in range(4)]
    assert len(set(rollouts)) == 4
    assert rollouts == [seeded.copy(rollout_id=i)("Tell a story.")[0] for i in range(4)]
    assert len(set(seeded.copy(temperature=0.0)("Tell a story.", n=2, temperature=0.0))) == 1
    with dspy.context(lm=seeded, adapter=bridge.DenseAdapter()):
        several = dspy.Predict("topic -> story", n=3, max_tokens=40)(topic="a goat").completions
    assert len(set(several.story)) > 1, "two of them may be the same short text"


def test_the_id_names_all_that_answers_depend_on(small: Pair, tmp_path: Path) -> None:
    """Quantisation, storage of keys and values, exactness, and the template beside the weights."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(small.folder, folder)
    found = [bridge.DenseLM(str(folder)).model, bridge.DenseLM(str(folder), load={"kv": "f16"}).model]
    kinds = [tiny.make_tiny_gguf("qwen2", tmp_path / f"{kind}.gguf", kind, seed=3) for kind in ("Q8_0", "Q4_K")]
    found += [bridge.DenseLM(str(path), load={"kv": "f32"}).model for path in kinds]
    found += [bridge.DenseLM(str(kinds[0]), load={"kv": "f32", "exact": True}).model]
    with (folder / "chat_template.jinja").open("a", encoding="utf-8") as template:
        template.write("Answer in verse.")
    found += [densecore.dspy.lm.model_id(densecore.Model.load(folder))]
    assert len(set(found)) == len(found), found


def test_the_cache_never_mixes_models(small: Pair, other: Any) -> None:
    first, second = bridge.DenseLM(small.ours, max_tokens=6), bridge.DenseLM(other, max_tokens=6)
    assert first.model != second.model
    assert small.ours.fingerprint in first.model
    assert first("Natalia sold clips") != second("Natalia sold clips")
    assert first("Natalia sold clips") == first("Natalia sold clips")


def test_programs_and_threads(lm: Any) -> None:
    """DSPy's threads share the model; each gets what it gets alone."""
    questions = [f"What is {i} plus {i}?" for i in range(8)]
    with dspy.context(lm=lm):
        program = dspy.Predict("question -> answer: str")
        alone = [lm(q)[0] for q in questions]
        run = dspy.Parallel(num_threads=8, disable_progress_bar=True)
        together = run([(lambda question: lm(question)[0], {"question": q}) for q in questions])
    assert list(together) == alone
    assert program.deepcopy() is not None


def test_copies_share_the_weights(lm: Any) -> None:
    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    assert program.deepcopy().lm.dense is lm.dense
    assert copy.deepcopy(lm.engine) is lm.engine
    assert lm.copy(temperature=0.5).dense is lm.dense


def test_programs_are_saved_with_and_without_it(lm: Any, tmp_path: Path, small: Pair) -> None:
    program = dspy.Predict("question -> answer")
    program.save(str(tmp_path / "plain.json"))
    dspy.Predict("question -> answer").load(str(tmp_path / "plain.json"))
    program.set_lm(lm)
    program.save(str(tmp_path / "bound.json"))
    loaded = dspy.Predict("question -> answer")
    loaded.load(str(tmp_path / "bound.json"), allow_unsafe_lm_state=True)
    assert type(loaded.lm) is bridge.DenseLM
    assert loaded.lm.dense is lm.dense
    assert loaded.lm.kwargs["max_tokens"] == 24
    text = (tmp_path / "bound.json").read_text(encoding="utf-8")
    (tmp_path / "other.json").write_text(text.replace(lm.dense.fingerprint, "llama-0000000000000000"), encoding="utf-8")
    with pytest.raises(errors.StateError, match="llama-0000000000000000"):
        dspy.Predict("question -> answer").load(str(tmp_path / "other.json"), allow_unsafe_lm_state=True)
    program.save(str(tmp_path / "whole"), save_program=True)
    whole = dspy.load(str(tmp_path / "whole"), allow_pickle=True)
    assert whole.lm.dense is lm.dense
    program.set_lm(bridge.DenseLM(small.ours))
    with pytest.raises(errors.StateError, match="name or path"):
        program.save(str(tmp_path / "none.json"))


def test_streams_and_coroutines(lm: Any) -> None:
    request = dspy.lm15.Request(model=lm.model, messages=(dspy.lm15.Message.user("Name three colours."),),
                                config=dspy.lm15.Config(max_tokens=16))  # fmt: skip
    answer = lm.dense.generate(chat("Name three colours."), max_tokens=16)
    events = list(lm.engine.stream(request))
    assert [events[0].type, events[-1].type] == ["start", "end"]
    deltas = [e.delta.text for e in events[1:-1]]
    assert len(deltas) > 4
    assert "".join(deltas) == answer.text
    assert events[-1].usage.output_tokens == len(answer.ids)
    assert events[-1].usage.input_tokens == answer.usage.prompt_tokens
    assert asyncio.run(lm.acall("Name three colours.", max_tokens=16)) == [answer.text]
    stream = lm.engine.stream(request)
    next(stream)
    stream.close()


@pytest.mark.parametrize("stop", [(), ("e",), ("blue",)])
def test_a_stream_has_the_logprobs_of_its_tokens(lm: Any, stop: tuple[str, ...]) -> None:
    config = dspy.lm15.Config(max_tokens=16, logprobs=2, stop=stop)
    request = dspy.lm15.Request(
        model=lm.model, messages=(dspy.lm15.Message.user("Name three colours."),), config=config
    )
    events = list(lm.engine.stream(request))
    pieces = [e.delta for e in events[1:-1]]
    whole = lm.engine.complete(request)
    assert len(whole.logprobs) == whole.usage.output_tokens
    assert tuple(t for piece in pieces for t in piece.logprobs) == whole.logprobs
    assert len([piece for piece in pieces if piece.logprobs]) > 1, "they come with their pieces"
    assert "".join(piece.text for piece in pieces) == whole.text


@pytest.mark.parametrize("moment", [0.02, 0.5])  # before the first token, and among them
@pytest.mark.parametrize("way", ["complete", "stream"])
def test_a_timeout_stops_the_model(lm: Any, way: str, moment: float) -> None:
    from densecore.dspy.engine import AsyncDenseEngine
    from densecore.runs.meter import metered

    engine = AsyncDenseEngine(lm.engine)
    request = dspy.lm15.Request(model=lm.model, messages=(dspy.lm15.Message.user("Count to a thousand. " * 40),),
                                config=dspy.lm15.Config(max_tokens=1500))  # fmt: skip

    async def asked() -> None:
        if way == "complete":
            await engine.complete(request)
            return
        async for _ in engine.stream(request):
            pass

    async def limited() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asked(), moment)

    with metered() as meter:
        asyncio.run(limited())  # waits for its threads
    assert meter.emitted_tokens < 500, "the answer went on"
    assert lm("Say one.", max_tokens=4)
    assert lm("Hi", max_tokens=2)


def raising(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_errors_are_dspys(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dspy.utils.exceptions import ContextWindowExceededError

    for ask in (lm, lambda text: asyncio.run(lm.acall(text)), lambda text: list(lm.engine.stream(asking(text)))):
        with pytest.raises((ContextWindowExceededError, dspy.lm15.ContextLengthError)):
            ask("word " * 9000)
    for error, theirs in (
        (errors.OverloadedError("busy"), dspy.lm15.RateLimitError),
        (errors.StateError("no"), dspy.lm15.InvalidRequestError),
        (errors.InsufficientMemoryError("full"), errors.InsufficientMemoryError),
    ):
        monkeypatch.setattr(type(lm.dense), "generate", raising(error))
        with pytest.raises(theirs, match=str(error)):
            lm.engine.complete(asking("Hi"))
    monkeypatch.undo()
    with pytest.raises(errors.ArgumentError, match="engine"):
        bridge.DenseLM("smollm2-135m-instruct", engine="auto")


def test_vectors(lm: Any) -> None:
    vectors = lm.dense.embed("The capital of France is")
    assert lm.decode(vectors, max_tokens=1) == " Paris"
    assert lm.forward_vectors(vectors).shape == lm.encode("The capital of France is").shape
    assert type(lm).forward is dspy.LM.forward, "a class that overrides it loses DSPy's cache and retries"


def test_without_dspy_the_error_names_the_extra() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['dspy'] = None\n"
        "try:\n import densecore.dspy\n"
        "except ImportError as error:\n print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "MissingExtraError" in told
    assert "densecore[dspy]" in told
    assert densecore.__version__
