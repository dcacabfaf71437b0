"""Runs and comparisons as plain text, as wide as the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from densecore.report.compare import Comparison
from densecore.report.prices import AIM_COST, AIM_SCORE, Aim, Prices, aims
from densecore.report.record import EXACT
from densecore.report.summary import Row

GAP = 2
LEAST = 8
"""Cells to which a column of texts may shrink."""
UNPRICED = "USD/1000 is not known where an API answered: give its prices, lm_input and lm_output, with --prices FILE"
_GOOD, _BAD, _STRONG, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, a cell a row."""

    head: str
    cells: Sequence[str]
    text: bool = False
    """Texts stand left and may be cut short; numbers stand right and may not."""
    rank: int = 0
    """Where room is short, columns of the highest rank are left out first; those of rank 0 stay."""


def width(text: str) -> int:
    """Cells of a terminal that a text fills.

    >>> width("naïve"), width("日本")
    (5, 4)
    """
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(bool(unicodedata.combining(letter)) for letter in text)


def plain(text: str) -> str:
    """A text that cannot steer a terminal: one line, other characters than visible ones by their number.

    >>> plain("two\\nlines, \\x1b[31mred")
    'two lines, <U+001B>[31mred'
    """
    return "".join(
        letter if letter.isprintable() else " " if letter in "\r\n\t" else f"<U+{ord(letter):04X}>" for letter in text
    )


def draw(columns: Sequence[Column], room: int | None = None) -> str:
    """Lines of a table that fit into ``room`` cells; what had no room is named below."""
    shown = [Column(each.head, [plain(cell) for cell in each.cells], each.text, each.rank) for each in columns]
    wanted = [max(map(width, (each.head, *each.cells))) for each in shown]
    left_out: list[str] = []
    if room is not None:
        while (over := sum(wanted) + GAP * (len(wanted) - 1) - room) > 0:
            slack = [
                min(wanted[i], max(LEAST, width(each.head))) if each.text else wanted[i] for i, each in enumerate(shown)
            ]
            spare = [have - need for have, need in zip(wanted, slack, strict=True)]
            last = max(range(len(shown)), key=lambda i: (shown[i].rank, i))
            if sum(spare) >= over or shown[last].rank == 0:
                for i in sorted(range(len(shown)), key=lambda i: -spare[i]):
                    cut = min(spare[i], over)
                    wanted[i], over = wanted[i] - cut, over - cut
                break
            left_out.insert(0, shown.pop(last).head)
            wanted.pop(last)
    lines = [
        (" " * GAP)
        .join(_fit(cell, size, each.text) for cell, size, each in zip(cells, wanted, shown, strict=True))
        .rstrip()
        for cells in zip(*((each.head, *each.cells) for each in shown), strict=True)
    ]
    if left_out:
        lines.append(f"(no room for: {', '.join(left_out)})")
    return "\n".join(lines)


def _fit(text: str, size: int, left: bool) -> str:
    if width(text) > size:
        while text and width(text) > size - 1:
            text = text[:-1]
        text += "…"
    padding = " " * (size - width(text))
    return text + padding if left else padding + text


def percent(share: float) -> str:
    """A share of 1 in percent.

    >>> percent(0.4567)
    '45.7%'
    """
    return f"{100 * share:.1f}%"


def span(bounds: tuple[float, float]) -> str:
    """An interval in percent, without the sign."""
    return f"{100 * bounds[0]:.1f}-{100 * bounds[1]:.1f}"


def short(value: float) -> str:
    """A number of three digits or so.

    >>> [short(x) for x in (0, 0.0004211, 5.5, 42.35, 4321.6)]
    ['0', '0.000421', '5.50', '42.4', '4,322']
    """
    if value == 0:
        return "0"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.2e}"


def thousand(cost: float | None) -> str:
    """What a thousand questions cost, where it is known what one did.

    >>> thousand(0.002), thousand(None)
    ('2.00', '?')
    """
    return "?" if cost is None else short(1000 * cost)


def columns(rows: Sequence[Row], prices: Prices | None = None) -> list[Column]:
    """What a table of runs shows; with ``prices``, what a thousand questions cost."""
    found = [
        Column("run", [row.run for row in rows], text=True),
        Column("n", [str(row.n) for row in rows]),
        Column("accuracy", [percent(row.accuracy) for row in rows]),
        Column("95%", [span(row.interval) for row in rows]),
    ]
    for metric in dict.fromkeys(row.metric for row in rows if row.metric != EXACT):
        cells = [percent(row.score) if row.metric == metric else "-" for row in rows]
        found.append(Column(metric, cells))
    found += [
        Column(name, [percent(row.scores[name]) if name in row.scores else "-" for row in rows], rank=5)
        for name in dict.fromkeys(name for row in rows for name in row.scores)
    ]
    found += [
        Column("emitted", [short(row.emitted_tokens) for row in rows]),
        Column("latent", [short(row.latent_steps) for row in rows], rank=1),
        Column("positions", [short(row.positions) for row in rows], rank=3),
        Column("seconds", [short(row.seconds) for row in rows], rank=2),
        Column("s/answer", [short(row.machine_seconds) for row in rows]),
    ]
    if prices is not None:
        found.append(Column("USD/1000", [thousand(prices.cost(row)) for row in rows], rank=2))
    if any(row.errors for row in rows):
        found.append(Column("errors", [str(row.errors) for row in rows], rank=1))
    return found


def runs(rows: Sequence[Row], prices: Prices | None = None, room: int | None = None) -> str:
    """A line a run."""
    return draw(columns(rows, prices), room)


def verdict(aim: Aim) -> str:
    """One line: which share of a large model's score, at which share of its cost."""
    low, high = aim.interval
    return (
        f"{'pass' if aim.passed else 'FAIL'}  {aim.run}: {percent(aim.share_of_score)} ({100 * low:.1f} to {100 * high:.1f}) "
        f"of {aim.reference.model}'s {percent(aim.reference.score)} ({aim.reference.metric}) "
        f"at {percent(aim.share_of_cost)} of its cost; the aim is {AIM_SCORE:.0%} at under {AIM_COST:.0%}"
    )


def failures(rows: Sequence[Row], room: int | None = None) -> str:
    """How many answers of each run failed in which way."""
    classes = list(dict.fromkeys(name for row in rows for name in row.failures))
    counted = [Column(name, [str(row.failures.get(name, 0)) for row in rows]) for name in classes]
    named = Column("run", [row.run for row in rows], text=True)
    return draw([named, *counted, Column("wrong", [str(row.n - row.correct) for row in rows])], room)


def report(
    rows: Sequence[Row], prices: Prices, comparisons: Sequence[Comparison] = (), stream: TextIO | None = None
) -> str:
    """Everything a terminal shows of runs; colours only where ``stream`` is one that wants them."""
    stream = sys.stdout if stream is None else stream
    colour, room = coloured(stream), None
    if stream.isatty():
        room = shutil.get_terminal_size().columns
    heading, *lines = runs(rows, prices, room).splitlines()
    parts = ["\n".join([_paint(heading, _STRONG, colour), *lines])]
    if any(row.failures for row in rows):
        parts.append(failures(rows, room))
    found = [aims(row, prices)[:1] for row in rows]
    verdicts = [_paint(plain(verdict(aim)), _GOOD if aim.passed else _BAD, colour) for each in found for aim in each]
    parts += ["\n".join(verdicts)] if verdicts else []
    if any(prices.cost(row) is None for row in rows):
        parts.append(UNPRICED)
    parts += [plain(each.sentence()) for each in comparisons]
    return "\n\n".join(parts)


def coloured(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user has not asked for plain text."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _paint(text: str, colour: str, wanted: bool) -> str:
    return f"{colour}{text}{_PLAIN}" if wanted else text
