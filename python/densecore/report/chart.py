"""Charts as SVG inside a page: drawn for a telephone's width, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from densecore.metrics import FAILURES
from densecore.report.markup import element, escape
from densecore.report.prices import AIM_COST, AIM_SCORE, Aim, Prices
from densecore.report.published import Reference
from densecore.report.summary import Row

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 44
LETTER, LINE = 6.6, 14.0
"""Of a label: about what a letter and a line take."""
BAR = 42
"""From one bar to the next."""
COLOURS = 7
"""Classes ``k0`` to ``k6`` of the style sheet."""
CLASSES = FAILURES
"""Classes of failures whose colours never change."""
LABEL = 22
"""Letters of a name beside a point."""


@dataclass(frozen=True)
class Point:
    """A run, or a published score, in a scatter chart."""

    label: str
    x: float
    y: float
    low: float
    high: float
    published: bool = False


@dataclass(frozen=True)
class Area:
    """The corner of a chart that is aimed at: up to ``x``, from ``y``."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Scale:
    """From values to places along an axis."""

    low: float
    high: float
    begin: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """The place of a value."""
        measure: Callable[[float], float] = math.log10 if self.log else float
        low, high = measure(self.low), measure(self.high)
        return self.begin + (self.end - self.begin) * (measure(value) - low) / (high - low)


def linear(values: Sequence[float], begin: float, end: float, *, share: bool = False) -> Scale:
    """A scale with round ends around the values; of shares it spans a tenth at least, within 0 and 1.

    >>> linear([0.42, 0.58], 0, 100, share=True).ticks
    (0.4, 0.45, 0.5, 0.55, 0.6)
    >>> linear([0.97, 1.0], 0, 100, share=True).ticks
    (0.9, 0.925, 0.95, 0.975, 1.0)
    """
    low, high = min(values), max(values)
    missing = max(0.1 if share else 0.0, abs(high) * 1e-3, 1e-9) - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    if share:  # within 0 and 1
        shift = max(0.0, -low) - max(0.0, high - 1.0)
        low, high = low + shift, high + shift
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(i * step, 12) for i in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], begin, end, log=False, ticks=ticks)


def logarithmic(values: Sequence[float], begin: float, end: float) -> Scale:
    """A scale of powers of ten around the values.

    >>> logarithmic([3, 250], 0, 100).ticks
    (1.0, 10.0, 100.0, 1000.0)
    """
    first, last = math.floor(math.log10(min(values)) + 1e-9), math.ceil(math.log10(max(values)) - 1e-9)
    last = max(last, first + 1)
    step = math.ceil((last - first) / 6)
    ticks = tuple(10.0**power for power in range(first, last + 1, step))
    return Scale(10.0**first, 10.0**last, begin, end, log=True, ticks=ticks)


def scatter(
    ident: str,
    title: str,
    description: str,
    points: Sequence[Point],
    x_label: str,
    x_text: Callable[[float], str],
    area: Area | None = None,
) -> str:
    """Accuracy, with its 95% interval, against a cost; a label beside each point."""
    xs = [point.x for point in points] + ([area.x] if area else [])
    log = min(xs) > 0 and max(xs) / min(xs) > 20
    across = logarithmic(xs, LEFT, WIDTH - RIGHT) if log else linear([0.0, max(xs) or 1.0], LEFT, WIDTH - RIGHT)
    heights = [value for point in points for value in (point.low, point.high)] + ([area.y] if area else [])
    up = linear(heights, HEIGHT - BOTTOM, TOP, share=True)
    parts = [_axes(across, up, x_label, x_text)]
    if area:
        right, bottom = across(area.x), up(area.y)
        parts.insert(
            0, f'<rect class="aim" x="{LEFT}" y="{TOP}" width="{right - LEFT:.1f}" height="{bottom - TOP:.1f}"/>'
        )
    taken = [(across(point.x) - 5, up(point.y) - 5, across(point.x) + 5, up(point.y) + 5) for point in points]
    labels = []
    if area:
        taken.append((LEFT + 4, TOP + 2, LEFT + 4 + LETTER * len(area.label), TOP + 2 + LINE))
        labels.append(f'<text class="aimed" x="{LEFT + 5}" y="{TOP + 13}">{escape(area.label)}</text>')
    for point in points:
        x, y = across(point.x), up(point.y)
        parts.append(_mark(point, x, y, up))
        labels.append(_label(point.label, x, y, taken))
    return _svg(ident, title, description, HEIGHT, [*parts, *labels])


def _axes(across: Scale, up: Scale, x_label: str, x_text: Callable[[float], str]) -> str:
    parts = []
    for tick in up.ticks:
        y = up(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:.3g}%</text>')
    for tick in across.ticks:
        x = across(tick)
        anchor = "end" if tick == across.ticks[-1] else "middle"  # the last one would leave the picture
        text = f'x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="{anchor}"'
        parts.append(f'<line class="grid" y1="{TOP}" y2="{HEIGHT - BOTTOM}" x1="{x:.1f}" x2="{x:.1f}"/>')
        parts.append(f'<text class="tick" {text}>{x_text(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def _mark(point: Point, x: float, y: float, up: Scale) -> str:
    told = f"<title>{escape(point.label)}: {100 * point.y:.1f}%</title>"
    if point.published:
        return f'<path class="published" d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z">{told}</path>'
    whisker = f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{up(point.low):.1f}" y2="{up(point.high):.1f}"/>'
    return f'{whisker}<circle class="run" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{told}</circle>'


def _label(name: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> str:
    """A name where it covers least of what is drawn already."""
    text = name if len(name) <= LABEL else name[: LABEL - 1] + "…"
    size = LETTER * len(text)
    tries = [(x + 8, y), (x - 8 - size, y), (x - size / 2, y - 14), (x - size / 2, y + 14)]
    tries += [(x + 8, y - 13), (x + 8, y + 13), (x - 8 - size, y - 13), (x - 8 - size, y + 13)]
    boxes = []
    for wanted_left, wanted_middle in tries:
        left = min(max(wanted_left, LEFT + 2.0), WIDTH - RIGHT - size)
        middle = min(max(wanted_middle, TOP + LINE / 2), HEIGHT - BOTTOM - LINE / 2)
        boxes.append((left, middle - LINE / 2, left + size, middle + LINE / 2))
    best = min(boxes, key=lambda box: sum(_shared(box, other) for other in taken))
    taken.append(best)
    return f'<text class="name" x="{best[0]:.1f}" y="{best[3] - 3:.1f}">{escape(text)}</text>'


def _shared(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    return max(0.0, across) * max(0.0, min(one[3], other[3]) - max(one[1], other[1]))


def classes(rows: Sequence[Row]) -> list[str]:
    """Classes of failures in the order of their colours: the named ones, then others as frequent."""
    total: dict[str, int] = {}
    for row in rows:
        for name, count in row.failures.items():
            total[name] = total.get(name, 0) + count
    known = [name for name in CLASSES if name in total]
    return known + sorted((name for name in total if name not in CLASSES), key=lambda name: (-total[name], name))


def colour(name: str, order: Sequence[str]) -> str:
    """The style sheet's class for a class of failures."""
    if name in CLASSES:
        return f"k{CLASSES.index(name)}"
    others = [each for each in order if each not in CLASSES]
    return f"k{len(CLASSES) + min(others.index(name), COLOURS - len(CLASSES) - 1)}"


def by_tokens(ident: str, rows: Sequence[Row]) -> str:
    """Accuracy against emitted tokens."""
    points = [Point(row.run, row.emitted_tokens, row.accuracy, *row.interval) for row in rows]
    told = "; ".join(f"{row.run}: {100 * row.accuracy:.1f}% at {row.emitted_tokens:.1f} tokens" for row in rows)
    return scatter(ident, "Accuracy against emitted tokens", told, points, "tokens emitted a question", "{:,g}".format)


def one_reference(rows: Sequence[Row], beside: Mapping[str, Sequence[Aim]]) -> tuple[Reference, list[float]] | None:
    """The large model that all runs stand beside and each run's share of its cost; nothing where there is none."""
    first = [beside[row.run][0] for row in rows if beside[row.run]]
    shares = [aim.share_of_cost for aim in first]
    alike = len(first) == len(rows) and len({aim.reference for aim in first}) == 1
    return (first[0].reference, shares) if alike and all(map(math.isfinite, shares)) else None


def by_cost(ident: str, rows: Sequence[Row], beside: Mapping[str, Sequence[Aim]], prices: Prices) -> str:
    """Accuracy against cost: in shares of one large model's, where all runs stand beside it, else in US dollars."""
    title, found = "Accuracy against cost", one_reference(rows, beside)
    if found is not None:
        large, shares = found
        points = [Point(row.run, share, row.accuracy, *row.interval) for row, share in zip(rows, shares, strict=True)]
        told = "; ".join(f"{each.label}: {100 * each.y:.1f}% at {100 * each.x:.3g}% of the cost" for each in points)
        points.append(Point(large.model, 1.0, large.score, large.score, large.score, published=True))
        told += f"; {large.model}: {100 * large.score:.1f}% at 100%"
        area = Area(AIM_COST, AIM_SCORE * large.score, "the aim")
        return scatter(ident, title, told, points, f"share of {large.model}'s cost", _share, area)
    points = [
        Point(row.run, 1000 * cost, row.accuracy, *row.interval)
        for row in rows
        if (cost := prices.cost(row)) is not None
    ]
    told = "; ".join(f"{each.label}: {100 * each.y:.1f}% at ${each.x:.3g} a thousand questions" for each in points)
    return scatter(ident, title, told, points, "US dollars a thousand questions", "{:g}".format)


def _share(value: float) -> str:
    return f"{100 * value:,g}%"


def bars(ident: str, title: str, description: str, rows: Sequence[Row]) -> str:
    """Failures by class: a bar a class of one run, a stacked bar a run of several."""
    order = classes(rows)
    if len(rows) == 1:
        lines = [(name, [(name, rows[0].failures.get(name, 0))]) for name in order]
    else:
        lines = [(row.run, [(name, row.failures.get(name, 0)) for name in order]) for row in rows]
    longest = max([sum(count for _, count in parts) for _, parts in lines], default=0) or 1
    room, drawn = WIDTH - 2 * RIGHT - 24, []
    for place, (name, parts) in enumerate(lines):
        top, x = TOP + BAR * place, float(RIGHT)
        drawn.append(f'<text class="name" x="{RIGHT}" y="{top + 8}">{escape(name[:48])}</text>')
        for part, count in parts:
            size = room * count / longest
            if not count:
                continue
            told = f"<title>{escape(part)}: {count}</title>"
            drawn.append(
                f'<rect class="{colour(part, order)}" x="{x:.1f}" y="{top + 14}" width="{size:.1f}" height="14">{told}</rect>'
            )
            if len(parts) > 1 and size > LETTER * len(str(count)) + 6:
                drawn.append(
                    f'<text class="inside" x="{x + size / 2:.1f}" y="{top + 25}" text-anchor="middle">{count}</text>'
                )
            x += size
        total = sum(count for _, count in parts)
        drawn.append(f'<text class="tick" x="{x + 5:.1f}" y="{top + 25}">{total}</text>')
    return _svg(ident, title, description, TOP + BAR * len(lines), drawn)


def _svg(ident: str, title: str, description: str, height: float, parts: Sequence[str]) -> str:
    named = element("title", escape(title), id=f"{ident}-title") + element(
        "desc", escape(description), id=f"{ident}-desc"
    )
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height:.0f}" aria-labelledby="{ident}-title {ident}-desc">'
        f"{named}{''.join(parts)}</svg>"
    )
