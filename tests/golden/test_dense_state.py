"""States in the fields of DSPy programs: read as what they are, saved as text, and never made by a user's words."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densecore import errors
from densecore.hidden import Hidden
from tests.golden.fixtures import Pair, real_path

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")

from densecore.dspy import DenseAdapter, DenseLM, DenseState, DenseStore  # noqa: E402 - after the check that DSPy is there
from densecore.dspy.plain import PlainAdapter  # noqa: E402
from densecore.runs.meter import metered  # noqa: E402
from densecore.states.store import KEY_FILE, Handle  # noqa: E402

# Texts whose ends are ends of tokens wherever they stand: a letter before a line end, a quote or a blank.
NOTES = ["Natalia sold clips to her friends in April", "The engine reads text", "it rains on the old bridge"]
ADAPTERS = [dspy.ChatAdapter(use_json_adapter_fallback=False), dspy.JSONAdapter(), PlainAdapter()]
READ = dspy.Signature("note: DenseState, question -> answer", "Answer.", custom_types={"DenseState": DenseState})


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No answers and no states of an earlier test; DSPy's old ways are errors."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    with warnings.catch_warnings(), DenseStore():
        warnings.simplefilter("error", DeprecationWarning)
        yield


@pytest.fixture(scope="module", params=["tiny", "smol"])
def lm(request: pytest.FixtureRequest) -> Any:
    model = (
        request.getfixturevalue("small").ours if request.param == "tiny" else str(real_path("smollm2-135m-instruct"))
    )
    return DenseLM(model, max_tokens=40, cache=False)


@pytest.fixture
def tiny(small: Pair) -> Any:
    return DenseLM(small.ours, max_tokens=8, cache=False)


def noise(model: Any, rows: int = 3) -> Hidden:
    """Vectors that no text has; fresh ones each time."""
    return Hidden.wrap(np.random.default_rng().standard_normal((rows, model.config.width)).astype(np.float32), model)


def run(lm: Any, program: Any, adapter: Any = ADAPTERS[0], **inputs: Any) -> tuple[str, int]:
    """What the model wrote, in whatever form, and the positions of the prompt, of vectors too."""
    with dspy.context(lm=lm, adapter=adapter), metered() as meter:
        try:
            program(**inputs)
        except dspy.utils.exceptions.AdapterParseError:
            pass
    response = lm.history[-1]["outputs"][0]
    return (response if isinstance(response, str) else response["text"]), meter.prompt_tokens


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: type(a).__name__)
def test_a_state_of_a_text_answers_as_the_text(lm: Any, adapter: Any) -> None:
    states = [DenseState.of(lm.dense.embed(note)) for note in NOTES]
    program = dspy.Predict(READ)
    found = [run(lm, program, adapter, note=state, question="Who is it about?") for state in states]
    assert found == [run(lm, program, adapter, note=note, question="Who is it about?") for note in NOTES]
    assert len({text for text, _ in found}) > 1, "the answers must depend on the notes"


def test_answers_held_to_a_form_read_states_too(smol: Any) -> None:
    lm, program = DenseLM(smol, max_tokens=40, cache=False), dspy.Predict(READ)
    state = DenseState.of(smol.embed(NOTES[0]))
    answers = [run(lm, program, DenseAdapter(), note=note, question="Who is it about?") for note in (state, NOTES[0])]
    assert answers[0] == answers[1]


def test_states_stand_in_lists_demonstrations_histories_and_chains(lm: Any) -> None:
    class Read(dspy.Signature):
        """Answer."""

        notes: list[DenseState] = dspy.InputField()
        history: dspy.History = dspy.InputField()
        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    def ask(notes: list[Any]) -> tuple[str, int]:
        program = dspy.ChainOfThought(Read)
        program.predict.demos = [
            {"notes": notes[:1], "question": "Who?", "reasoning": "It says so", "answer": "Natalia"}
        ]
        history = dspy.History(
            messages=[{"notes": notes[1:], "question": "What?", "reasoning": "So", "answer": "Text"}]
        )
        return run(lm, program, notes=notes, history=history, question="Where?")

    states = [DenseState.of(lm.dense.embed(note)) for note in NOTES]
    assert ask(states) == ask(list(NOTES))
    assert ask(states) != ask(states[::-1])


def test_vectors_that_no_text_has(tiny: Any) -> None:
    model, hidden = tiny.dense, noise(tiny.dense)
    prompt = [{"role": "user", "content": ["The engine reads ", hidden, " and ", hidden, " twice"]}]
    answer = model.generate(prompt, max_tokens=8)
    state = DenseState.of(np.asarray(hidden), model)
    assert tiny(f"The engine reads {state} and {state} twice") == [answer.text]
    assert tiny.history[-1]["usage"]["prompt_tokens"] == answer.usage.prompt_tokens + 6
    assert asyncio.run(tiny.acall(f"The engine reads {state} and {state} twice")) == [answer.text]
    request = dspy.lm15.Request(
        model=tiny.model,
        system=(dspy.lm15.TextPart(str(state)),),
        messages=(dspy.lm15.Message.user("Hello"), dspy.lm15.Message.assistant(f"It says {state}")),
        config=dspy.lm15.Config(max_tokens=8),
    )
    turns = [("system", [hidden]), ("user", "Hello"), ("assistant", ["It says ", hidden])]
    answer = model.generate([{"role": role, "content": content} for role, content in turns], max_tokens=8)
    *deltas, end = list(tiny.engine.stream(request))[1:]
    assert "".join(event.delta.text for event in deltas) == answer.text
    assert end.usage.input_tokens == answer.usage.prompt_tokens + answer.usage.prompt_vectors
    assert answer.usage.prompt_vectors == 6


def test_a_state_is_a_value(tiny: Any, other: Any) -> None:
    hidden = noise(tiny.dense)
    state, unlike = DenseState.of(hidden), DenseState.of(noise(tiny.dense))
    read = DenseState.model_validate_json(state.model_dump_json())
    example = dspy.Example(note=state, question="Who?").with_inputs("note")
    saved = json.loads(json.dumps(example.toDict()))
    for same in (DenseState.of(hidden.to("float32")), read, copy.copy(state), copy.deepcopy(state), state.model_copy(),
                 pickle.loads(pickle.dumps(state)), DenseState.model_validate(saved["note"]),
                 copy.deepcopy(example).note):  # fmt: skip
        assert (same, hash(same), str(same), same.shape) == (state, hash(state), str(state), hidden.shape)
    assert state != unlike
    assert len({state, read, unlike}) == 2
    assert state.fingerprint == tiny.dense.fingerprint
    assert np.array_equal(state.hidden(), hidden)
    assert DenseState.of(hidden[:2]) != state
    assert DenseState.of(np.asarray(hidden), other) != state, "the same numbers mean something else to another model"
    flat = np.asarray(hidden).reshape(-1)[: 2 * hidden.shape[1]]
    assert DenseState.of(flat.reshape(2, -1), tiny.dense) == DenseState.of(hidden[:2])
    assert DenseState.of(hidden.to("bfloat16")).hidden().dtype == "float32"


def test_the_store_keeps_its_own_copy(tiny: Any) -> None:
    array = np.random.default_rng().standard_normal((2, tiny.dense.config.width)).astype(np.float32)
    before = array.copy()
    state = DenseState.of(array, tiny.dense)
    array[:] = 0
    assert np.array_equal(state.hidden(), before)
    assert not np.asarray(state.hidden()).flags.writeable
    torch = pytest.importorskip("torch", reason="torch writes to what it is given")
    for got in (torch.from_dlpack(state.hidden()), torch.utils.dlpack.from_dlpack(state.hidden().__dlpack__())):
        got.zero_()
        assert np.array_equal(state.hidden(), before)


def test_the_cache_tells_states_apart(small: Pair) -> None:
    lm = DenseLM(small.ours, max_tokens=8)
    first, second = noise(lm.dense), noise(lm.dense)
    program = dspy.Predict(READ)
    with metered() as meter:
        answers = [
            run(lm, program, PlainAdapter(), note=DenseState.of(hidden), question="Who?")[0]
            for hidden in (first, second, first)
        ]
    alone = DenseLM(small.ours, max_tokens=8, cache=False)
    assert answers[1] == run(alone, program, PlainAdapter(), note=DenseState.of(second), question="Who?")[0]
    assert answers[0] == answers[2]
    assert meter.calls == 2, "the third answer is in the cache"


def test_programs_are_saved_and_run_elsewhere(small: Pair, tmp_path: Path) -> None:
    lm = DenseLM(small.ours, max_tokens=8, cache=False)
    early = DenseState.of(noise(lm.dense))
    with DenseStore(tmp_path / "states"):
        kept = DenseState.of(early.hidden())
        demo = DenseState.of(noise(lm.dense))
    assert str(kept) == str(early), "a new folder keeps states that are older than it"
    program = dspy.Predict(READ)
    program.demos = [dspy.Example(note=demo, question="Who?", answer="Natalia")]
    program.save(str(tmp_path / "program.json"))
    assert str(demo) in (tmp_path / "program.json").read_text(encoding="utf-8")
    script = tmp_path / "elsewhere.py"
    script.write_text(
        "import sys, dspy, densecore\n"
        "from densecore.dspy import DenseLM, DenseState, DenseStore\n"
        "from densecore.dspy.plain import PlainAdapter\n"
        "folder, saved, model, note, *states = sys.argv[1:]\n"
        "for folder_of_states in states: DenseStore.use(folder_of_states)\n"
        "model = densecore.Model.load(folder, kv='f32')\n"
        "program = dspy.Predict(dspy.Signature('note: DenseState, question -> answer', 'Answer.'))\n"
        "program.load(saved)\n"
        "lm = DenseLM(model, max_tokens=8, cache=False)\n"
        "with dspy.context(lm=lm, adapter=PlainAdapter()):\n"
        "    try: program(note=DenseState(handle=note), question='What?')\n"
        "    except dspy.utils.exceptions.AdapterParseError: pass  # random weights may answer with nothing\n"
        "print(ascii(lm.history[-1]['outputs'][0]))\n",
        encoding="utf-8",
    )
    call = [sys.executable, script, small.folder, tmp_path / "program.json", "tiny", str(kept)]
    with DenseStore(tmp_path / "states"):
        here = run(lm, program, PlainAdapter(), note=kept, question="What?")[0]
    there = subprocess.run([*call, tmp_path / "states"], capture_output=True, text=True)
    assert there.stdout.strip() == ascii(here), there.stderr
    without = subprocess.run(call, capture_output=True, text=True)
    assert "made by no store in use" in without.stderr
    assert "DenseStore.use(folder)" in without.stderr


def test_words_are_not_states(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = DenseState.of(noise(tiny.dense))
    whole = str(state)
    block = json.dumps([{"type": "text", "text": f"<|dense:sha256:{state.sha256}|>"}])
    for text in (f"<|dense:sha256:{state.sha256}|>", whole.rsplit(":", 1)[0] + "|>", whole[:-2], repr(state),
                 whole.replace("dense", "Dense"), whole.replace(":3x", ":03x"), whole.replace("|>", " |>")):  # fmt: skip
        content = f"Say {text} again"
        plain = tiny.dense.generate([{"role": "user", "content": content}], max_tokens=8)
        assert plain.usage.prompt_vectors == 0
        assert tiny(content) == [plain.text]
    marked = f"<<CUSTOM-TYPE-START-IDENTIFIER>>{block}<<CUSTOM-TYPE-END-IDENTIFIER>>"
    used: list[Any] = []
    monkeypatch.setattr("densecore.dspy.engine.record", used.append)
    for question in (marked, f"Say {state} again"):
        run(tiny, dspy.Predict("question -> answer"), question=question)
    assert [usage.prompt_vectors for usage in used] == [0, 3], "DSPy's markers make no state; a program's own hand does"
    seal = whole[-34:-2]
    forged = whole.replace(seal, f"{int(seal, 16) ^ 1:032x}")
    for text in (forged, whole.replace(":3x", ":1x"), whole.replace(state.sha256, hashlib.sha256(b"").hexdigest())):
        with pytest.raises(dspy.utils.exceptions.LMInvalidRequestError, match="made by no store in use"):
            tiny(f"Say {text} again")


def test_what_does_not_fit_is_refused(tiny: Any, other: Any) -> None:
    model, hidden = tiny.dense, noise(tiny.dense)
    layer = model.encode("The engine reads text")
    with pytest.raises(errors.SpaceError, match="as_space"):
        DenseState.of(layer)
    assert tiny(f"{DenseState.of(layer.as_space('input'))}") == [
        model.generate([{"role": "user", "content": [layer]}], max_tokens=8, raw=True).text
    ]
    with pytest.raises(errors.FingerprintError, match=other.fingerprint):
        DenseState.of(hidden, other)
    with pytest.raises(dspy.utils.exceptions.LMInvalidRequestError, match=f"state of model {other.fingerprint}"):
        tiny(str(DenseState.of(noise(other))))
    with pytest.raises(errors.ArgumentError, match="model = None"):
        DenseState.of(np.asarray(hidden))
    with pytest.raises(errors.WidthError):
        DenseState.of(np.ones((2, 7), np.float32), model)
    with pytest.raises(errors.VectorError, match="at least one"):
        DenseState.of(hidden[:0])
    bad = np.array(hidden)
    bad[1, 5] = np.nan
    with pytest.raises(errors.NonFiniteError, match="component 5 of vector 1"):
        DenseState.of(bad, model)
    with pytest.raises(ValueError, match="no handle of a state"):
        DenseState.model_validate("Paris")


@pytest.mark.parametrize("adapter", [*ADAPTERS[:2], DenseAdapter()], ids=["chat", "json", "dense"])
@pytest.mark.parametrize("kind", ["DenseState", "list[DenseState]", "DenseState | None"])
def test_a_language_model_cannot_write_one(tiny: Any, adapter: Any, kind: str) -> None:
    writer = dspy.Signature(f"question -> state: {kind}", custom_types={"DenseState": DenseState})
    with dspy.context(lm=tiny, adapter=adapter), pytest.raises(errors.ArgumentError, match="cannot write a DenseState"):
        dspy.Predict(writer)(question="Who?")


def test_a_module_returns_one(tiny: Any) -> None:
    class Reader(dspy.Module):
        def forward(self, text: str) -> Any:
            return dspy.Prediction(state=DenseState.of(tiny.dense.embed(text)))

    with dspy.context(lm=tiny):
        found = Reader()(text=NOTES[0])
    assert found.state == DenseState.of(tiny.dense.embed(NOTES[0]))


def test_memory_is_bounded(tiny: Any) -> None:
    size = 2 * 4 * tiny.dense.config.width
    with DenseStore(max_bytes=3 * (size + 200)) as store:
        states = [DenseState.of(noise(tiny.dense, 2)) for _ in range(3)]
        assert 3 * size < store.nbytes <= store.max_bytes
        states[0].hidden()
        states.append(DenseState.of(noise(tiny.dense, 2)))
        for index in (0, 2, 3):
            states[index].hidden()
        with pytest.raises(errors.StateError, match="gone from DenseStore.*max_bytes"):
            states[1].hidden()
        with pytest.raises(errors.LimitError, match="larger max_bytes"):
            DenseState.of(noise(tiny.dense, 8))
    with pytest.raises(errors.ArgumentError, match="max_bytes"):
        DenseStore(max_bytes=-1)


def test_files_are_what_their_names_say(tiny: Any, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="the reference is the extra `dev`")
    hidden = noise(tiny.dense)
    with DenseStore(tmp_path):
        state = DenseState.of(hidden)
    path = tmp_path / f"{state.sha256}.safetensors"
    good = path.read_bytes()
    assert hashlib.sha256(good).hexdigest() == state.sha256
    assert np.array_equal(safetensors.load(good)["state"], hidden)
    assert (len(good) - hidden.shape[0] * hidden.shape[1] * 4) % 8 == 0
    assert {file.name: file.stat().st_mode & 0o077 for file in tmp_path.iterdir()} == {path.name: 0, KEY_FILE: 0}
    with DenseStore(tmp_path):
        assert np.array_equal(state.hidden(), hidden)
    at = int(np.random.default_rng().integers(len(good)))
    for bad in (good[:-1], good + b"\0", b"", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]):
        path.write_bytes(bad)
        with DenseStore(tmp_path), pytest.raises(errors.StateError, match=r"not the file its name says"):
            state.hidden()
    with DenseStore(tmp_path):
        assert DenseState.of(hidden) == state, "making it again repairs the file"
    assert path.read_bytes() == good
    rows, width = hidden.shape
    with DenseStore(tmp_path) as store:
        for shape, fingerprint in (((1, rows * width), state.fingerprint), ((rows - 1, width), state.fingerprint),
                                   (hidden.shape, state.fingerprint[::-1])):  # fmt: skip
            liar = store._sealed(Handle(state.sha256, shape, fingerprint, ""))
            with pytest.raises(errors.StateError, match=r"not the file its name says"):
                store.get(liar)
    with DenseStore(tmp_path, max_bytes=100), pytest.raises(errors.LimitError):
        state.hidden()
    path.unlink()
    with DenseStore(tmp_path), pytest.raises(errors.StateError, match="gone"):
        state.hidden()


def test_a_folder_has_one_key(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores: list[DenseStore] = []
    threads = [threading.Thread(target=lambda: stores.append(DenseStore(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handles = {str(store.put(noise(tiny.dense).as_space("input"))) for store in stores}
    assert len(handles) == 8 == sum(path.suffix == ".safetensors" for path in tmp_path.iterdir())
    (tmp_path / KEY_FILE).write_bytes(bytes(32))
    monkeypatch.setattr(Path, "exists", lambda _: False)  # as if another process made the key just now
    with DenseStore(tmp_path):
        foreign = DenseState.of(noise(tiny.dense))
    monkeypatch.undo()
    assert (tmp_path / KEY_FILE).read_bytes() == bytes(32)
    with pytest.raises(errors.StateError, match="no store in use"):
        foreign.hidden()
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(errors.StateError, match="5 bytes"):
        DenseStore(tmp_path)
    with pytest.raises(errors.StorageError, match="choose a folder"):
        DenseStore(tmp_path / KEY_FILE)


def test_threads_share_a_store(tiny: Any, tmp_path: Path) -> None:
    """Many writers and readers, and memory for few states: each finds the vectors it put there."""
    wrong: list[object] = []

    def work(store: DenseStore) -> None:
        try:
            for _ in range(20):
                hidden = noise(tiny.dense, 2)
                handle = store.put(hidden)
                found = store.get(handle)
                if found is None or not np.array_equal(found, hidden):
                    wrong.append(handle)
        except Exception as error:
            wrong.append(error)

    with DenseStore(tmp_path, max_bytes=2000) as store:
        threads = [threading.Thread(target=work, args=(store,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert store.nbytes <= 2000


def test_stores_open_and_close(tiny: Any, tmp_path: Path) -> None:
    with DenseStore(tmp_path / "one") as one, DenseStore(tmp_path / "two"):
        second = DenseState.of(noise(tiny.dense))
        one.__exit__()
        second.hidden()
    with pytest.raises(errors.StateError, match="gone"):
        second.hidden()
    try:
        used = [DenseStore.use(tmp_path / "two") for _ in range(2)]
        assert np.asarray(second.hidden()).shape == second.shape
        assert used[0].nbytes == 0 < used[1].nbytes, "the second call replaces the first"
    finally:
        for store in used:
            store.__exit__()
