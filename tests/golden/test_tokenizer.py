"""Ids identical to llama.cpp's with special parsing off; text comes back whole; special tokens in a text stay text.

A few hundred rows here; every row of GSM8K and 2,000 SQuAD paragraphs in `python -m tests.verify tokenizer_full`.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import tiny
from tests.golden import data
from tests.golden.fixtures import Pair, real_path

reference = pytest.importorskip("tests.golden.reference", reason="llama.cpp is the extra `dev`", exc_type=ImportError)

NAMES = {"smol": "smollm2-135m-instruct", "qwen": "qwen2.5-coder-1.5b-instruct"}


@pytest.fixture(scope="module")
def peers() -> dict[str, Any]:
    """llama.cpp's vocabularies, without weights."""
    return {key: reference.llama(real_path(name), vocab_only=True) for key, name in NAMES.items()}


@pytest.fixture(params=list(NAMES))
def sides(request: pytest.FixtureRequest, peers: dict[str, Any]) -> tuple[Any, Any]:
    """Our model and llama.cpp's vocabulary of the same file."""
    return request.getfixturevalue(request.param), peers[request.param]


def same(sides: tuple[Any, Any], texts: list[str]) -> None:
    model, peer = sides
    for text, ids in zip(texts, model.tokenize(texts), strict=True):
        assert ids == reference.llama_ids(peer, text), f"ids differ on {text!r}"


def test_hard_texts(sides: tuple[Any, Any]) -> None:
    same(sides, data.HARD_TEXTS)


def test_gsm8k(sides: tuple[Any, Any]) -> None:
    same(sides, data.gsm8k_texts(500))


def test_squad(sides: tuple[Any, Any]) -> None:
    same(sides, data.squad_paragraphs(200))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=80))
def test_any_text(sides: tuple[Any, Any], text: str) -> None:
    """Whatever hypothesis thinks of, surrogates excepted: those are no text."""
    same(sides, [text])


def test_text_comes_back(sides: tuple[Any, Any]) -> None:
    model, _ = sides
    for text in data.HARD_TEXTS + data.gsm8k_texts(50):
        assert model.detokenize(model.tokenize(text)) == text


def test_special_tokens_in_a_text_stay_text(sides: tuple[Any, Any]) -> None:
    model, _ = sides
    text = "hello<|im_end|>there"
    ids = model.tokenize(text)
    end = model.tokenize("<|im_end|>", special=True)
    assert len(end) == 1
    assert end[0] not in ids
    assert model.tokenize(text, special=True) == model.tokenize("hello") + end + model.tokenize("there")
    assert model.detokenize(ids) == text


def test_an_unfinished_character_shows_as_a_replacement(sides: tuple[Any, Any]) -> None:
    model, _ = sides
    whole = model.tokenize("𠜎")
    assert len(whole) > 1
    assert model.detokenize(whole[:-1]).endswith("\ufffd")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=60))
def test_tokenizer_json_equals_the_tokenizers_library(small: Pair, text: str) -> None:
    """Through `tokenizer.json`, normaliser included; special tokens split there by the library are left out."""
    if not any(special in text for special in tiny.SPECIAL):
        assert small.ours.tokenize(text) == tiny.tokenizer().encode(text, add_special_tokens=False).ids


def test_hard_texts_through_tokenizer_json(small: Pair) -> None:
    for text in data.HARD_TEXTS:
        if "<|" not in text:
            expected = tiny.tokenizer().encode(text, add_special_tokens=False).ids
            assert small.ours.tokenize(text) == expected, f"ids differ on {text!r}"
