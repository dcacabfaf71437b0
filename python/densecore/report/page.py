"""One HTML file for one run or several: no request leaves it, and no text inside it is taken for markup.

The file works from a disk. Its policy forbids the network and every script and style but its own, which are named by
their hashes; without scripts nothing is missing but the filter of failures.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from densecore.report import chart, failures, table
from densecore.report.compare import Comparison
from densecore.report.journal import Journal
from densecore.report.markup import element, escape, said
from densecore.report.prices import AIM_COST, AIM_SCORE, Aim, Prices, aims
from densecore.report.published import THREAD_HOUR_SOURCE
from densecore.report.record import ENGINE, EXACT
from densecore.report.summary import Row, rows
from densecore.report.table import percent, short, span
from densecore.runs.replace import write_text


def write(
    path: str | os.PathLike[str],
    journals: Sequence[Journal],
    *,
    prices: Prices | None = None,
    comparisons: Sequence[Comparison] = (),
    title: str | None = None,
) -> Path:
    """Write the page of one run or several, whole or not at all.

    Raises:
        DataError: A journal holds no example, or two runs have one name.
        StorageError: The file cannot be written.
    """
    place = Path(path)
    write_text(place, render(journals, prices=prices, comparisons=comparisons, title=title))
    return place


def render(
    journals: Sequence[Journal],
    *,
    prices: Prices | None = None,
    comparisons: Sequence[Comparison] = (),
    title: str | None = None,
) -> str:
    """The page as text."""
    found, prices = rows(journals), prices or Prices()
    named = title or _title(found)
    style, script = _part("page.css"), _part("page.js")
    beside = {row.run: aims(row, prices) for row in found}
    body = [
        f"<header><h1>{escape(named)}</h1>{_subtitle(found)}</header>",
        _facts(found[0], prices) if len(found) == 1 else "",
        _aim(found, beside, prices),
        f"<h2>Runs</h2>{html_table(table.columns(found, prices), 'Runs')}{_legend(found)}",
        f"<h2>Figures</h2>{_figures(found, beside, prices)}",
        _comparisons(comparisons),
        failures.section(journals, found),
        _provenance(found),
    ]
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(named)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        f"{chr(10).join(part for part in body if part)}\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _part(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _title(found: Sequence[Row]) -> str:
    sets = ", ".join(dict.fromkeys(f"{row.set} {row.split}".strip() for row in found))
    return f"{sets}: {found[0].run}" if len(found) == 1 else f"{sets}: {len(found)} runs"


def _subtitle(found: Sequence[Row]) -> str:
    models = ", ".join(dict.fromkeys(f"{row.model} {row.quantisation}".strip() for row in found))
    counts = sorted({row.n for row in found})
    asked = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    begun = sorted(row.started[:10] for row in found if row.started)
    return element(
        "p", f"{escape(models)}, {asked} questions{f', {escape(begun[0])}' if begun else ''}", class_="quiet"
    )


def _facts(row: Row, prices: Prices) -> str:
    low, high = row.interval
    tiles = [
        (percent(row.accuracy), f"accuracy, {100 * low:.1f} to {100 * high:.1f} (95%)"),
        (short(row.emitted_tokens), "tokens emitted a question"),
        (short(row.latent_steps), "latent steps a question"),
        (f"{short(row.machine_seconds)} s", "of the machine a question"),
        (f"${table.thousand(prices.cost(row))}", "a thousand questions"),
    ]
    if row.metric != EXACT:
        tiles.insert(1, (percent(row.score), f"{row.metric}, {span(row.score_interval)} (95%)"))
    return element(
        "ul", "".join(f"<li><b>{escape(a)}</b><span>{escape(b)}</span></li>" for a, b in tiles), class_="facts"
    )


def html_table(columns: Sequence[table.Column], label: str) -> str:
    """A table that scrolls in its box; cells are texts, not markup."""
    kinds = ["words" if each.text else None for each in columns]
    head = "".join(
        element("th", escape(each.head), scope="col", class_=kind) for each, kind in zip(columns, kinds, strict=True)
    )
    lines = [
        "".join(
            element("td", said(cell) if kind else escape(cell), class_=kind)
            for cell, kind in zip(cells, kinds, strict=True)
        )
        for cells in zip(*(each.cells for each in columns), strict=True)
    ]
    inside = (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )
    return element("div", inside, class_="scroll", role="region", tabindex="0", aria_label=label)


def _legend(found: Sequence[Row]) -> str:
    told = (
        "95% intervals of the accuracy after Wilson. Tokens, latent steps, positions and seconds are means over questions: "
        "seconds from a question to its answer, others being in work meanwhile, s/answer what an answer took of the machine."
    )
    if any(row.errors for row in found):
        told += " A question that ended in an error counts as wrong."
    return element("p", told, class_="note")


def _aim(found: Sequence[Row], beside: dict[str, list[Aim]], prices: Prices) -> str:
    wanted = f"{AIM_SCORE:.0%} of a 70B model's score at under {AIM_COST:.0%} of its cost"
    unpriced = [row for row in found if prices.cost(row) is None]
    note = element("p", f"{escape(table.UNPRICED)}.", class_="note") if unpriced else ""
    if len(unpriced) == len(found):
        return f"<h2>The aim</h2><p>The aim is {escape(wanted)}.</p>{note}"
    if not any(beside.values()):
        sets = ", ".join(dict.fromkeys(row.set for row in found))
        told = f"The aim is {wanted}. No published score of {sets} is known here, so nothing can be said of it."
        return f"<h2>The aim</h2><p>{escape(told)}</p>{note}"
    parts = [_verdict(beside[row.run][0]) for row in found if beside[row.run]]
    listed = [aim for row in found for aim in beside[row.run]]
    columns = [
        table.Column("run", [aim.run for aim in listed], text=True),
        table.Column("beside", [aim.reference.model for aim in listed], text=True),
        table.Column("metric", [aim.reference.metric for aim in listed], text=True),
        table.Column("its score", [percent(aim.reference.score) for aim in listed]),
        table.Column("reached", [percent(aim.share_of_score) for aim in listed]),
        table.Column("95%", [span(aim.interval) for aim in listed]),
        table.Column("USD/1000", [short(1000 * aim.reference_cost) for aim in listed]),
        table.Column("share of it", [percent(aim.share_of_cost) for aim in listed]),
        table.Column("aim", ["pass" if aim.passed else "not reached" for aim in listed], text=True),
        table.Column("how it was asked", [aim.reference.setting for aim in listed], text=True),
        table.Column("source", [f"{aim.reference.source}, {aim.reference.date}" for aim in listed], text=True),
    ]
    listing = html_table(columns, "Published scores") + _assumed(found, listed, prices)
    parts.append(f"<details><summary>Every published score, and what the costs assume</summary>{listing}</details>")
    return f"<h2>The aim: {escape(wanted)}</h2>{''.join(parts)}{note}"


def _verdict(aim: Aim) -> str:
    low, high = aim.interval
    text = (
        f"{percent(aim.share_of_score)} ({100 * low:.1f} to {100 * high:.1f}) of the {percent(aim.reference.score)} of "
        f"{aim.reference.model}, at {percent(aim.share_of_cost)} of its cost."
    )
    word = "Pass" if aim.passed else "Not reached"
    return element(
        "p", f"<b>{word}</b> {said(aim.run)}: {escape(text)}", class_="verdict pass" if aim.passed else "verdict"
    )


def _assumed(found: Sequence[Row], listed: Sequence[Aim], prices: Prices) -> str:
    told = [
        f"The large model is taken to read {read:,g} tokens a question and to write {wrote:,g}."
        for read, wrote in dict.fromkeys((aim.prompt_tokens, aim.output_tokens) for aim in listed)
    ]
    told += [
        f"Its API: ${price.input:g} a million read, ${price.output:g} a million written: {price.source}."
        for price in dict.fromkeys(aim.price for aim in listed)
    ]
    if prices.lm is not None and any(row.answered_by != ENGINE for row in found):
        told.append(
            f"The API that answered: ${prices.lm.input:g} a million read, ${prices.lm.output:g} a million written."
        )
    why = "set by the user" if prices.hour is not None else THREAD_HOUR_SOURCE
    told += [
        f"This machine: ${hourly:g} an hour: {why}."
        for hourly in dict.fromkeys(prices.hourly(row.machine) for row in found if row.answered_by == ENGINE)
    ]
    return element("p", escape(" ".join(told)), class_="note")


def _figures(found: Sequence[Row], beside: dict[str, list[Aim]], prices: Prices) -> str:
    large = chart.one_reference(found, beside)
    numbered = [
        (
            "Accuracy against emitted tokens",
            "Mean tokens a question; whiskers are 95% intervals.",
            chart.by_tokens("tokens", found),
            [table.Column("emitted tokens", [short(row.emitted_tokens) for row in found])],
        ),
    ]
    if any(prices.cost(row) is not None for row in found):
        cost = (
            "Accuracy against cost",
            "Of the machine's time, or what an API took."
            + (" The shaded corner is the aim, a diamond the published score." if large else ""),
            chart.by_cost("cost", found, beside, prices),
            [table.Column("USD/1000", [table.thousand(prices.cost(row)) for row in found])],
        )
        numbered.append(cost)
    shown = []
    for head, caption, drawn, columns in numbered:
        same = [
            table.Column("run", [row.run for row in found], text=True),
            table.Column("accuracy", [percent(row.accuracy) for row in found]),
            table.Column("95%", [span(row.interval) for row in found]),
            *columns,
        ]
        shown.append(_figure(head, caption, drawn, html_table(same, head)))
    order = chart.classes(found)
    if order:
        columns = [table.Column("run", [row.run for row in found], text=True)]
        columns += [table.Column(name, [str(row.failures.get(name, 0)) for row in found]) for name in order]
        drawn = chart.bars("classes", "Failures by class", _counted(found), found)
        if len(found) > 1:  # else each bar has its class's name
            legend = "".join(element("li", escape(name), class_=chart.colour(name, order)) for name in order)
            drawn += element("ul", legend, class_="legend")
        shown.append(
            _figure("Failures by class", "Wrong answers, counted.", drawn, html_table(columns, "Failures by class"))
        )
    return element("div", "".join(shown), class_="figures")


def _counted(found: Sequence[Row]) -> str:
    return "; ".join(
        f"{row.run}: {', '.join(f'{n} {name}' for name, n in row.failures.items()) or 'none'}" for row in found
    )


def _figure(head: str, caption: str, drawn: str, same: str) -> str:
    told = f"<figcaption><b>{escape(head)}</b>{escape(caption)}</figcaption>"
    return element("figure", f"{told}{drawn}<details><summary>The same as a table</summary>{same}</details>")


def _comparisons(comparisons: Iterable[Comparison]) -> str:
    parts = []
    for each in comparisons:
        changes = each.changes[: failures.ROWS]
        columns = [
            table.Column("better", [each.first if change.gained else each.second for change in changes], text=True),
            table.Column("question", [failures.cut(change.first.question, 300) for change in changes], text=True),
            table.Column("right", [failures.cut(change.first.gold, 100) for change in changes], text=True),
            table.Column(each.first, [failures.cut(change.first.prediction, 100) for change in changes], text=True),
            table.Column(each.second, [failures.cut(change.second.prediction, 100) for change in changes], text=True),
        ]
        head = f"{each.first} against {each.second}"
        more = f"<summary>{len(each.changes):,} answers that changed</summary>{html_table(columns, head)}"
        parts.append(f"<h3>{escape(head)}</h3><p>{escape(each.sentence())}.</p><details>{more}</details>")
    return f"<h2>Comparisons</h2>{''.join(parts)}" if parts else ""


def _provenance(found: Sequence[Row]) -> str:
    parts = []
    for row in found:
        facts = {
            "command": row.command,
            "program": row.program,
            "set": f"{row.set} {row.split}".strip(),
            "model": f"{row.model} {row.quantisation}".strip(),
            "model's hash": row.model_hash,
            "seed": row.seed,
            "settings": ", ".join(f"{name} = {value}" for name, value in row.settings.items()),
            "machine": ", ".join(f"{name} {value}" for name, value in row.machine.items()),
            "versions": ", ".join(f"{name} {version}" for name, version in row.versions.items()),
            "started": row.started,
        }
        listed = "".join(
            f"<dt>{escape(name)}</dt><dd>{said(value)}</dd>" for name, value in facts.items() if value != ""
        )
        opened = " open" if len(found) == 1 else ""
        parts.append(f'<details class="row"{opened}><summary>{said(row.run)}</summary><dl>{listed}</dl></details>')
    return f"<h2>How it was made</h2>{''.join(parts)}"
