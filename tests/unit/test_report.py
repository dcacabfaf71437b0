"""What `densecore.report` makes of journals: rows, costs, comparisons, tables, and the command."""

from __future__ import annotations

import errno
import io
import json
import math
import re
import sys

import pytest
from tests.journals import example, four, journal, outcomes, three

from densecore import report
from densecore.errors import ArgumentError, DataError, StorageError
from densecore.report import page, plots, summary, table
from densecore.report.__main__ import main
from densecore.report.prices import AIM_COST, Prices, aims
from densecore.report.published import F1, Price, Reference
from densecore.report.record import EXACT
from densecore.runs import replace

Journal = report.Journal


# ---- summaries ----


def test_a_row_is_what_one_counts_by_hand(tmp_path):
    row = report.row(four(tmp_path / "a.jsonl"))
    assert (row.run, row.n, row.correct, row.accuracy, row.score) == ("a", 4, 3, 0.75, 0.75)
    assert row.interval == pytest.approx((0.300642, 0.954413), abs=1e-5)  # Wilson by hand
    assert (row.emitted_tokens, row.latent_steps, row.prompt_tokens, row.positions) == (25, 1.5, 100, 7)
    assert row.seconds == 8.0
    assert row.machine_seconds == 25 / 4  # 0 to 15 and 100 to 110
    assert row.failures == {"arithmetic": 1}


def test_a_run_without_clock_counts_each_question_whole(tmp_path):
    made = four(tmp_path / "a.jsonl")
    stripped = [each.__class__(**{**each.__dict__, "ended": 0.0}) for each in made.examples]
    assert report.row(Journal(made.path, made.header, stripped)).machine_seconds == 8.0


def test_time_in_company_is_shared_and_pauses_do_not_count(tmp_path):
    spans = [(1.0, 11.0), (2.0, 3.0), (6.0, 13.0), (21.0, 22.0)]
    made = journal(tmp_path / "a.jsonl", [example(i, seconds=b - a, ended=b) for i, (a, b) in enumerate(spans)])
    assert report.row(made).machine_seconds == 13 / 4
    assert report.row(made).seconds == 19 / 4


def test_scores_and_errors_have_their_own_numbers(tmp_path):
    made = journal(
        tmp_path / "a.jsonl",
        [
            example(0, score=1.0, scores={"dspy": 1.0}),
            example(1, correct=False, score=0.5, scores={"dspy": 0.0}),
            example(2, correct=False, score=0.0, failure="format", error="OverloadedError: no room"),
        ],
        metric=F1,
    )
    row = report.row(made)
    assert (row.accuracy, row.score, row.errors, row.scores) == (1 / 3, 0.5, 1, {"dspy": 0.5})
    assert row.failures == {"error": 1, "other": 1}
    low, high = row.score_interval
    assert 0.0 <= low < 0.5 < high <= 1.0


def test_no_example_and_one_name_twice_are_refused(tmp_path):
    with pytest.raises(DataError, match="no example"):
        report.row(journal(tmp_path / "a.jsonl", []))
    made = four(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match="'b'"):
        report.rows([made, made])


def test_the_summary_has_what_a_result_needs(tmp_path):
    made = summary.write(tmp_path / "results" / "gsm8k.json", [four(tmp_path / "a.jsonl")], prices=Prices(hour=3.6))
    assert json.loads((tmp_path / "results" / "gsm8k.json").read_text()) == json.loads(json.dumps(made))
    (row,) = made["rows"]
    wanted = {"run", "n", "accuracy", "interval", "emitted_tokens", "latent_steps", "positions", "seconds"}
    assert wanted <= set(row)
    assert {"command", "seed", "model_hash", "machine"} <= set(made)
    assert row["usd"] == pytest.approx(25 / 4 * 3.6 / 3600)
    assert row["aims"][0]["reference"]["source"]


def test_rows_of_other_runs_stay_when_asked(tmp_path):
    place = tmp_path / "all.json"
    summary.write(place, [four(tmp_path / "a.jsonl"), four(tmp_path / "b.jsonl")])
    second = journal(tmp_path / "new" / "a.jsonl", [example(0)])
    made = summary.write(place, [second, four(tmp_path / "c.jsonl")], keep=True)
    assert [(row["run"], row["n"]) for row in made["rows"]] == [("a", 1), ("b", 4), ("c", 4)]
    assert [row["run"] for row in summary.write(place, [second])["rows"]] == ["a"]


def test_comparisons_of_other_pairs_stay_when_asked(tmp_path):
    def pair(first, second):
        runs = [outcomes(tmp_path / folder / f"{folder[0]}.jsonl", right) for folder, right in (first, second)]
        compared = [report.compare(*runs)]
        return summary.write(tmp_path / "all.json", runs, keep=True, comparisons=compared)["comparisons"]

    pair(("a1", [1, 1, 0, 0]), ("b1", [1, 0, 1, 0]))
    pair(("a2", [1, 1, 0, 0]), ("c2", [0, 0, 0, 0]))
    found = pair(("a3", [1, 1, 1, 0]), ("b3", [1, 0, 1, 0]))
    assert [(each["first"], each["second"], each["won"], each["lost"]) for each in found] == [
        ("a", "b", 1, 0), ("a", "c", 2, 0),
    ]  # fmt: skip
    assert found[0]["changes"] == {"a": ["dev-1"], "b": []}
    assert json.loads((tmp_path / "all.json").read_text())["comparisons"] == found


def test_a_run_made_anew_takes_its_old_comparisons_with_it(tmp_path):
    def written(folder, names, compared=True, count=4, **facts):
        runs = [
            journal(tmp_path / folder / f"{name}.jsonl", [example(i) for i in range(count)], **facts) for name in names
        ]
        pairs = [report.compare(runs[0], other) for other in runs[1:]] if compared else []
        found = summary.write(tmp_path / "all.json", runs, keep=True, comparisons=pairs)["comparisons"]
        return [(each["first"], each["second"]) for each in found]

    assert written("one", "ab", started="2026-01-01") == [("a", "b")]
    assert written("two", "ac", started="2026-01-01") == [("a", "b"), ("a", "c")]
    assert written("three", "c", compared=False, started="2026-02-02") == [("a", "b")]
    assert written("four", "b", compared=False, count=5, started="2026-01-01") == []


@pytest.mark.parametrize(
    "held",
    [
        '{"rows": [], "comparisons": [{"first": "a"}]}',
        "{",
        "[]",
        '{"rows": 3}',
        '{"rows": [{}]}',
        '{"rows": [{"run": 1}]}',
    ],
)
def test_rows_are_kept_of_summaries_only(tmp_path, held):
    place = tmp_path / "all.json"
    place.write_text(held)
    with pytest.raises(DataError, match="no summary"):
        summary.write(place, [four(tmp_path / "a.jsonl")], keep=True)
    assert place.read_text() == held


def test_a_summary_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    place = tmp_path / "all.json"
    place.write_text("before")
    made = four(tmp_path / "a.jsonl")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(replace.os, "replace", fail)
    with pytest.raises(StorageError, match="Input/output"):
        summary.write(place, [made])
    assert place.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "all.json"]


# ---- prices and the aim ----


def at(row, **changes):
    return row.__class__(**{**row.__dict__, **changes})


def test_costs_are_what_one_counts_by_hand(tmp_path):
    row = report.row(four(tmp_path / "a.jsonl"))
    prices = Prices(hour=3.6, large=Price(1.0, 2.0), api={})
    assert prices.cost(row) == pytest.approx(0.00625)
    aim = aims(row, prices)[0]
    assert aim.reference_cost == pytest.approx((61 * 1.0 + 91 * 2.0) / 1e6)
    assert aim.share_of_cost == pytest.approx(0.00625 / 0.000243)
    assert aim.share_of_score == pytest.approx(0.75 / 0.951)
    told = aims(row, prices.set(prompt_tokens=1000, output_tokens=500))[0]
    assert told.reference_cost == pytest.approx(0.002)
    unknown = Reference("large", "gsm8k", EXACT, 0.9, "", "", "2026-01-01")
    assert aims(row, prices, (unknown,))[0].reference_cost == pytest.approx((100 * 1.0 + 25 * 2.0) / 1e6)


def test_what_an_api_answered_costs_what_it_takes(tmp_path):
    """And nobody knows what that is, but the user."""
    row = at(report.row(four(tmp_path / "a.jsonl")), answered_by="api")
    assert Prices().cost(row) is None
    assert Prices(hour=1.0).cost(row) is None, "nobody rents that machine"
    assert aims(row, Prices()) == [], "no verdict on a cost that is not known"
    priced = Prices().set(lm_input=10.0, lm_output=40.0)
    assert priced.cost(row) == pytest.approx((100 * 10.0 + 25 * 40.0) / 1e6)
    assert priced.set(lm_output=0.0).cost(row) == pytest.approx(100 * 10.0 / 1e6)
    assert not aims(row, priced)[0].passed
    assert priced.cost(at(row, answered_by="engine")) == Prices().cost(at(row, answered_by="engine"))
    own = at(row, answered_by="server")
    assert Prices().cost(own) is None
    assert Prices(hour=3.6).cost(own) == pytest.approx(0.00625)
    with pytest.raises(ArgumentError, match="lm_input and lm_output"):
        Prices().set(lm_input=1.0)
    with pytest.raises(ArgumentError, match="lm_output"):
        Prices().set(lm_input=1.0, lm_output=-1.0)


@pytest.mark.parametrize("many", [False, True])
def test_unknown_costs_are_shown_as_unknown(tmp_path, many):
    made = [four(tmp_path / "a.jsonl", answered_by="api")]
    made += [four(tmp_path / "b.jsonl", run="here")] if many else []
    assert "lm_input" in table.report(report.rows(made), Prices(), stream=io.StringIO())
    shown = page.render(made)
    assert "lm_input" in shown
    assert ("Accuracy against cost" in shown) == many
    told = summary.document(made, Prices())["rows"][0]
    assert (told["usd"], told["aims"], told["answered_by"]) == (None, [], "api")
    plots.write(tmp_path / "plots", report.rows(made))


def test_the_hour_is_the_threads_or_the_users(tmp_path):
    row = report.row(four(tmp_path / "a.jsonl"))
    assert Prices().hourly(row.machine) == pytest.approx(0.0816)
    assert Prices(hour=5).hourly(row.machine) == 5
    assert Prices().hourly({}) == pytest.approx(0.0408)


@pytest.mark.parametrize(
    ("accuracy", "seconds", "passed"),
    [(0.90, 4.0, True), (0.8999, 4.0, False), (0.95, 5.0, False), (0.95, 4.99, True), (0.95, 6.0, False)],
)
def test_the_aim_is_ninety_percent_under_five(tmp_path, accuracy, seconds, passed):
    reference = Reference("large", "GSM-8K", EXACT, 1.0, "", "", "2026-01-01")
    row = at(report.row(four(tmp_path / "a.jsonl")), accuracy=accuracy, machine_seconds=seconds, prompt_tokens=1e6)
    (aim,) = aims(row, Prices(hour=36, large=Price(1.0, 0.0)), (reference,))  # a second costs a cent
    assert (aim.share_of_cost < AIM_COST, aim.passed) == (seconds < 5.0, passed)


def test_a_free_large_model_is_beyond_reach(tmp_path):
    row = report.row(four(tmp_path / "a.jsonl"))
    aim = aims(row, Prices(large=Price(0, 0), api={}))[0]
    assert not aim.passed
    assert math.isinf(aim.share_of_cost)
    assert json.loads(json.dumps(aim.record(), allow_nan=False))["share_of_cost"] is None


def test_f1_is_compared_with_f1(tmp_path):
    plain = report.row(four(tmp_path / "a.jsonl", set="hotpotqa"))
    overlap = report.row(four(tmp_path / "b.jsonl", set="HotPotQA", metric=F1))
    assert [aim.reference.metric for aim in aims(plain, Prices())] == [EXACT]
    assert [(aim.reference.metric, aim.reached) for aim in aims(overlap, Prices())] == [(EXACT, 0.75), (F1, 0.875)]
    assert aims(report.row(four(tmp_path / "c.jsonl", set="svamp")), Prices()) == []


def test_published_scores_name_their_source():
    for reference in report.REFERENCES:
        assert 0.0 < reference.score < 1.0
        assert len(reference.source) > 20
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", reference.date)
        assert "70B" in reference.model or "72B" in reference.model


@pytest.mark.parametrize("kind", ["json", "toml"])
def test_prices_come_from_a_file(tmp_path, kind):
    place = tmp_path / f"prices.{kind}"
    if kind == "toml":
        if sys.version_info < (3, 11):
            place.write_text("hour = 1\n")
            with pytest.raises(ArgumentError, match="JSON"):
                Prices.read(place)
            return
        place.write_text('hour = 0.2\ninput = 3\n[models."Llama 3.1 70B Instruct"]\ninput = 1\noutput = 2\n')
    else:
        models = {"Llama 3.1 70B Instruct": {"input": 1, "output": 2}}
        place.write_text(json.dumps({"hour": 0.2, "input": 3, "models": models}))
    prices = Prices.read(place)
    assert prices.hour == 0.2
    assert prices.of("Llama 3.1 70B Instruct").cost(1e6, 1e6) == 3
    assert prices.of("Llama 3.3 70B Instruct").input == prices.of("Qwen2.5 72B Instruct").input == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "prices.json"),
        ("[1]", "names and numbers"),
        ('{"hour": -1}', "hour = -1"),
        ('{"hour": "much"}', "hour = 'much'"),
        ('{"hours": 1}', "'hours' is not known"),
        ('{"models": {"m": {"input": 1}}}', "needs input and output"),
        ('{"models": {"m": {"price": 1}}}', "'price' is not known"),
        ('{"models": 3}', "models"),
    ],
)
def test_prices_that_cannot_be_right_are_refused(tmp_path, text, said):
    place = tmp_path / "prices.json"
    place.write_text(text)
    with pytest.raises(ArgumentError, match=re.escape(said)):
        Prices.read(place)
    with pytest.raises(StorageError):
        Prices.read(tmp_path / "none.json")


# ---- comparisons ----


def test_a_comparison_is_what_one_counts_by_hand(tmp_path):
    first = outcomes(tmp_path / "a.jsonl", [1, 1, 1, 1, 1, 1, 0, 0, 0, 0])
    second = outcomes(tmp_path / "b.jsonl", [1, 1, 1, 0, 0, 0, 1, 0, 0, 0])
    found = report.compare(first, second)
    assert (found.n, found.won, found.lost, found.accuracy) == (10, 3, 1, (0.6, 0.4))
    assert found.difference == pytest.approx(0.2)
    assert found.p == pytest.approx(0.625)  # 2 * (1 + 4) / 2**4
    low, high = found.interval
    assert low < 0 < 0.2 < high
    assert not found.significant
    assert [(change.first.id, change.gained) for change in found.changes] == [
        ("dev-3", True), ("dev-4", True), ("dev-5", True), ("dev-6", False),
    ]  # fmt: skip
    assert report.compare(first, second) == found
    assert "3 won and 1 lost of 10" in found.sentence()


def test_a_clear_difference_is_called_one(tmp_path):
    first, second = outcomes(tmp_path / "a.jsonl", [1] * 40), outcomes(tmp_path / "b.jsonl", [1, 0] * 20)
    found = report.compare(first, second)
    assert found.significant
    assert found.p == pytest.approx(2 / 2**20)
    same = report.compare(first, outcomes(tmp_path / "c.jsonl", [1] * 40))
    assert (same.difference, same.interval, same.p, same.significant, same.changes) == (0.0, (0.0, 0.0), 1.0, False, ())


def test_other_metrics_are_paired_by_their_score(tmp_path):
    def run(name, scores):
        made = [example(i, correct=score == 1.0, score=score) for i, score in enumerate(scores)]
        return journal(tmp_path / f"{name}.jsonl", made, metric=F1)

    found = report.compare(run("a", [0.5, 0.5, 1.0, 0.5]), run("b", [0.25, 0.25, 1.0, 0.25]))
    assert (found.difference, found.score_difference) == (0.0, pytest.approx(0.1875))
    assert len(found.changes) == 3
    assert "mean f1" in found.sentence()


def test_questions_of_one_run_alone_are_counted_apart(tmp_path):
    first = journal(tmp_path / "a.jsonl", [example(0), example(1), example(2)])
    second = journal(tmp_path / "b.jsonl", [example(2), example(3)])
    found = report.compare(first, second)
    assert (found.n, found.only_first, found.only_second) == (1, 2, 1)


@pytest.mark.parametrize(
    ("facts", "examples", "said"),
    [
        ({"set": "svamp"}, [example(0)], "set 'gsm8k'"),
        ({"metric": F1}, [example(0)], "metric 'exact match'"),
        ({}, [example(0, question="another?")], "another question"),
        ({}, [example(5)], "no example in common"),
    ],
)
def test_only_like_is_compared_with_like(tmp_path, facts, examples, said):
    first = journal(tmp_path / "a.jsonl", [example(0)])
    with pytest.raises(DataError, match=said):
        report.compare(first, journal(tmp_path / "b.jsonl", examples, **facts))


# ---- tables ----


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("room", [30, 60, 80, 200])
def test_a_table_fits_its_terminal_and_keeps_its_numbers(tmp_path, room):
    rows = report.rows(three(tmp_path))
    drawn = table.runs(rows, Prices(), room).splitlines()
    head, *lines = drawn[:4]
    if room >= 60:
        assert max(map(table.width, drawn[:4])) <= room
    for row, shown in zip(rows, lines, strict=True):
        assert table.percent(row.accuracy) in shown
        assert shown.split()[0].rstrip("…") == row.run[: len(shown.split()[0].rstrip("…"))]
    missing = [each.head for each in table.columns(rows, Prices()) if each.head not in head.split()]
    named = [set(line.removeprefix("(no room for: ").removesuffix(")").split(", ")) for line in drawn[4:]]
    assert named == ([set(missing)] if missing else [])
    assert bool(missing) == (room < 100)


def test_a_table_cannot_steer_the_terminal(tmp_path):
    rows = report.rows([four(tmp_path / "a.jsonl", run="\x1b[2Jgone\nrow")])
    shown = table.runs(rows)
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_wide_letters_stand_in_line():
    drawn = table.draw([table.Column("run", ["日本", "ab"], text=True), table.Column("n", ["1", "2"])]).splitlines()
    assert [table.width(line) for line in drawn] == [7, 7, 7]


def test_colours_are_for_terminals(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    rows = report.rows(three(tmp_path))
    assert "\x1b[" not in table.report(rows, Prices(), stream=io.StringIO())
    assert "\x1b[31m" in table.report(rows, Prices(), stream=Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in table.report(rows, Prices(), stream=Terminal())


def test_the_report_says_the_verdict_and_the_comparison(tmp_path):
    made = three(tmp_path)
    shown = table.report(report.rows(made), Prices(), [report.compare(made[2], made[0])], io.StringIO())
    assert shown.count("FAIL") == 3
    assert "Llama 3.1 70B Instruct" in shown
    assert "plan_solve_latent against zero_shot" in shown
    assert re.search(r"run +arithmetic|run +\w", shown)


# ---- the command ----


def test_the_command_shows_compares_and_writes(tmp_path, capsys):
    first, second, _ = (str(run.path) for run in three(tmp_path))
    assert (
        main([first, second, "--compare", "--html", str(tmp_path / "p.html"), "--summary", str(tmp_path / "s.json")])
        == 0
    )
    shown = capsys.readouterr()
    assert "zero_shot against chain_of_thought" in shown.out
    assert "p.html" in shown.err
    assert "zero_shot against chain_of_thought" in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert len(json.loads((tmp_path / "s.json").read_text())["rows"]) == 2


def test_the_command_prints_json(tmp_path, capsys):
    first, second, _ = (str(run.path) for run in three(tmp_path))
    assert main([first, second, "--compare", "--json", "--hour", "1", "--input", "2"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["comparisons"][0]["first"] == "zero_shot"
    assert made["rows"][0]["aims"][0]["price"]["input"] == 2


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    path = str(four(tmp_path / "a.jsonl").path)
    assert main([str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    assert main([path, "--hour", "-3"]) == 2
    assert "hour = -3" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main([path, "--compare"])
    assert caught.value.code == 2
