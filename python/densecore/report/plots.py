"""The page's three charts as files, through matplotlib (the extra ``report``), for papers and slides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densecore.errors import ArgumentError, MissingExtraError, StorageError
from densecore.report import chart
from densecore.report.prices import AIM_COST, AIM_SCORE, Prices, aims
from densecore.report.summary import Row

FORMATS = ("png", "svg", "pdf")
NAMES = ("accuracy_tokens", "accuracy_cost", "failures")
_SIZE, _DOTS = (6.4, 4.2), 160
_COLOURS = ("#2a6aa8", "#b8560f", "#34795a", "#80509c", "#8a6a12", "#9c3d5c", "#636b76")


def write(
    folder: str | os.PathLike[str], rows: Sequence[Row], *, prices: Prices | None = None, kind: str = "png"
) -> list[Path]:
    """Write accuracy against tokens, accuracy against cost, and failures by class; gives back the files.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ArgumentError: No rows, or a kind of file that is not among ``FORMATS``.
        StorageError: A file cannot be written.
    """
    if kind not in FORMATS:
        raise ArgumentError(f"kind = {kind!r}: give one of {', '.join(FORMATS)}")
    if not rows:
        raise ArgumentError("rows is empty: give at least one run")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots need matplotlib: pip install 'densecore[report]'") from error
    place, written = Path(folder), []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, draw in zip(NAMES, (_tokens, _cost, _failures), strict=True):
            figure = Figure(figsize=_SIZE, dpi=_DOTS, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            axes.spines[["top", "right"]].set_visible(False)
            draw(axes, rows, prices or Prices())
            written.append(place / f"{name}.{kind}")
            figure.savefig(written[-1], metadata={} if kind != "svg" else {"Date": None})
    except OSError as error:
        raise StorageError(f"cannot write plots into {place}: {error.strerror}; choose another folder") from error
    return written


def _tokens(axes: Any, rows: Sequence[Row], _: Prices) -> None:
    _points(axes, [(row.run, row.emitted_tokens) for row in rows], rows)
    axes.set_xlabel("tokens emitted a question")
    axes.set_title("Accuracy against emitted tokens")


def _cost(axes: Any, rows: Sequence[Row], prices: Prices) -> None:
    beside = chart.one_reference(rows, {row.run: aims(row, prices) for row in rows})
    axes.set_title("Accuracy against cost")
    if beside is None:
        costs = [(row, prices.cost(row)) for row in rows]
        known = [(row, cost) for row, cost in costs if cost is not None]
        if known:
            _points(axes, [(row.run, 1000 * cost) for row, cost in known], [row for row, _ in known])
        axes.set_xlabel("US dollars a thousand questions")
        return
    large, shares = beside
    _points(
        axes, [(row.run, 100 * share) for row, share in zip(rows, shares, strict=True)], rows, [100 * AIM_COST, 100]
    )
    axes.plot([100], [100 * large.score], "D", color="white", markeredgecolor="#59616c")
    axes.annotate(large.model, (100, 100 * large.score), textcoords="offset points", xytext=(7, 5))
    left, top = axes.get_xlim()[0], max(axes.get_ylim()[1], 100 * large.score + 4)
    axes.fill_between(
        [left, 100 * AIM_COST], 100 * AIM_SCORE * large.score, top, color="#1d6b41", alpha=0.12, label="the aim"
    )
    axes.set_xlim(left=left)
    axes.set_ylim(top=top)
    axes.set_xlabel(f"share of {large.model}'s cost, %")
    _legend(axes, 1)


def _points(axes: Any, named: Sequence[tuple[str, float]], rows: Sequence[Row], shown: Sequence[float] = ()) -> None:
    """Runs with their whiskers, on an axis that also holds what else is ``shown``."""
    for (label, x), row in zip(named, rows, strict=True):
        y, (low, high) = row.accuracy, row.interval
        axes.errorbar(
            [x], [100 * y], yerr=[[100 * (y - low)], [100 * (high - y)]], fmt="o", color=_COLOURS[0], capsize=2
        )
        axes.annotate(_verbatim(label), (x, 100 * y), textcoords="offset points", xytext=(7, 5))
    xs = [*(x for _, x in named), *shown]
    if min(xs) > 0 and max(xs) / min(xs) > 20:
        axes.set_xscale("log")
        axes.set_xlim(min(xs) / 3, max(xs) * 4)  # names stand to the right of their points
    else:
        axes.set_xlim(0, max(xs) * 1.3 or 1)
    axes.set_ylabel("accuracy, % (95% interval)")
    axes.grid(alpha=0.25)


def _failures(axes: Any, rows: Sequence[Row], _: Prices) -> None:
    order, done = chart.classes(rows), [0] * len(rows)
    for name in order:
        counts = [row.failures.get(name, 0) for row in rows]
        shade = _COLOURS[int(chart.colour(name, order)[1:])]
        axes.barh(range(len(rows)), counts, height=0.55, left=done, color=shade, label=_verbatim(name))
        done = [before + count for before, count in zip(done, counts, strict=True)]
    axes.set_yticks(range(len(rows)), [_verbatim(row.run) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("wrong answers")
    axes.set_title("Failures by class")
    if order:
        _legend(axes, 4)


def _legend(axes: Any, columns: int) -> None:
    axes.figure.legend(loc="outside lower center", ncols=columns, frameon=False)


def _verbatim(text: str) -> str:
    return text.replace("$", r"\$")  # else matplotlib takes it for mathematics
