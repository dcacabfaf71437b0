"""From values to ratios, their intervals, verdicts, and the table."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from benches.measures import BY_NAME, LLAMA, OURS, TORCH, Against, Measure

RESAMPLES, RESAMPLE_SEED = 10_000, 1
Values = dict[str, list[float]]  # side -> one value a round


def ratio(measure: Measure, ours: Any, peer: Any) -> Any:
    """Above 1 where densecore is better."""
    return peer / ours if measure.lower else ours / peer


def interval(measure: Measure, ours: list[float], peer: list[float]) -> tuple[float, float] | None:
    """95 % of the ratio of medians when whole pairs are drawn again (percentile bootstrap); none of fewer than three."""
    pairs = min(len(ours), len(peer))
    if pairs < 3:
        return None
    drawn = np.random.default_rng(RESAMPLE_SEED).integers(0, pairs, (RESAMPLES, pairs))
    medians = (np.median(np.asarray(side[:pairs])[drawn], axis=1) for side in (ours, peer))
    low, high = np.percentile(ratio(measure, *medians), [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)


def key(measure: Measure, against: Against) -> str:
    """A name for a comparison: the measure's own for its first."""
    if against == measure.against[0]:
        return measure.name
    return f"{measure.name} {against.peer if against.ours == OURS else against.ours}"


def compare(name: str, values: Values) -> list[dict[str, Any]]:
    """Every comparison of a measure whose two sides have values."""
    measure = BY_NAME[name]
    rows = []
    for against in measure.against:
        ours, peer = values.get(against.ours), values.get(against.peer)
        if not ours or not peer:
            continue
        beside = None if against.again is None else ratios_of(measure, values.get(against.again, []), peer)
        target = least(against, beside)
        made = ratios_of(measure, ours, peer)
        rows.append({
            "key": key(measure, against),
            "ours": against.ours,
            "peer": against.peer,
            "pairs": min(len(ours), len(peer)),
            **made,
            "target": target,
            "must": against.must,
            "verdict": None if target is None else "holds" if made["ratio"] >= target else "short",
            **({"peer_again": beside} if beside else {}),
        })  # fmt: skip
    return rows


def ratios_of(measure: Measure, ours: list[float], peer: list[float]) -> dict[str, Any]:
    """The ratio of two sides' medians, its interval, and that of each round; nothing without values."""
    if not ours or not peer:
        return {}
    return {
        "ratio": round(float(ratio(measure, statistics.median(ours), statistics.median(peer))), 3),
        "interval_95": interval(measure, ours, peer),
        "each_round": [round(float(ratio(measure, *pair)), 3) for pair in zip(ours, peer, strict=False)],
    }


def least(against: Against, again: dict[str, Any] | None) -> float | None:
    """The least ratio that holds: the target, or what the peer may be from itself, if that is known and further from 1."""
    reach = (again or {}).get("interval_95")
    if against.target is None or reach is None:
        return None if against.target is None else round(against.target, 3)
    return round(min(against.target, 1 - max(1 - reach[0], reach[1] - 1)), 3)


def medians(values: Values) -> Values:
    """Median, smallest and largest of each side."""
    return {side: [round(float(f(each)), 3) for f in (statistics.median, min, max)] for side, each in values.items()}


def table(measured: dict[str, dict[str, Any]]) -> str:
    """A row for each comparison: medians with smallest and largest value, ratio, interval, target, verdict."""
    heads = ("measure", "unit", "ours", "against", "theirs", "ratio", "95 %", "target", "verdict")
    rows = [heads]
    for name, record in measured.items():
        measure, shown = BY_NAME[name], {side: _span(each) for side, each in record["values"].items()}
        compared = record["comparisons"]
        for row in compared:
            low_high = "-".join(f"{end:.2f}" for end in row["interval_95"]) if row["interval_95"] else "-"
            target = "-" if row["target"] is None else f">= {row['target']:.2f}" + (" must" if row["must"] else "")
            if measure.lower and row["target"]:
                target += f" (<= {1 / row['target']:.2f} of it)"
            rows.append((
                row["key"], measure.unit, shown[row["ours"]], row["peer"], shown[row["peer"]],
                f"{row['ratio']:.2f}", low_high, target, row["verdict"] or "-",
            ))  # fmt: skip
        if not compared:
            rows += [(name, measure.unit, "-", side, span, "-", "-", "-", "-") for side, span in shown.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _span(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.2f} ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else f"{middle:.2f}"


def ratios(measured: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Key -> ratio of everything compared, transformers left out where it stands beside llama.cpp."""
    return {
        row["key"]: row["ratio"]
        for record in measured.values()
        for row in record["comparisons"]
        if row["peer"] != TORCH or LLAMA not in record["values"]
    }
