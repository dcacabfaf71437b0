"""HotPotQA, the distractor setting: two paragraphs answer the question together, and up to eight others do not.

``dev`` is reported. A fixed two tenths of the training rows, ``select``, are held back for choosing prompts and
settings; ``train`` is the others and may be fitted on.
"""

from __future__ import annotations

from .record import Record
from .rows import Paragraph, Row
from .splits import Hub, Split, everything, held, rest

NAME = "hotpotqa"
_HUB = "hotpotqa/hotpot_qa"
_TRAIN = ("hotpotqa/train_distractor_ctx.jsonl", "hotpotqa/train.jsonl")
SPLITS = {
    "dev": Split(
        ("hotpotqa/dev_distractor_ctx.jsonl", "hotpotqa/dev.jsonl"),
        Hub(_HUB, "distractor", ("validation",)),
        everything,
    ),
    "train": Split(_TRAIN, Hub(_HUB, "distractor", ("train",)), rest(2)),
    "select": Split(_TRAIN, Hub(_HUB, "distractor", ("train",)), held(2)),
}


def row(record: Record, split: str) -> Row:
    """A row. ``context`` is a list of ``[title, [sentences]]``, or the hub's ``{"title": [...], "sentences": [...]}``."""
    return Row(
        id=record.key("id"),
        question=record.text("question"),
        answers=(record.text("answer"),),
        paragraphs=_paragraphs(record),
        supporting=_supporting(record),
        set=NAME,
        split=split,
    )


def _pairs(record: Record, name: str, second: str) -> list[tuple[object, object]]:
    """The two shapes of a list of pairs as one."""
    value = record.value(name)
    if isinstance(value, dict):
        titles, others = value.get("title"), value.get(second)
        if isinstance(titles, list) and isinstance(others, list) and len(titles) == len(others):
            return list(zip(titles, others, strict=True))
        raise record.error(f"field {name!r} must hold the lists 'title' and {second!r}, of one length")
    if isinstance(value, list) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value):
        return [(pair[0], pair[1]) for pair in value]
    raise record.error(f"field {name!r} must be a list of pairs [title, {second}]")


def _paragraphs(record: Record) -> tuple[Paragraph, ...]:
    found = []
    for title, sentences in _pairs(record, "context", "sentences"):
        if not isinstance(sentences, (list, tuple)):
            raise record.error("field 'context': the sentences of a paragraph must be a list of texts")
        # Sentences bring the white space before them; the official scores join them with nothing between.
        text = "".join(record.string("context", sentence) for sentence in sentences).strip()
        found.append(Paragraph(record.filled("context", title), text))
    if not found:
        raise record.error("field 'context' lists no paragraph")
    return tuple(found)


def _supporting(record: Record) -> tuple[str, ...]:
    pairs = _pairs(record, "supporting_facts", "sent_id")
    return tuple(dict.fromkeys(record.filled("supporting_facts", title) for title, _ in pairs))
