"""Begin tokens: plain prompts get the one the model's own files ask for, as transformers and llama.cpp do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import densecore
from densecore import Chat, Ids, Prompt
from tests import tiny
from tests.golden.fixtures import Pair, close

reference = pytest.importorskip(
    "tests.golden.reference", reason="the reference is the extra `dev`", exc_type=ImportError
)

BEGIN = "<|endoftext|>"
TEXTS = ["", "Natalia sold clips", " 48 ", "é<|im_end|>"]


def processor(kind: str) -> Any:
    """A post-processor as tokenizer.json holds it."""
    number = tiny.tokenizer().token_to_id(BEGIN)
    bytes_only = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    begin, text = {"SpecialToken": {"id": BEGIN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [begin, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {BEGIN: {"id": BEGIN, "ids": [number], "tokens": [BEGIN]}},
    }
    return {
        "none": None,
        "bytes": bytes_only,
        "template": template,
        "llama 3": {"type": "Sequence", "processors": [bytes_only, template]},
    }[kind]


def folder_with(folder: Path, made: Path, kind: str, **facts: Any) -> Path:
    shutil.copytree(folder, made)
    words = json.loads((made / "tokenizer.json").read_text())
    words["post_processor"] = processor(kind)
    (made / "tokenizer.json").write_text(json.dumps(words))
    known = json.loads((made / "tokenizer_config.json").read_text())
    (made / "tokenizer_config.json").write_text(json.dumps(known | facts))
    return made


@pytest.mark.parametrize("add", [None, True, False])
@pytest.mark.parametrize("kind", ["none", "bytes", "template", "llama 3"])
def test_folders_begin_as_in_transformers(small: Pair, tmp_path: Path, kind: str, add: bool | None) -> None:
    import transformers

    more = {} if add is None else {"add_bos_token": add}
    folder = folder_with(small.folder, tmp_path / "m", kind, bos_token=BEGIN, **more)
    theirs = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = densecore.Model.load(folder)
    for text in TEXTS[:3]:
        assert ours.tokenize(text, bos=True) == theirs(text).input_ids
        assert ours.tokenize(text) == theirs(text, add_special_tokens=False).input_ids
    assert (ours.bos_id is None) == (kind in ("none", "bytes"))


@pytest.mark.parametrize("add", [None, True, False])
@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe", "gpt-2", "smollm"])
def test_gguf_files_begin_as_in_llama_cpp(tmp_path: Path, pre: str, add: bool | None) -> None:
    pytest.importorskip("llama_cpp", reason="the reference is the extra `bench`")
    path = tiny.make_tiny_gguf("llama", tmp_path / "m.gguf", "Q8_0", pre=pre, add_bos=add)
    theirs, ours = reference.llama(path, vocab_only=True), densecore.Model.load(path)
    for text in TEXTS:
        expected = list(theirs.tokenize(text.encode(), add_bos=True, special=False))
        assert ours.tokenize(text, bos=True) == expected, text
    assert (ours.bos_id is not None) == (add is True or (add is None and pre == "llama-bpe"))


@pytest.fixture(scope="module")
def begun(small: Pair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The small model with Llama 3's kind of post-processor, ours and theirs."""
    folder = folder_with(small.folder, tmp_path_factory.mktemp("begun") / "m", "llama 3", bos_token=BEGIN)
    return densecore.Model.load(folder, kv="f32"), small.theirs


def test_every_verb_begins_plain_text_with_it(begun: tuple[Any, Any]) -> None:
    model, theirs = begun
    text = "Natalia sold clips"
    ids = [model.bos_id, *model.tokenize(text)]
    logits, states = reference.forward(theirs, ids)
    close(model.logits(text), logits)
    close(model.encode(text), states[-1])
    assert (model.embed(text).numpy() == model.embed(Ids(ids)).numpy()).all()
    assert model.generate(text, max_tokens=6, ignore_eos=True).ids == reference.greedy(theirs, ids, 6)
    assert model.prefill(text).length == len(ids)
    assert model.think(text, 2, ignore_eos=True).context.length == len(ids) + 2
    target = model.tokenize(" in April")
    after = reference.log_softmax(reference.forward(theirs, ids + target)[0])
    expected = [after[len(ids) - 1 + place, number] for place, number in enumerate(target)]
    close(np.array(model.score(text, " in April").logprobs), np.array(expected))
    loss = model.loss_and_grad(text, model.embed(Ids([5, 6])), [7])
    assert loss.usage.prompt_tokens == len(ids)


def test_only_the_beginning_of_a_prompt_gets_it(begun: tuple[Any, Any]) -> None:
    model, _ = begun
    ids, more = model.tokenize("Natalia"), model.tokenize(" sold")
    context = model.prefill("Natalia")
    assert context.length == 1 + len(ids)
    assert context.extend(" sold").length == 1 + len(ids) + len(more)
    assert context.generate(" clips", max_tokens=1, ignore_eos=True).usage.prompt_tokens == len(
        model.tokenize(" clips")
    )
    for prompt in (Prompt(Ids(ids)), Prompt(Ids(ids[:1]), Ids(ids[1:])), Prompt(model.embed(Ids(ids)))):
        assert len(model.embed(prompt)) == len(ids)
    assert len(model.embed(Prompt("Natalia", Ids(more)))) == 1 + len(ids) + len(more)
    # Templates write it themselves.
    messages = [{"role": "user", "content": "a"}]
    for chat in (messages, Chat(messages)):
        assert len(model.embed(chat)) == len(model.tokenize(model.apply_chat_template(messages), special=True))


def test_models_without_it_are_as_they_were(small: Pair) -> None:
    assert small.ours.bos_id is None
    assert small.ours.tokenize("ab", bos=True) == small.ours.tokenize("ab")
    assert len(small.ours.embed("ab")) == len(small.ours.tokenize("ab"))
