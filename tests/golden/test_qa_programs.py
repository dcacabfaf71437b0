"""MultiHop and ReAct under real DSPy: what they search, show and answer, with models that are functions and a real one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from densecore import data, errors
from densecore.data import Paragraph
from tests.golden.fixtures import real_path

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")

from densecore.dspy import DenseLM  # noqa: E402
from densecore.programs.multi_hop import MultiHop  # noqa: E402
from densecore.programs.react import ReAct  # noqa: E402
from densecore.programs.task import MATH, QA  # noqa: E402
from densecore.retrieval import Hit  # noqa: E402
from tests.answering import answering  # noqa: E402

QUESTION = "In which city was the director of Harbour Lights born?"
PARAGRAPHS = [
    Paragraph("Cooking", "Salt is used in cooking, in every city."),
    Paragraph("Harbour Lights", "Harbour Lights is a film by Edda Voss."),
    Paragraph("Rowing", "Rowing is a sport."),
    Paragraph("Edda Voss", "Edda Voss comes from Trondheim."),
    Paragraph("Chess", "Chess has 64 squares."),
    Paragraph("Lighthouse", "A lighthouse shows ships the way."),
]
Rule = Callable[[str], dict[str, str]]


def fields(rule: Rule) -> Any:
    """A language model that fills the fields it is asked for; the rule sees the last turn."""

    def say(turns: list[str]) -> str:
        wanted = turns[-1].rpartition("Respond with")[2]
        said = {name: value for name, value in rule(turns[-1]).items() if name in wanted}
        if "JSON" in wanted:
            return json.dumps(said)
        return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in said.items()) + "\n\n[[ ## completed ## ]]"

    return answering(say)


def ask(program: Any, lm: Any, adapter: Any = None, **inputs: Any) -> Any:
    with dspy.context(lm=lm, adapter=adapter or dspy.ChatAdapter()):
        return program(**(inputs or {"question": QUESTION, "paragraphs": PARAGRAPHS}))


def turns(lm: Any) -> list[str]:
    """The last turn of every conversation so far."""
    return [asked[-1] for asked, _ in lm.engine.asked]


def acts(*steps: tuple[str, str]) -> Rule:
    """A rule that takes these steps one after another, then finishes with none; its answer is `asked for`."""

    def rule(turn: str) -> dict[str, str]:
        done = len(re.findall(" -> ", turn))
        tool, given = steps[done] if done < len(steps) else ("finish", "")
        return {"thought": f"T{done}.", "tool": tool, "tool_input": given, "reasoning": "R.", "answer": "asked for"}

    return rule


class TestMultiHop:
    def test_the_second_search_finds_what_the_question_does_not_name(self) -> None:
        lm = fields(lambda turn: {"query": "Edda Voss", "reasoning": "So it is.", "answer": "Trondheim"})
        found = ask(MultiHop(QA), lm)
        assert (found.answer, found.reasoning, found.query) == ("Trondheim", "So it is.", "Edda Voss")
        assert len(found.context) == 4
        assert found.context[0] == "Harbour Lights"
        assert found.context[2] == "Edda Voss"
        follow, answer = turns(lm)
        assert "Harbour Lights | Harbour Lights is a film" in follow
        assert "Trondheim" not in follow
        assert "Edda Voss | Edda Voss comes from Trondheim." in answer
        assert QUESTION in follow
        assert QUESTION in answer

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()])
    def test_any_adapter(self, adapter: Any) -> None:
        said = {"query": "Voss", "reasoning": "So.", "answer": "Trondheim"}

        def say(turns: list[str]) -> str:
            names = [name for name in said if name in turns[-1].rpartition("Respond with")[2]]
            if isinstance(adapter, dspy.JSONAdapter):
                return json.dumps({name: said[name] for name in names})
            open_, close = ("<{}>", "</{}>") if isinstance(adapter, dspy.XMLAdapter) else ("[[ ## {} ## ]]", "")
            return "\n".join(f"{open_.format(n)}\n{said[n]}\n{close.format(n)}" for n in names)

        assert ask(MultiHop(QA), answering(say), adapter).answer == "Trondheim"

    @pytest.mark.parametrize("query", ["", "?!", f" {QUESTION.lower()} ", "Who was the director of this?", None])
    def test_a_query_that_says_nothing_new_is_replaced(self, query: str | None) -> None:
        """By the question with what was found, which names the director. None: an answer that cannot be read."""
        said = {"reasoning": "So.", "answer": "A."} | ({} if query is None else {"query": query})
        found = ask(MultiHop(QA), fields(lambda turn: said))
        assert found.query.startswith(QUESTION)
        assert "Edda Voss" in found.query
        assert found.context[2] == "Edda Voss"

    def test_passages_come_once_and_are_few(self) -> None:
        lm = fields(lambda turn: {"query": "chess rowing", "reasoning": "So.", "answer": "A."})
        for hops, k in ((1, 1), (1, 4), (2, 2), (2, 3), (3, 5), (2, 9)):
            found = ask(MultiHop(QA, hops=hops, k=k), lm, question=QUESTION, paragraphs=PARAGRAPHS * 2)
            assert len(found.context) == len(set(found.context)) == min(k, 6)
            assert found.context[0] == "Harbour Lights"

    def test_no_follow_up_where_nothing_is_left(self) -> None:
        lm = fields(lambda turn: {"query": "x", "reasoning": "So.", "answer": "A."})
        found = ask(MultiHop(QA), lm, question=QUESTION, paragraphs=PARAGRAPHS[:2])
        assert sorted(found.context) == ["Cooking", "Harbour Lights"]
        assert len(lm.engine.asked) == 1

    def test_hops_see_what_was_found_before(self) -> None:
        queries = iter(["one rowing", "two chess", "two chess"])
        lm = fields(lambda turn: {"query": next(queries, ""), "reasoning": "So.", "answer": "A."})
        found = ask(MultiHop(QA, hops=3, k=3), lm)
        assert found.context == ["Harbour Lights", "Rowing", "Chess"]
        assert found.query == "two chess"
        assert "Rowing |" in turns(lm)[1]

    def test_a_search_of_ones_own(self) -> None:
        class Last:
            def __init__(self, texts: list[str]) -> None:
                self.count = len(texts)

            def search(self, query: str, k: int = 4) -> list[Hit]:
                return [Hit(at, 1.0) for at in reversed(range(self.count))][:k]

        lm = fields(lambda turn: {"query": "x", "reasoning": "So.", "answer": "A."})
        assert ask(MultiHop(QA, k=2, search=Last), lm).context == ["Lighthouse", "Chess"]

    def test_settings_and_inputs_that_cannot_be(self) -> None:
        for options in ({"hops": 0}, {"k": 0}, {"hops": 3, "k": 2}, {"search": "elastic"}, {"k": True}):
            with pytest.raises(errors.ArgumentError):
                MultiHop(QA, **options)
        with pytest.raises(errors.ArgumentError, match="passages"):
            MultiHop(MATH)
        lm = fields(lambda turn: {})
        with pytest.raises(errors.ArgumentError, match="passages = "):
            ask(MultiHop(QA), lm, question=QUESTION, paragraphs=[])
        with pytest.raises(errors.ArgumentError, match="query = "):
            ask(MultiHop(QA), lm, question=" ", paragraphs=PARAGRAPHS)
        with pytest.raises(errors.ArgumentError, match=r"vectors need densecore\.dspy\.DenseLM"):
            ask(MultiHop(QA, search="vectors"), lm)


class TestReAct:
    def test_a_calculator_for_problems(self) -> None:
        lm = fields(acts(("calculator", "17 * 3"), ("calculator", "51 / 0"), ("finish", "51")))
        program = ReAct(MATH)
        assert program.reads == ("question",)
        found = ask(program, lm, question="Three times 17?")
        assert found.answer == "51"
        assert found.reasoning.splitlines() == [
            "T0. calculator: 17 * 3 -> 51",
            "T1. calculator: 51 / 0 -> Error: '51 / 0' divides by zero",
            "T2.",
        ]
        assert "17 * 3 -> 51" in turns(lm)[1]
        assert len(lm.engine.asked) == 3

    @pytest.mark.parametrize(
        ("given", "answer"), [("51", "51"), ("$1,020", "1020"), ("17 * 3", "51"), ("51 pens", "51 pens")]
    )
    def test_a_finish_with_arithmetic_is_computed(self, given: str, answer: str) -> None:
        assert ask(ReAct(MATH), fields(acts(("finish", given))), question="Three times 17?").answer == answer

    def test_search_and_lookup_for_questions(self) -> None:
        lm = fields(
            acts(("search", "film Harbour"), ("lookup", "edda voss"), ("lookup", "Nobody"), ("finish", "Trondheim"))
        )
        program = ReAct(QA, k=1)
        assert program.reads == ("question", "paragraphs")
        found = ask(program, lm)
        assert found.answer == "Trondheim"
        first, second, third, _ = found.reasoning.splitlines()
        assert first.endswith("-> Harbour Lights | Harbour Lights is a film by Edda Voss.")
        assert second.endswith("-> Edda Voss | Edda Voss comes from Trondheim.")
        assert "no passage has the title 'Nobody'; there are: Cooking; Harbour Lights" in third
        assert "context" not in program.act.signature.input_fields

    @pytest.mark.parametrize(
        ("steps", "calls"),
        [
            ((), 2),  # finishes without an answer
            ((("calculator", "1 + 1"), ("calculator", "1 + 1")), 3),  # repeats itself
            (tuple(("calculator", f"{n} + 1") for n in range(9)), 4),  # never finishes
            ((("abacus", "1"),), 3),  # no such tool: read twice by DSPy, then given up
        ],
    )
    def test_the_answer_is_asked_for_in_the_end(self, steps: Any, calls: int) -> None:
        lm = fields(acts(*steps))
        found = ask(ReAct(MATH, max_iters=3), lm, question="What?")
        assert found.answer == "asked for"
        assert found.reasoning.endswith("R.")
        assert len(lm.engine.asked) == calls

    def test_old_steps_give_way_where_the_context_is_full(self) -> None:
        script = acts(*(("calculator", f"{n} + 1") for n in range(3)), ("finish", "3"))

        def rule(turn: str) -> dict[str, str]:
            if "0 + 1 -> 1" in turn and "2 + 1 -> 3" in turn:
                raise dspy.lm15.ContextLengthError("too long")
            return {"tool": "finish", "tool_input": "3", "thought": "T."} if "2 + 1 -> 3" in turn else script(turn)

        found = ask(ReAct(MATH), fields(rule), question="What?")
        assert found.answer == "3"
        assert "0 + 1 -> 1" in found.reasoning

        def full(turn: str) -> dict[str, str]:
            raise dspy.lm15.ContextLengthError("too long")

        with pytest.raises(dspy.utils.exceptions.ContextWindowExceededError):
            ask(ReAct(MATH), fields(full), question="What?")

    def test_settings_that_cannot_be(self) -> None:
        for options in ({"max_iters": 0}, {"k": 0}, {"search": "elastic"}):
            with pytest.raises(errors.ArgumentError):
                ReAct(QA, **options)


def corpus(number: int) -> list[Paragraph]:
    """A row of its own for every call: only here does the keeper's name stand."""
    return [
        Paragraph("Tower", f"The tower belongs to keeper{number}."),
        Paragraph(f"keeper{number}", f"Home is town{number}."),
        *(Paragraph(f"Other {n}", f"Nothing {n}.") for n in range(4)),
    ]


def keeper(turn: str) -> dict[str, str]:
    """Goes from the tower to its keeper to the town, whatever their names."""
    name, town = re.search(r"keeper\d+", turn), re.search(r"town\d+", turn)
    act = ("finish", town[0]) if town else ("lookup", name[0]) if name else ("search", "tower")
    said = town[0] if town else "?"
    query = name[0] if name else "?"
    return {"query": query, "reasoning": "R.", "answer": said, "thought": "T.", "tool": act[0], "tool_input": act[1]}


@pytest.mark.parametrize("make", [MultiHop, ReAct])
class TestBoth:
    def test_64_threads_each_with_passages_of_its_own(self, make: Any) -> None:
        program, lm = make(QA, k=2), fields(keeper)
        with ThreadPoolExecutor(64) as pool:
            found = list(pool.map(lambda n: ask(program, lm, question="Tower?", paragraphs=corpus(n)), range(256)))
        assert [each.answer for each in found] == [f"town{n}" for n in range(256)]

    def test_copies_are_apart(self, make: Any) -> None:
        program = make(QA, k=3)
        for other in (copy.deepcopy(program), program.deepcopy()):
            other.answer.predict.demos = [dspy.Example(question="q", answer="a")]
            other.answer.predict.signature = other.answer.predict.signature.with_instructions("Else.")
            assert program.answer.predict.demos == []
            assert program.answer.predict.signature.instructions != "Else."
            assert (other.k, other.reads) == (3, program.reads)
            assert ask(other, fields(keeper), question="Tower?", paragraphs=corpus(7)).answer == "town7"

    def test_state_is_saved_and_loaded(self, make: Any, tmp_path: Path) -> None:
        program = make(QA)
        for number, predictor in enumerate(program.predictors()):
            predictor.signature = predictor.signature.with_instructions(f"Instruction {number}.")
            predictor.demos = [dspy.Example(question="q", answer="a")]
        program.save(str(tmp_path / "program.json"))
        again = make(QA)
        again.load(str(tmp_path / "program.json"))
        assert again.dump_state() == program.dump_state()
        lm = fields(keeper)
        ask(again, lm, question="Tower?", paragraphs=corpus(1))
        assert all("Instruction " in str(call["messages"]) for call in lm.history)

    def test_an_optimiser_finds_its_steps(self, make: Any) -> None:
        row = data.Row("1", "Tower?", ("town1",), paragraphs=tuple(corpus(1)))
        program = make(QA, k=2)
        tuned = dspy.BootstrapFewShot(metric=QA.metric, max_labeled_demos=0)
        with dspy.context(lm=fields(keeper)):
            compiled = tuned.compile(program, trainset=[QA.example(row, program.reads)])
        demos = {name: len(predictor.demos) for name, predictor in compiled.named_predictors()}
        assert demos == ({"query": 1, "answer.predict": 1} if make is MultiHop else {"act": 1, "answer.predict": 0})

    def test_a_real_model_runs_it(self, make: Any) -> None:
        """SmolLM2 may answer what it likes: something comes, or DSPy says that it cannot be read."""
        lm = DenseLM(str(real_path("smollm2-135m-instruct")), max_tokens=48, cache=False)
        program = make(QA, search="fused")
        try:
            found = ask(program, lm)
        except dspy.utils.exceptions.AdapterParseError:
            assert lm.history
        else:
            assert isinstance(found.answer, str)
            assert isinstance(found.reasoning, str)
