"""Vocabularies that spell spaces as text and fall back to single bytes, as Gemma's and Mistral's: ids and text of
transformers, on tokenizers trained here.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import densecore
from densecore import Ids
from densecore.errors import UnsupportedModelError
from tests import tiny

transformers = pytest.importorskip("transformers", reason="the reference is the extra `dev`")

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
TEXTS = [
    "", " ", "  two  spaces ", "a", "Hello, world!", " leads", "trails ", "line\nline\n\n  indented\ttab", "é ü ß – “q”",
    "日本語のテキスト", "🦙🦙 emoji 👩‍👩‍👧", "\u2581 the mark itself", "1234567 12 3", "<s> is a name", "x</s>y",
    "[INST] hi [/INST]", "<0x41> spelled", "a\u0301 combining", "\x00\x07 control", "نص عربي",
]  # fmt: skip


def trained(style: str) -> Any:
    """A tokenizer of one of the three ways in which such files put the first space."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if style == "gemma":
        made.normalizer = normalizers.Replace(" ", "▁")
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    elif style == "llama":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        steps.append(decoders.Strip(" ", 1, 0))
    made.decoder = decoders.Sequence(steps)
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=tiny.VOCAB - 12, special_tokens=SPECIAL + bytes_of, show_progress=False, max_token_length=12
    )
    made.train_from_iterator([tiny.CORPUS.replace(" ", "▁")], trainer)
    # The bytes are tokens of the vocabulary and no added ones.
    described = json.loads(made.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if token["content"] in SPECIAL]
    if style == "gemma":
        new = {"id": len(described["model"]["vocab"]), "content": "▁▁▁", "single_word": False, "lstrip": False}
        new |= {"rstrip": False, "normalized": False, "special": False}
        described["model"]["vocab"]["▁▁▁"] = new["id"]
        described["added_tokens"].append(new)
    made = Tokenizer.from_str(json.dumps(described))
    made.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    assert isinstance(AddedToken("x"), AddedToken)
    return made


@pytest.fixture(scope="module", params=["gemma", "llama", "mistral"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Our model and transformers' tokenizer of the same files."""
    folder = tmp_path_factory.mktemp(request.param)
    tiny.make_tiny("mistral" if request.param != "gemma" else "gemma3", folder, seed=3)
    trained(request.param).save(str(folder / "tokenizer.json"))
    for name in ("config.json", "generation_config.json"):
        told = json.loads((folder / name).read_text()) | {"bos_token_id": 1, "eos_token_id": 2}
        (folder / name).write_text(json.dumps(told))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "chat_template": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
        "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return densecore.Model.load(folder), transformers.AutoTokenizer.from_pretrained(str(folder))


def drawn(count: int) -> list[str]:
    """Random texts of pieces that matter."""
    rng = random.Random()
    pieces = [*TEXTS, "the ", "clips", "  ", "\n", "<s>", "▁", "é", "🦙", "<0xE2>", "sold 48"]
    return ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 9))) for _ in range(count)]


def test_ids_are_those_of_transformers(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    for text in TEXTS + drawn(300):
        expected = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ours.tokenize(text) == expected, repr(text)
        assert ours.tokenize(text, bos=True) == [theirs.bos_token_id, *expected], repr(text)


def test_text_is_that_of_transformers(both: tuple[Any, Any]) -> None:
    """Bytes that form no character become U+FFFD, as they do in llama.cpp; transformers replaces their neighbours too."""
    ours, theirs = both
    rng = random.Random()
    whole = [number for name, number in theirs.get_vocab().items() if not name.startswith("<0x")]
    for _ in range(300):
        ids = [rng.choice(whole) for _ in range(rng.randint(1, 12))]
        assert ours.detokenize(ids, special=False) == theirs.decode(ids, skip_special_tokens=True), ids
    for text in TEXTS + drawn(100):
        ids = ours.tokenize(text)
        assert text.startswith(" ") or "▁" in text or ours.detokenize(ids) == text
        assert ours.detokenize(ids, special=False) == theirs.decode(ids, skip_special_tokens=True), repr(text)


def test_chats_are_those_of_transformers(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    for first in [text for text in TEXTS if not any(name in text for name in SPECIAL)]:
        chat = [{"role": "user", "content": first}, {"role": "assistant", "content": "Yes."}]
        chat.append({"role": "user", "content": " and then?"})
        expected = theirs.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
        told, direct = (
            ours.generate(prompt, max_tokens=4, ignore_eos=True, logprobs=0) for prompt in (chat, Ids(list(expected)))
        )
        assert told.usage.prompt_tokens == len(expected), repr(first)
        assert told.ids == direct.ids, repr(first)
        assert [each.logprob for each in told.logprobs] == [each.logprob for each in direct.logprobs], repr(first)


def test_a_stream_joins_to_the_text(both: tuple[Any, Any]) -> None:
    ours, _ = both
    for seed in range(6):
        events = list(ours.stream("Natalia sold", max_tokens=24, temperature=1.5, seed=seed))
        ids = [each for event in events for each in event.ids]
        text = "".join(event.text for event in events)
        assert text == ours.detokenize(ids, special=False)
        assert text == ours.generate("Natalia sold", max_tokens=24, temperature=1.5, seed=seed).text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("normalizer", {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}),
        ("normalizer", {"type": "Prepend", "prepend": "x"}),
        ("normalizer", {"type": "Lowercase"}),
        (
            "decoder",
            {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "a"}, "content": " "}]},
        ),
        ("decoder", {"type": "WordPiece", "prefix": "##", "cleanup": True}),
        ("pre_tokenizer", {"type": "Whitespace"}),
    ],
)
def test_other_steps_are_refused_by_name(key: str, value: dict[str, Any], tmp_path: Path) -> None:
    tiny.make_tiny("gemma3", tmp_path, seed=3)
    described = json.loads(trained("gemma").to_str())
    described[key] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.json"):
        densecore.Model.load(tmp_path)
