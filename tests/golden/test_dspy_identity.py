"""DSPy's cache and memory: whose answer it is, and how long its model lives."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import densecore
from densecore import errors
from tests import tiny

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")

ASKED = "Natalia sold clips"


@pytest.fixture(autouse=True)
def cache_in_memory() -> Iterator[None]:
    """Nothing of an earlier run answers."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    yield
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that give different answers."""
    pytest.importorskip("transformers", reason="the maker of tiny models is the extra `dev`")
    return tuple(tiny.make_tiny("qwen2", tmp_path_factory.mktemp(f"own{seed}"), seed=seed) for seed in (2, 3))


def own(lm: Any) -> list[str]:
    """What the model behind a language model says itself."""
    return [lm.dense.generate([{"role": "user", "content": ASKED}], max_tokens=6).text]


def answers(lm: Any) -> list[list[str]]:
    return [lm(ASKED), asyncio.run(lm.acall(ASKED)), lm(ASKED)]


def replaced(lm: Any, engine: Any) -> Any:
    lm._engine_spec, lm._async_engine_spec = engine, bridge.AsyncDenseEngine(engine)
    return lm


def saved(lm: Any, engine: Any) -> Any:
    program = dspy.Predict("question -> answer")
    program.set_lm(lm.copy(engine=engine))
    state = program.dump_state()
    fresh = dspy.Predict("question -> answer")
    fresh.set_lm(lm)
    fresh.load_state(state, allow_unsafe_lm_state=True)
    return fresh.lm


def as_a_program(lm: Any, engine: Any) -> Any:
    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    program.set_lm(program.deepcopy().lm.copy(engine=engine))
    return program.deepcopy().lm


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "copy": lambda lm, engine: lm.copy(engine=engine),
    "copy of a copy": lambda lm, engine: lm.copy(temperature=0.0).copy(engine=engine, rollout_id=None),
    "deep copy": lambda lm, engine: copy.deepcopy(lm).copy(engine=engine),
    "deep copy afterwards": lambda lm, engine: copy.deepcopy(lm.copy(engine=engine)),
    "copy, then pickle": lambda lm, engine: pickle.loads(pickle.dumps(lm.copy(engine=engine))),
    "pickle, then copy": lambda lm, engine: pickle.loads(pickle.dumps(lm)).copy(engine=engine),
    "shallow copy, replaced": lambda lm, engine: replaced(copy.copy(lm), engine),
    "set_lm": as_a_program,
    "load_state": saved,
}


@pytest.mark.parametrize("way", WAYS)
def test_another_engine_is_another_name(folders: tuple[Path, Path], way: str) -> None:
    """However the engine came in, the cache gives its own answers and those of the first model stay the first's."""
    first, second = (bridge.DenseLM(str(folder), max_tokens=6) for folder in folders)
    assert own(first) != own(second)
    first(ASKED)
    asyncio.run(first.acall(ASKED))
    made = WAYS[way](first, second.engine)
    assert made.model == second.model != first.model
    assert answers(made) == [own(second)] * 3
    assert answers(first) == [own(first)] * 3


@pytest.mark.parametrize("way", ["deep copy", "pickle", "copy"])
def test_copies_answer_for_each_other(folders: tuple[Path, Path], way: str) -> None:
    first = bridge.DenseLM(str(folders[0]), max_tokens=6)
    first(ASKED)
    ways = {
        "deep copy": copy.deepcopy,
        "pickle": lambda lm: pickle.loads(pickle.dumps(lm)),
        "copy": lambda lm: lm.copy(),
    }
    made = ways[way](first)
    assert made.model == first.model
    assert made.dense is first.dense
    made(ASKED)
    assert not made.history[-1]["usage"], "the cache did not answer"


def test_loading_and_files_are_part_of_the_name(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """One cache for quantisations, keys and values, exactness and templates: each gets what its own model says."""
    folder = tmp_path / "verse"
    shutil.copytree(folders[0], folder)
    (folder / "chat_template.jinja").write_text("Answer in verse: {{ messages[0]['content'] }}", encoding="utf-8")
    files = [tiny.make_tiny_gguf("qwen2", tmp_path / f"{kind}.gguf", kind, seed=3) for kind in ("Q8_0", "Q4_0")]
    made = [bridge.DenseLM(str(path), max_tokens=6) for path in (folders[0], folder, *files)]
    made += [bridge.DenseLM(str(files[1]), max_tokens=6, load={"exact": True, "kv": kv}) for kv in ("f32", "f16")]
    names = [lm.model for lm in made]
    assert len(set(names)) == len(names), names
    assert [lm(ASKED) for lm in made] == [own(lm) for lm in made]
    assert [lm(ASKED) for lm in reversed(made)] == [own(lm) for lm in reversed(made)]


def test_contradictions_are_refused(folders: tuple[Path, Path]) -> None:
    first, second = (bridge.DenseLM(str(folder), max_tokens=6) for folder in folders)
    second(ASKED)
    contradictions: list[Callable[[], Any]] = [
        lambda: first.copy(model=second.model),
        lambda: first.copy(engine=second.engine, model=first.model),
        lambda: first.copy(async_engine=bridge.AsyncDenseEngine(second.engine)),
        lambda: first.copy(engine=second.engine, async_engine=bridge.AsyncDenseEngine(first.engine)),
        lambda: first.copy(engine="auto"),
        lambda: setattr(first, "model", second.model),
        lambda: first(ASKED, model=second.model),
        lambda: asyncio.run(first.acall(ASKED, model=second.model)),
        lambda: bridge.DenseLM(str(folders[0]), engine=second.engine),
    ]
    for contradiction in contradictions:
        with pytest.raises(errors.ArgumentError, match="engine"):
            contradiction()
    half = copy.copy(first)
    half._engine_spec = second.engine
    with pytest.raises(errors.ArgumentError, match="async_engine"):
        asyncio.run(half.acall(ASKED))
    assert first.copy(model=first.model, engine=second.engine.__class__(first.dense))(ASKED) == own(first)
    assert first(ASKED, model=first.model) == own(first)
    with pytest.raises(AttributeError):
        first.engine.model = second.dense
    with pytest.raises(Exception, match=second.model):  # what a plain dspy.LM says its model is
        dspy.LM(second.model, engine=first.engine)("Something else")


def test_changed_weights_are_not_taken_for_the_saved_ones(folders: tuple[Path, Path], tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(folders[0], place)
    lm = bridge.DenseLM(str(place), max_tokens=6)
    kept, state = pickle.dumps(lm), lm.dump_state()
    del lm
    gc.collect()
    shutil.rmtree(place)
    shutil.copytree(folders[1], place)
    with pytest.raises(errors.StateError, match="saved with"):
        pickle.loads(kept)
    with pytest.raises(errors.StateError, match="saved with"):
        bridge.DenseLM.load_state(state)


# -- how long a model lives ----------------------------------------------------------------------------------------


def test_a_model_goes_when_nobody_has_it(folders: tuple[Path, Path]) -> None:
    lm = bridge.DenseLM(str(folders[0]), max_tokens=6)
    lm(ASKED)
    asyncio.run(lm.acall(ASKED, n=2, temperature=1.0))
    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    seen = weakref.ref(lm.dense)
    del lm, program
    gc.collect()
    assert seen() is None, gc.get_referrers(seen())
    again = bridge.DenseLM(str(folders[0]), max_tokens=6)
    assert again(ASKED) == own(again)


def test_one_name_is_one_model_while_somebody_has_it(folders: tuple[Path, Path]) -> None:
    first, second = bridge.DenseLM(str(folders[0])), bridge.DenseEngine(str(folders[0]))
    assert first.dense is second.model
    assert bridge.DenseLM(str(folders[0]), load={"kv": "f16"}).dense is not first.dense
    seen = weakref.ref(first.dense)
    del first
    gc.collect()
    assert seen() is second.model


def test_a_closed_model_is_loaded_again(folders: tuple[Path, Path]) -> None:
    first = bridge.DenseLM(str(folders[0]), max_tokens=6)
    said = first(ASKED)
    first.dense.close()
    again = bridge.DenseLM(str(folders[0]), max_tokens=6, cache=False)
    assert again.dense is not first.dense
    assert again(ASKED) == said
    with pytest.raises(Exception, match="closed"):
        first("Something else")


def test_racing_threads_load_once(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loads, start, made = [], threading.Barrier(8), []
    load = densecore.Model.load

    def counted(*arguments: Any, **options: Any) -> Any:
        loads.append(arguments)
        return load(*arguments, **options)

    def make() -> None:
        start.wait()
        made.append(bridge.DenseLM(str(folders[0]), load={"context": 77}))

    monkeypatch.setattr(densecore.Model, "load", counted)
    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len({id(lm.dense) for lm in made}) == 1
