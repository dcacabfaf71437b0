"""SQuAD 1.1: questions about one paragraph, which holds every accepted answer word for word.

``dev`` is reported, ``train`` may be fitted on. Rows without an answer, as version 2.0 has them, are refused.
"""

from __future__ import annotations

from .record import Record
from .rows import Paragraph, Row
from .splits import Hub, Split, everything

NAME = "squad"
_HUB = "rajpurkar/squad"
SPLITS = {
    "dev": Split(("squad/squad_dev.jsonl", "squad/dev.jsonl"), Hub(_HUB, None, ("validation",)), everything),
    "train": Split(("squad/squad_train_sample.jsonl", "squad/train.jsonl"), Hub(_HUB, None, ("train",)), everything),
}


def row(record: Record, split: str) -> Row:
    """A row. Answers are a list of texts, or the hub's ``{"text": [...], ...}``; the title may be absent."""
    answers = record.value("answers")
    if isinstance(answers, dict):
        answers = answers.get("text")
    accepted = record.texts("answers", answers)
    if not accepted:
        raise record.error("field 'answers' lists none; questions without an answer are not part of this set")
    title = record.string("title", record.fields.get("title", "")).strip().replace("_", " ")
    return Row(
        id=record.key("id"),
        question=record.text("question"),
        answers=tuple(dict.fromkeys(accepted)),
        paragraphs=(Paragraph(title, record.filled("context", record.value("context"))),),
        supporting=(title,) if title else (),
        set=NAME,
        split=split,
    )
