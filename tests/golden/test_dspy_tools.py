"""Tools that a program chooses: `dspy.ReActV2` always comes to its end."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pydantic
import pytest

import densecore
from densecore import errors
from tests import tiny

dspy = pytest.importorskip("dspy", reason="the extra `dspy`")
bridge = pytest.importorskip("densecore.dspy", reason="the extra `dspy`")


class Node(pydantic.BaseModel):
    """A definition that speaks of itself."""

    name: str = pydantic.Field(max_length=8)
    kind: Literal["leaf", "branch"]
    below: list[Node] = pydantic.Field(default=[], max_length=1)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random weights with room for the prompts of agents, of which every letter is a token."""
    pytest.importorskip("transformers", reason="the maker of tiny models is the extra `dev`")
    folder = tmp_path_factory.mktemp("wide")
    return densecore.Model.load(tiny.make_tiny("qwen2", folder, seed=6, layers=2, context=16384))


def weather(city: str) -> str:
    """The weather in a city."""
    return f"It rains in {city}."


def agent(iterations: int) -> Any:
    asked = dspy.Signature("question -> answer").with_updated_fields("answer", type_=int)
    asked = asked.append("tree", dspy.OutputField(), list[Node])
    return dspy.ReActV2(asked, tools=[weather], max_iters=iterations)


def check(found: Any) -> None:
    assert type(found.answer) is int
    assert all(isinstance(node, Node) for node in found.tree)
    assert found.termination_reason in ("submit", "forced_submit")


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_an_agent_submits(wide: Any, native: bool, iterations: int) -> None:
    """Whatever nonsense it thinks, the last call is of the tool that was chosen, with arguments of its types."""
    lm = bridge.DenseLM(wide, temperature=1.0, max_tokens=700, cache=False)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter(use_native_function_calling=native)):
        for seed in range(4):
            made = agent(iterations)
            made.react.config = {"seed": seed}
            check(made(question="How warm is it?"))
            if seed == 0:
                check(asyncio.run(made.acall(question="How warm is it?")))


def test_a_real_agent_submits(smol: Any) -> None:
    lm = bridge.DenseLM(smol, max_tokens=500, cache=False)
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):
        made = dspy.ReActV2("question -> answer: int", tools=[weather], max_iters=0)
        found = made(question="How many legs has a goat?")
    assert type(found.answer) is int
    assert found.termination_reason == "forced_submit"
    assert [call.name for call in found.history.messages[-1]["tool_calls"].tool_calls] == ["submit"]


def test_a_choice_of_tools_is_held(wide: Any) -> None:
    tools = [dspy.Tool(weather), dspy.Tool(lambda: 1, name="clock")]
    asked = dspy.Signature({"question": (str, dspy.InputField()), "tools": (list[dspy.Tool], dspy.InputField()),
                            "calls": (dspy.ToolCalls, dspy.OutputField())}, "Call.")  # fmt: skip
    lm = bridge.DenseLM(wide, temperature=1.0, max_tokens=300)
    named = {"type": "function", "function": {"name": "clock"}}
    with dspy.context(lm=lm, adapter=bridge.DenseAdapter()):

        def called(choice: Any) -> list[list[str]]:
            ask = dspy.Predict(asked)
            found = [ask(question="?", tools=tools, config={"seed": s, "tool_choice": choice}).calls for s in range(8)]
            return [[call.name for call in each.tool_calls] for each in found]

        assert called(named) == [["clock"]] * 8
        assert called("none") == [[]] * 8
        assert all(called("required"))
        assert {name for names in called("required") for name in names} == {"weather", "clock"}
        with pytest.raises(errors.ArgumentError, match="weather, clock"):
            called({"type": "function", "function": {"name": "submit"}})
