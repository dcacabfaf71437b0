"""The part of a page that shows what went wrong: failures by class, each with its question and its answer."""

from __future__ import annotations

from collections.abc import Sequence

from densecore.report import chart
from densecore.report.journal import Journal
from densecore.report.markup import element, escape, said
from densecore.report.record import Example
from densecore.report.summary import Row, failure

ROWS = 1000
"""Rows of a run that a page shows; the journal holds all."""
TEXT = 8000
"""Letters of a text that a page shows."""
BRIEF = 140
"""Letters of a question in a closed row."""


def cut(text: str, most: int) -> str:
    """A text of ``most`` letters, with a note of what is missing.

    >>> cut("abcdef", 4)
    'abcd… (2 more characters)'
    """
    missing = len(text) - most
    return text if missing <= 0 else f"{text[:most]}… ({missing:,} more characters)"


def section(journals: Sequence[Journal], rows: Sequence[Row]) -> str:
    """The error analysis: a filter by class and the rows, a run after the other."""
    order = chart.classes(rows)
    parts = [_run(journal, row, order) for journal, row in zip(journals, rows, strict=True)]
    return f"<h2>What went wrong</h2>{''.join(parts)}"


def _run(journal: Journal, row: Row, order: Sequence[str]) -> str:
    wrong = [(example, name) for example in journal.examples if (name := failure(example)) is not None]
    head = f"<h3>{said(row.run)}: {len(wrong):,} of {row.n:,} wrong</h3>"
    if not wrong:
        return f"<section>{head}<p>No answer was wrong.</p></section>"
    shown = wrong[:ROWS]
    counts = {name: sum(each == name for _, each in shown) for name in order}
    buttons = [element("button", f"all {len(shown):,}", type="button", aria_pressed="true")]
    buttons += [
        element("button", f"{escape(name)} {count:,}", type="button", aria_pressed="false", data_class=name)
        for name, count in counts.items()
        if count
    ]
    filter_ = f'<div class="filter" role="group" aria-label="Failures to show" hidden>{"".join(buttons)}</div>'
    note = f"The first {ROWS:,} are shown; the journal holds all." if len(wrong) > ROWS else ""
    status = f'<p class="note" role="status">{len(shown):,} shown</p>'
    listed = "".join(_row(example, name, order) for example, name in shown)
    more = element("p", escape(note), class_="note") if note else ""
    return f"<section data-failures>{head}{filter_}{status}{listed}{more}</section>"


def _row(example: Example, name: str, order: Sequence[str]) -> str:
    tag = element("span", escape(name), class_=f"tag {chart.colour(name, order)}")
    brief = example.question if len(example.question) <= BRIEF else example.question[: BRIEF - 1] + "…"
    cost = (
        f"{example.emitted_tokens:,} tokens emitted, {example.latent_steps:,} latent steps, {example.prompt_tokens:,} tokens "
        f"read, {example.positions:,} positions computed and {example.cached_positions:,} found, {example.seconds:.2f} s"
    )
    facts = [
        ("example", said(example.id)),
        ("question", _long(example.question)),
        ("right answer", _long(example.gold)),
        ("its answer", _long(example.prediction) if example.prediction else '<span class="quiet">none</span>'),
        ("what it wrote", _long(example.text) if example.text else '<span class="quiet">nothing</span>'),
        ("error", _long(example.error) if example.error is not None else ""),
        ("cost", escape(cost)),
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts if value)
    return element("details", f"<summary>{tag}{said(brief)}</summary><dl>{listed}</dl>", class_="row", data_class=name)


def _long(text: str) -> str:
    return f'<pre dir="auto">{escape(cut(text, TEXT))}</pre>'
