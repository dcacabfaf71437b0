"""Programs: what each asks of its language model, and hidden states that say the same as the steps spelled out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from densecore import data, errors
from tests.golden.fixtures import real_path

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
programs = pytest.importorskip("densecore.programs", reason="the extra `dspy`")

from densecore.dspy import DenseLM  # noqa: E402
from densecore.dspy.plain import PlainAdapter  # noqa: E402
from densecore.programs.plan_solve import OPENING  # noqa: E402
from densecore.programs.task import MARK, best  # noqa: E402
from densecore.runs.meter import metered  # noqa: E402
from tests.answering import answering  # noqa: E402

ROWS = data.load("problems", "dev", limit=6)
HOTPOT = data.Row(
    id="h1",
    question="In which city was the director of Harbour Lights born?",
    answers=("Trondheim",),
    paragraphs=tuple(
        data.Paragraph(title, text)
        for title, text in (
            ("Cooking", "Salt is used in cooking."),
            ("Harbour Lights", "Harbour Lights is a film by the director Edda Voss."),
            ("Rowing", "Rowing is a sport."),
            ("Edda Voss", "The director Edda Voss was born in Trondheim."),
            ("Chess", "Chess has 64 squares."),
            ("Oslo", "Oslo is a city."),
        )
    ),
    set="hotpotqa",
    split="dev",
)


@pytest.fixture(scope="module")
def lm() -> Any:
    return DenseLM(str(real_path("smollm2-135m-instruct")), cache=False)


def question(row: data.Row = ROWS[0]) -> dict[str, str]:
    return {"question": row.question}


class TestPlain:
    def test_a_conversation_without_marks(self) -> None:
        signature = dspy.Signature("a_text, question -> solution", "Solve it.")
        demos = [
            {"a_text": "t", "question": "q", "solution": "s"},
            {"question": "no text", "solution": "is not shown"},
            {"a_text": "t", "question": "no solution"},
        ]
        made = PlainAdapter().format(signature, demos, {"a_text": ["x", "y"], "question": "q2"})
        assert [turn["role"] for turn in made] == ["system", "user", "assistant", "user"]
        assert made[2]["content"] == "s"
        assert made[3]["content"] == "A text:\n[1] x\n[2] y\n\nQuestion:\nq2\n\nSolve it."

    def test_one_output_and_something_in_it(self) -> None:
        with pytest.raises(errors.ArgumentError, match="reasoning, answer"):
            PlainAdapter().format(dspy.Signature("q -> reasoning, answer"), [], {"q": "?"})
        with pytest.raises(errors.ArgumentError, match="outputs answer"):
            PlainAdapter().format(dspy.Signature("q -> answer: int"), [], {"q": "?"})
        with pytest.raises(dspy.utils.exceptions.AdapterParseError):
            PlainAdapter().parse(dspy.Signature("q -> answer"), " \n")


class TestTasks:
    def test_a_problem_is_judged_by_its_number(self) -> None:
        row = data.Row("1", "3 * 4?", ("-12",))
        right = programs.MATH.judge(row, "-12 pens", "x")
        assert (right.correct, right.score, right.prediction, right.failure) == (True, 1.0, "-12", None)
        wrong = programs.MATH.judge(row, "12", "3 * 4 = 13")
        assert (wrong.correct, wrong.failure) == (False, "arithmetic")
        assert wrong.scores == {"dspy_gsm8k_metric": 1.0}, "DSPy's own metric drops the sign"
        assert programs.MATH.judge(row, None).failure == "no answer"

    @pytest.mark.parametrize(
        ("said", "correct", "score", "failure"),
        [
            ("trondheim.", True, 1.0, None),
            ("in the city of Trondheim", False, 0.4, "too long"),
            ("Oslo", False, 0.0, "another answer"),
            ("", False, 0.0, "no answer"),
        ],
    )
    def test_a_question_is_judged_by_its_words(self, said: str, correct: bool, score: float, failure: Any) -> None:
        found = programs.QA.judge(HOTPOT, said)
        assert (found.correct, found.failure) == (correct, failure)
        assert found.score == pytest.approx(score)

    def test_each_set_has_its_own_f1(self) -> None:
        row = replace(HOTPOT, answers=("no",))
        assert programs.QA.judge(row, "no, they are not").score == 0.0, "as HotPotQA's own script has it"
        assert programs.QA.judge(replace(row, set="squad"), "no, they are not").score == pytest.approx(0.4)

    def test_a_question_is_given_the_passages_that_fit(self) -> None:
        example = programs.QA.example(HOTPOT)
        assert set(example.inputs().keys()) == {"context", "question"}
        assert len(example.context) == 4
        assert {"Harbour Lights | ", "Edda Voss | "} <= {text[: text.index("|") + 2] for text in example.context[:2]}
        assert best(data.Row("1", "?", ("x",))) == []

    def test_an_example_shows_its_working(self) -> None:
        row = data.Row("1", "6 pens at $2?", ("12",), solution="6 * 2 = <<6*2=12>>12\n#### 12")
        example = programs.MATH.example(row)
        assert (example.reasoning, example.solution) == ("6 * 2 = 12", "6 * 2 = 12\n#### 12")
        assert programs.MATH.metric(example, dspy.Prediction(answer="12.0")) == 1.0


class TestPrograms:
    def test_names_and_settings(self) -> None:
        assert {"ZeroShot", "PlanSolve", "MultiHop", "ReAct"} <= set(programs.names())
        for name in programs.names():
            program = programs.make(name, programs.QA)
            assert set(program.reads) <= {"question", "context", "paragraphs"}
        with pytest.raises(errors.ArgumentError, match="PlanSolve"):
            programs.make("Plan", programs.MATH)
        with pytest.raises(errors.ArgumentError, match="stepz"):
            programs.make("PlanSolve", programs.MATH, stepz=3)

    def test_the_planner_writes_and_the_solver_reads(self) -> None:
        model = answering(lambda turns: f"It is 7.\n{MARK} 7" if "Follow" in turns[-1] else "1. Add.")
        with dspy.context(lm=model):
            found = programs.make("PromptPlanSolve", programs.MATH)(**question())
        assert (found.plan, found.solution, found.answer) == ("1. Add.", f"It is 7.\n{MARK} 7", "7")
        (plan, allowed), (solve, more) = model.engine.asked
        assert (allowed, more) == (160, 400)
        assert ROWS[0].question in plan[-1]
        assert "plan" in plan[-1]
        assert ROWS[0].question in solve[-1]
        assert "Plan:\n1. Add." in solve[-1]

    def test_others_may_plan_or_solve(self) -> None:
        planner, solver = answering(lambda _: "their plan", "test/a"), answering(lambda _: "#### 3", "test/b")
        program = programs.make("PromptPlanSolve", programs.MATH, planner=planner, solver=solver)
        assert program(**question()).answer == "3"
        assert "their plan" in solver.engine.asked[0][0][-1]

    def test_demonstrations_come_first(self) -> None:
        model = answering(lambda _: "[[ ## reasoning ## ]]\nx\n\n[[ ## answer ## ]]\n5\n\n[[ ## completed ## ]]")
        with dspy.context(lm=model, adapter=dspy.ChatAdapter()):
            assert programs.make("FewShot", programs.MATH)(**question()).answer == "5"
            assert programs.make("FewShot", programs.QA)(**programs.QA.example(HOTPOT).inputs()).answer == "5"
        assert [len(turns) for turns, _ in model.engine.asked] == [2 * 4 + 1, 2 * 3 + 1]
        few = programs.make("FewShot", programs.MATH)
        judged = [
            programs.MATH.judge(data.Row("1", d.question, (d.answer,)), d.reasoning) for d in few.predictors()[0].demos
        ]
        assert all(each.correct for each in judged), "a demonstration must lead to its own answer"


class TestHiddenStates:
    def steps(self, model: Any, mode: str) -> tuple[Any, str]:
        """The recipe, call by call."""
        chat = PlainAdapter().format(
            dspy.Signature("question -> solution", programs.MATH.working), [], {"question": ROWS[0].question}
        )
        thought = model.prefill(chat).think(40, OPENING, mode=mode, stop=model.tokenize(MARK))
        return thought, thought.context.generate(f"\n{MARK} ", max_tokens=10, stop="\n").text.strip()

    @pytest.mark.parametrize("mode", ["mixture", "token"])
    def test_the_answer_is_the_recipes(self, lm: Any, mode: str) -> None:
        thought, answer = self.steps(lm.dense, mode)
        program = programs.make("PlanSolve", programs.MATH, mode=mode, steps=40)
        with dspy.context(lm=lm), metered() as meter:
            found = program(**question())
        assert (found.answer, found.latent_steps) == (answer, thought.usage.latent_steps)
        assert found.thought == OPENING + lm.dense.detokenize(thought.ids, special=False)
        assert meter.latent_steps == thought.usage.latent_steps
        assert 0 < meter.emitted_tokens <= 10
        assert meter.positions > thought.context.length

    def test_the_control_thinks_what_the_model_would_have_written(self, lm: Any) -> None:
        thought, _ = self.steps(lm.dense, "token")
        chat = PlainAdapter().format(
            dspy.Signature("question -> solution", programs.MATH.working), [], {"question": ROWS[0].question}
        )
        written = lm.dense.prefill(chat).extend(OPENING).generate(max_tokens=len(thought.ids))
        assert written.ids == thought.ids

    def test_vectors_go_through_an_edge(self, lm: Any) -> None:
        seen = []

        def edge(vectors: Any) -> Any:
            seen.append(vectors)
            return vectors

        with dspy.context(lm=lm):
            plain = programs.make("PlanSolve", programs.MATH, steps=12, hand_over="vectors", last=5)(**question())
            mapped = programs.make("PlanSolve", programs.MATH, steps=12, hand_over="vectors", last=5, edge=edge)
            assert mapped(**question()).answer == plain.answer
            told = lm.dense.embed(f" the answer is 48. {MARK} 48. The answer is 48.")
            other = programs.make("PlanSolve", programs.MATH, steps=12, hand_over="vectors", edge=lambda _: told)
            assert other(**question()).answer.startswith("48") != plain.answer.startswith("48"), "the edge must be read"
        assert seen[0].shape == (5, lm.dense.config.width)

    def test_all_vectors_say_what_the_context_says(self, lm: Any) -> None:
        with dspy.context(lm=lm):
            answers = {
                programs.make("PlanSolve", programs.MATH, steps=20, hand_over=way)(**question()).answer
                for way in ("context", "vectors")
            }
        assert len(answers) == 1, "the same inputs at the same places"

    def test_threads_answer_as_one(self, lm: Any) -> None:
        program = programs.make("PlanSolve", programs.MATH, steps=16)

        def answer(row: data.Row) -> str:
            with dspy.context(lm=lm):
                return str(program(**question(row)).answer)

        alone = [answer(row) for row in ROWS]
        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(answer, ROWS)) == alone

    def test_bad_settings(self) -> None:
        with pytest.raises(errors.ArgumentError, match="hand_over = 'text'"):
            programs.make("PlanSolve", programs.MATH, hand_over="text")
        with pytest.raises(errors.ArgumentError, match="edge"):
            programs.make("PlanSolve", programs.MATH, edge=lambda v: v)
        with dspy.context(lm=answering(lambda _: "7")), pytest.raises(errors.ArgumentError, match="DenseLM"):
            programs.make("PlanSolve", programs.MATH)(**question())
