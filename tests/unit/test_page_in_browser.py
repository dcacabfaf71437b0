"""The page of a run in a real browser: on a telephone and a desk, light and dark, with scripts and without."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.browser import Browser, View, find
from tests.journals import synthetic

from densecore import report
from densecore.report import page

PROGRAM = find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here; on Debian: apt-get install chromium")
SHOTS = os.environ.get("DENSECORE_SHOTS")  # a folder for screenshots, to look at them
SIZES = [(width, scheme) for width in (360, 1280) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(PROGRAM, tmp_path_factory.mktemp("browser") / "profile")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        synthetic(folder / "zero_shot.jsonl", share=0.35, tokens=90, seed=1),
        synthetic(folder / "chain_of_thought_with_a_long_name.jsonl", share=0.53, tokens=170, seed=2),
        synthetic(folder / "plan_solve.jsonl", share=0.58, tokens=3, latent=12, seed=3),
    ]


@pytest.fixture(scope="module")
def pages(tmp_path_factory, runs):
    """A page of several runs and one of a single run."""
    folder = tmp_path_factory.mktemp("pages")
    return {
        "several": page.write(folder / "several.html", runs, comparisons=[report.compare(runs[2], runs[0])]),
        "single": page.write(folder / "single.html", runs[2:]),
    }


OVERFLOW = """
(() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const wide = document.documentElement.clientWidth;
  const out = [...document.querySelectorAll("main *")].filter((element) =>
    element.getBoundingClientRect().right > wide + 1 && !element.closest(".scroll table") && !element.closest("svg"));
  return { wide, scroll: document.documentElement.scrollWidth, out: out.map((element) => element.outerHTML.slice(0, 200)) };
})()
"""
LUMINANCE = """
(() => {
  const light = (colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number); return 0.3 * r + 0.6 * g + 0.1 * b; };
  const style = getComputedStyle(document.body);
  return [light(style.backgroundColor), light(style.color)];
})()
"""


@pytest.mark.parametrize("kind", ["several", "single"])
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_fits_and_is_quiet(browser, pages, tmp_path, kind, width, scheme):
    view = View(browser, pages[kind], width, scheme)
    if SHOTS:
        shot = tmp_path / f"{kind}_{width}_{scheme}.png"
        view.screenshot(shot)
        shutil.copy(shot, Path(SHOTS))
    fit = view.value(OVERFLOW)
    assert fit["wide"] == width
    assert fit["scroll"] <= width
    assert fit["out"] == []
    ground, ink = view.value(LUMINANCE)
    assert (ground > 200 and ink < 80) if scheme == "light" else (ground < 60 and ink > 180)
    assert view.value("getComputedStyle(document.querySelector('main')).maxWidth") != "none"  # the style was let in
    assert view.complaints() == []
    assert list(view.requests().values()) == [view.address]


def test_texts_are_large_enough_on_a_telephone(browser, pages):
    view = View(browser, pages["several"], 360, "light")
    scales = (
        "[...document.querySelectorAll('svg')].map((s) => s.getBoundingClientRect().width / s.viewBox.baseVal.width)"
    )
    smallest = 12 * min(view.value(scales))
    assert smallest >= 9.5
    assert (
        view.value("Math.min(...[...document.querySelectorAll('button')].map((b) => b.getBoundingClientRect().height))")
        >= 36
    )


def test_wide_tables_scroll_in_their_box(browser, pages):
    view = View(browser, pages["several"], 360, "light")
    box = "document.querySelector('h2 + .scroll')"
    assert view.value(f"{box}.scrollWidth > {box}.clientWidth")
    assert view.value(f"({box}.scrollLeft = 50, {box}.scrollLeft)") == 50
    assert view.value("window.scrollX") == 0


SHOWN = "[...section.querySelectorAll('details.row')].filter((row) => row.getClientRects().length > 0)"


def test_the_filter_shows_one_class_at_a_time(browser, pages, runs):
    view = View(browser, pages["several"], 1280, "light")
    view.value("globalThis.section = document.querySelectorAll('[data-failures]')[1]; 0")
    wrong = report.row(runs[1]).failures
    everything = sum(wrong.values())
    assert view.value(f"{SHOWN}.length") == everything
    assert view.value(
        "[...section.querySelectorAll('.filter button')].every((each) => each.getClientRects().length > 0)"
    )
    for name, count in wrong.items():
        view.value(f"section.querySelector('button[data-class=\"{name}\"]').click()")
        assert view.value(f"{SHOWN}.map((row) => row.dataset.class)") == [name] * count
        assert view.value("section.querySelector('[role=status]').textContent") == f"{count} of {everything} shown"
        assert view.value("[...section.querySelectorAll('[aria-pressed=true]')].map((b) => b.dataset.class)") == [name]
    view.value("section.querySelector('button').click()")
    assert view.value(f"{SHOWN}.length") == everything
    others = "[...document.querySelectorAll('[data-failures]')[0].querySelectorAll('details.row')]"
    assert view.value(f"{others}.every((row) => row.getClientRects().length > 0)")  # a filter is of one run


def test_without_scripts_every_failure_is_there(browser, pages, runs):
    view = View(browser, pages["several"], 1280, "light", scripts=False)
    root = view.ask("DOM.getDocument")["root"]["nodeId"]

    def nodes(selector):
        return view.ask("DOM.querySelectorAll", nodeId=root, selector=selector)["nodeIds"]

    assert len(nodes("details.row[data-class]")) == sum(row.n - row.correct for row in report.rows(runs))
    assert nodes("details.row[data-class][hidden]") == []
    filters = "[...document.querySelectorAll('.filter')]"  # nothing is offered that would not work
    assert view.value(f"{filters}.map((each) => each.getClientRects().length)") == [0, 0, 0]


def test_hostile_texts_do_nothing(browser, pages):
    view = View(browser, pages["several"], 1280, "light")
    assert view.value("document.title") == "gsm8k dev: 3 runs"
    assert view.value("document.querySelectorAll('img, a, iframe, object, embed, link, base, form').length") == 0
    assert view.value("document.scripts.length") == 1
    assert view.value(
        "[...document.querySelectorAll('pre')].some((pre) => pre.textContent.startsWith('</script><script>'))"
    )


def test_a_script_that_got_in_would_not_run(browser, pages, tmp_path):
    text = pages["single"].read_text(encoding="utf-8")
    broken = tmp_path / "broken.html"
    attack = (
        "<script>document.title = 'taken over'</script><img src='https://example.invalid/x.png' onerror='alert(1)'>"
    )
    broken.write_text(text.replace("</main>", f"{attack}</main>"), encoding="utf-8")
    view = View(browser, broken, 1280, "light")
    assert view.value("document.title") != "taken over"
    assert view.blocked() == ["https://example.invalid/x.png"]
    assert len(view.complaints()) >= 2  # so the test above would have seen a complaint
