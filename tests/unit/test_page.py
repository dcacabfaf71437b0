"""The page of a run: whole, alone, safe, and readable by everybody; its charts, and plots as files."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.journals import HOSTILE, four, journal, outcomes, synthetic, three

from densecore import report
from densecore.errors import ArgumentError, DataError, MissingExtraError, StorageError
from densecore.report import chart, failures, markup, page, plots, summary, table
from densecore.report.prices import Prices
from densecore.report.published import F1

# ---- the page ----


VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checked(HTMLParser):
    """Elements that open and close in order; what a reader can see apart from scripts and styles."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.attributes, self.seen = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.seen.append(data)


@pytest.fixture
def made(tmp_path):
    """A page of three runs with a comparison, as text and as it is parsed."""
    runs = three(tmp_path)
    text = page.render(runs, comparisons=[report.compare(runs[2], runs[0])])
    return runs, text, Checked(text)


def test_the_page_is_whole_and_alone(made):
    _, text, parsed = made
    assert text.startswith("<!doctype html>")
    assert {
        tag: parsed.tags.count(tag) for tag in ("html", "head", "body", "main", "h1", "script", "style")
    } == dict.fromkeys(("html", "head", "body", "main", "h1", "script", "style"), 1)
    assert len(parsed.ids) == len(set(parsed.ids))
    loads = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href", "style"}
    assert not [found for found in parsed.attributes if found[1] in loads or found[1].startswith("on")]
    # No address anywhere but in what a question says, and there as text.
    outside = text.replace(markup.escape(HOSTILE[4]), "")
    assert not re.findall(r"https?:|//[a-z]|url\(|@import", outside)


def test_the_policy_names_the_very_script_and_style(made):
    _, text, parsed = made
    (policy,) = [value for tag, name, value in parsed.attributes if name == "content" and "default-src" in value]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, word in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{word} 'sha256-{digest}'" in policy


def test_hostile_texts_are_only_texts(made):
    _, text, parsed = made
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", text)
    seen = "".join(parsed.seen)
    assert "</script><script>document.title" in seen
    assert "[U+202E]right to left[U+202C]" in seen
    assert "[U+0000] nul" in seen
    assert "[U+D800] half a pair" in seen
    assert "TokenizerError: <b>no</b>" in seen
    assert not {"img", "a", "b:no"} & set(parsed.tags)


def test_the_page_shows_every_failure_with_its_class(made):
    runs, _, parsed = made
    wrong = [summary.failure(each) for run in runs for each in run.examples if not each.correct]
    shown = [value for tag, name, value in parsed.attributes if (tag, name) == ("details", "data-class")]
    assert sorted(shown) == sorted(wrong)
    for row in report.rows(runs):
        for name, count in row.failures.items():
            assert f"{name} {count}" in parsed.seen


def test_charts_can_be_read_without_seeing_them(made):
    runs, text, parsed = made
    charts = re.findall(r"<svg role=\"img\".*?</svg>", text, re.DOTALL)
    assert len(charts) == 3
    for drawn in charts:
        (named,) = re.findall('aria-labelledby="([^"]+)"', drawn)
        assert set(named.split()) <= set(parsed.ids)
        assert all(f'<{tag} id="{each}"' in drawn for tag, each in zip(("title", "desc"), named.split(), strict=True))
        told = re.search(r"<desc[^>]*>(.*?)</desc>", drawn)[1]
        assert all(run.header.run in told for run in runs)
    assert text.count("<summary>The same as a table</summary>") == 3


def test_the_page_names_its_numbers_and_their_sources(made):
    runs, _, parsed = made
    seen = "".join(parsed.seen)
    for row in report.rows(runs):
        assert table.percent(row.accuracy) in seen
        assert row.command in seen
        assert row.model_hash in seen
    for reference in report.REFERENCES:
        assert (reference.source in seen) == (reference.set == "gsm8k")
    assert seen.count("Not reached") == 3
    assert "plan_solve_latent against zero_shot" in seen


def test_a_page_of_one_run(tmp_path):
    (run,) = [synthetic(tmp_path / "only.jsonl", set="svamp", metric=F1)]
    place = page.write(tmp_path / "out" / "page.html", [run], title='A <title> & "more"')
    parsed = Checked(place.read_text(encoding="utf-8"))
    seen = "".join(parsed.seen)
    assert 'A <title> & "more"' in seen
    assert "No published score of svamp" in seen
    assert "US dollars a thousand questions" in seen


def test_a_page_without_failures_and_one_with_too_many(tmp_path, monkeypatch):
    perfect = page.render([outcomes(tmp_path / "a.jsonl", [1, 1])])
    assert "No answer was wrong" in perfect
    Checked(perfect)
    monkeypatch.setattr(failures, "ROWS", 3)
    cut = Checked(page.render([outcomes(tmp_path / "b.jsonl", [0] * 5)]))
    assert "The first 3 are shown; the journal holds all." in cut.seen
    assert sum(name == "data-class" and tag == "details" for tag, name, _ in cut.attributes) == 3


def test_the_page_refuses_what_it_cannot_show(tmp_path):
    with pytest.raises(DataError, match="no example"):
        page.render([journal(tmp_path / "a.jsonl", [])])
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        page.write(tmp_path / "file" / "page.html", [four(tmp_path / "b.jsonl")])


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_texts_stand_out_in_both_schemes():
    style = Path(page.__file__).with_name("page.css").read_text(encoding="utf-8")
    light, dark = style.split("@media (prefers-color-scheme: dark)", 1)
    for part in (light, dark.split("*, ::before", 1)[0]):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", part))
        pairs = [(ink, ground) for ink in ("ink", "quiet", "good", "bad") for ground in ("ground", "card")]
        pairs += [("on", f"k{i}") for i in range(chart.COLOURS)]
        for ink, ground in pairs:
            one, other = sorted((luminance(colours[ink]), luminance(colours[ground])))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (ink, ground)


# ---- charts and plots ----


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [0.3, 0.31], [1e-9, 1e9], [0.0, 412.0], [-2.0, 3.0]])
def test_scales_hold_their_values_and_few_ticks(values):
    scales = [chart.linear(values, 0, 100)]
    if min(values) > 0:
        scales.append(chart.logarithmic(values, 0, 100))
    for scale in scales:
        assert 2 <= len(scale.ticks) <= 8
        for value in values:
            assert -1e-6 <= scale(value) <= 100 + 1e-6


def test_names_beside_points_do_not_cover_each_other():
    taken = []
    for i in range(4):
        chart._label(f"run {i}", 100, 100, taken)
    assert len(taken) == 4
    assert all(chart._shared(a, b) == 0 for i, a in enumerate(taken) for b in taken[:i])


def test_the_same_class_has_the_same_colour_on_every_page():
    assert chart.colour("format", ["format"]) == chart.colour("format", ["arithmetic", "other", "format"])
    many = [*chart.CLASSES, *(f"class {i}" for i in range(9))]
    shades = [chart.colour(name, many) for name in many]
    assert len(set(shades[: len(chart.CLASSES) + 1])) == len(chart.CLASSES) + 1
    assert set(shades) <= {f"k{i}" for i in range(chart.COLOURS)}


def test_plots_are_files_where_matplotlib_is_installed(tmp_path):
    rows = report.rows(three(tmp_path / "runs"))
    with pytest.raises(ArgumentError, match="gif"):
        plots.write(tmp_path, rows, kind="gif")
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(MissingExtraError, match=re.escape("densecore[report]")):
            plots.write(tmp_path, rows)
        return
    made = plots.write(tmp_path / "plots", rows) + plots.write(tmp_path / "plots", rows[:1], kind="svg")
    assert [path.name for path in made[:3]] == ["accuracy_tokens.png", "accuracy_cost.png", "failures.png"]
    for path in made:
        assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")

    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plots._cost(axes, rows, Prices())
    (area,) = [each for each in axes.collections if each.get_label() == "the aim"]
    box = area.get_datalim(axes.transData)
    assert box.x0 == pytest.approx(axes.get_xlim()[0])
    assert (box.x1, box.y0) == (pytest.approx(5), pytest.approx(90 * 0.951))
    assert box.x0 < box.x1 < 100 < axes.get_xlim()[1]
