"""Generated problems: right, varied, the same everywhere, and never in two splits."""

from __future__ import annotations

import ast
import re
from collections import Counter
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from densecore import data
from densecore.data import problems, stories


def computed(text):
    """An independent calculator: numbers, + - * / and brackets, exactly."""
    signs = {ast.Add: "__add__", ast.Sub: "__sub__", ast.Mult: "__mul__", ast.Div: "__truediv__"}

    def value(node):
        if isinstance(node, ast.BinOp):
            return getattr(value(node.left), signs[type(node.op)])(value(node.right))
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        return Fraction(ast.get_source_segment(text, node))

    return value(ast.parse(text, mode="eval").body)


@settings(max_examples=300)
@given(split=st.sampled_from(problems.SPLITS), index=st.integers(0, 10**9), seed=st.integers(0, 2**64 - 1))
def test_every_solution_is_right(split, index, seed):
    row = problems.problem(split, index, seed)
    *steps, last = row.solution.split("\n")
    assert 1 <= len(steps) <= 4
    known = Counter(re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", row.question))
    for step in steps:
        left, right = re.search(r"([-(\d][-\d.()+*/ ]*) = (-?\d+(?:\.\d+)?)", step).groups()
        assert computed(left) == Fraction(right), step
        for figure in re.findall(r"\d+(?:\.\d+)?", left):
            # Nothing comes from nowhere: figures of the question, results so far, and constants a reader knows.
            assert {figure, f"-{figure}", f"{float(figure):.2f}"} & set(known) or figure in {"2", "3", "100"}, step
        known[right] += 1
    assert last == f"#### {right}"
    assert row.answers == (right,)
    assert not re.search(r"\.0$|\.\d*0$|^-0$|\d{9}", row.answer)
    assert row == problems.problem(split, index, seed)


def test_problems_are_the_same_on_every_machine():
    """A change here changes what was measured on these rows: give the set another name instead."""
    first, *_, last = data.load("problems", "dev", limit=7)
    assert first.question == (
        "Yusuf shares 1325 sponges equally among 25 children. How many sponges does each child get?"
    )
    assert last.solution == "The coins cost 18 * 1.5 = 27 dollars.\nChen gets 50 - 27 = 23 dollars back.\n#### 23"
    assert last.id == "problems-dev-0-6"


def test_problems_vary():
    rows = data.load("problems", "train", limit=1500)
    steps = Counter(row.solution.count("\n") for row in rows)
    assert set(steps) == {1, 2, 3, 4}
    assert min(steps.values()) > 100
    assert sum(row.answer.startswith("-") for row in rows) > 100
    assert sum("." in row.answer for row in rows) > 300
    assert len({row.question for row in rows}) == len(rows) == len({row.id for row in rows})
    shapes = {re.sub(r"[A-Z][a-z]+|-?\$?\d+(?:\.\d+)?", "", row.solution.split("\n")[0])[:12] for row in rows}
    assert len(stories.STORIES) >= 12
    assert len(shapes) >= 12


def test_more_problems_begin_with_the_same_ones_and_seeds_differ():
    ten = data.load("problems", "select", limit=10, seed=5)
    assert data.load("problems", "select", limit=30, seed=5)[:10] == ten
    assert not {row.question for row in ten} & {
        row.question for row in data.load("problems", "select", limit=30, seed=6)
    }
    assert len(data.load("problems", "select")) == problems.SIZE


def test_no_problem_is_in_two_splits():
    """Also across seeds, and with names and things left aside."""

    def bare(row):
        words = re.sub(
            "|".join(sorted((*stories._NAMES, *stories._THINGS, *stories._TOWNS), key=len)[::-1]), "_", row.question
        )
        return re.sub("|".join((*stories._FRUIT, *stories._FLOWERS, *stories._CONTAINERS)), "_", words)

    splits = {
        split: {bare(row) for seed in range(3) for row in data.load("problems", split, limit=400, seed=seed)}
        for split in problems.SPLITS
    }
    seen = Counter(question for questions in splits.values() for question in questions)
    assert max(seen.values()) == 1


def test_questions_do_not_come_twice(monkeypatch):
    """With one story that knows five questions only, the rows are those five."""

    def few(draw):
        number = draw.whole(1, 5)
        return stories.Story(f"What is {number} + 0?", (f"It is {number} + 0 = {number}.",), str(number))

    monkeypatch.setattr(problems, "STORIES", (few,))
    monkeypatch.setattr(problems, "_home", lambda *_: "dev")
    assert sorted(row.answer for row in problems.rows("dev", 5)) == ["1", "2", "3", "4", "5"]
