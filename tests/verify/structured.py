"""A thousand structured calls of SmolLM2-135M through DSPy, sixteen at a time: each parses, and holding it costs little.

Ten signatures: choices, lists, nested models, dates, optional fields, mappings, a thought before a number, and an agent
with two tools. Then one task twice, held to its form and free, and the pace of decoding both ways.
"""

from __future__ import annotations

import datetime as dt
import enum
import logging
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pydantic

from tests.golden.fixtures import real_path
from tests.verify.record import say

PEERS = ("dspy", "pydantic")
MODELS = ("smollm2-135m-instruct",)
CALLS = int(os.environ.get("DENSECORE_STRUCTURED_CALLS", "1000"))
THREADS = 16
TOKENS = 512
TEMPERATURE = 0.8
ROWS = 200  # of the task that is done both ways, at most one to five calls
TASK_TOKENS = 96  # of its answers, either way: one word is asked for
PACES = 9  # pairs of timed answers
PACE_TOKENS = 192
DEAREST = 0.1  # of the pace, what a form may cost
MOST_SHORTENED = 60  # texts of a thousand calls that may be ended where their model would sooner have gone on
LEAST_RIGHT = 119  # of the task's 200 rows, with examples

TOPICS = ("a goat on a ferry", "rain in Lisbon", "a stolen piano", "the first day at school", "a broken kettle", "two brothers",
          "the harvest of 1911", "a letter that came late", "a chess game", "snow in May", "a lighthouse", "grandmother's soup",
          "a lost umbrella", "the night train", "bees", "a wedding on a boat", "an old map", "a quiet office")  # fmt: skip


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Home(pydantic.BaseModel):
    street: str
    number: int = pydantic.Field(ge=1, le=500)


class Person(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0, le=120)
    born: dt.date
    home: Home
    email: str | None = None


class Step(pydantic.BaseModel):
    action: str = pydantic.Field(max_length=120)
    minutes: float = pydantic.Field(ge=0, le=600)


def programs() -> dict[str, Any]:
    """The ten, by name."""
    import dspy

    def asking(task: str, **outputs: Any) -> Any:
        signature = dspy.Signature({"topic": (str, dspy.InputField())}, task)
        for name, given in outputs.items():
            kind, field = given if isinstance(given, tuple) else (given, dspy.OutputField())
            signature = signature.append(name, field, kind)
        return signature

    def look_up(title: str, day: dt.date) -> str:
        return f"{title} on {day:%d %B %Y}: nothing is known."

    def add(left: float, right: float) -> float:
        return left + right

    several = dspy.OutputField(min_length=1, max_length=5)
    brief = dspy.OutputField(max_length=200)  # so small a model may else tell on and on
    return {
        "choice": dspy.Predict(asking("How does the topic sound?", mood=Literal["calm", "merry", "cross", "sad"])),
        "list": dspy.Predict(asking("Keywords of a story on the topic.", title=str, keywords=(list[str], several))),
        "model": dspy.Predict(asking("Invent a person for a story on the topic.", person=Person)),
        "dates": dspy.Predict(
            asking("When did it begin and end?", begun=dt.date, ended=dt.datetime, reason=(str, brief))
        ),
        "optional": dspy.Predict(asking("Judge the topic.", note=str | None, until=dt.date | None, score=int)),
        "thought": dspy.ChainOfThought(asking("How many people are in a story on the topic?", people=int)),
        "mapping": dspy.Predict(asking("Count things in the story.", counts=(dict[str, int], several))),
        "colour": dspy.Predict(asking("Choose a cover for the story.", reason=str, colour=Colour, glossy=bool)),
        "steps": dspy.Predict(asking("What is to be done?", steps=(list[Step], several), total=float)),
        "agent": dspy.ReAct(
            asking("Find out one thing about the topic.", finding=(str, brief)), [look_up, add], max_iters=2
        ),
    }


def is_filled(value: Any) -> bool:
    """No text in it is blank, no mapping or list that was asked for is empty."""
    if isinstance(value, pydantic.BaseModel):
        return all(is_filled(part) for _, part in value)
    if isinstance(value, dict):
        return bool(value) and all(is_filled(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return bool(value) and all(is_filled(part) for part in value)
    return not isinstance(value, str) or value.strip() != ""


def impossible_dates(text: str) -> int:
    """Days that a text names and the calendar does not have."""
    count = 0
    for year, month, day in re.findall(r"\b(\d{4})-(\d{2})-(\d{2})\b", text):
        try:
            dt.date(int(year), int(month), int(day))
        except ValueError:
            count += 1
    return count


def faults(program: Any, lm: Any, topic: str, seed: int) -> tuple[list[str], int]:
    """What is wrong with one call, nothing if nothing is; and its texts that were ended where they would have gone on."""
    import dspy

    from densecore.dspy import DenseAdapter

    lm = lm.copy(seed=seed)
    found = []
    with dspy.context(lm=lm, adapter=DenseAdapter()):
        try:
            answer = program(topic=topic)
        except Exception as error:
            return [f"{type(error).__name__}: {str(error)[:200]}"], 0
    signature = (
        program.extract.predict.signature if isinstance(program, dspy.ReAct) else program.predictors()[0].signature
    )
    for name, field in signature.output_fields.items():
        value = answer[name]
        try:
            pydantic.TypeAdapter(field.rebuild_annotation()).validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            found.append(f"{name} is not of its type: {str(error)[:200]}")
        if not is_filled(value):
            found.append(f"{name} is empty: {value!r:.200}")
    observations = [
        v for k, v in answer.items() if k == "trajectory" for k, v in v.items() if k.startswith("observation")
    ]
    found += [f"tool: {text:.200}" for text in observations if "Execution error" in str(text)]
    for entry in lm.history:
        if entry["response"].finish_reason != "stop":
            found.append("truncated")
        dates = str(entry["outputs"]).partition("[[ ## reason ## ]]")[0]
        if {"begun", "ended"} <= signature.output_fields.keys() and impossible_dates(dates):
            found.append(f"no such day: {dates:.200}")
    return found, sum((entry["response"].provider_data or {}).get("shortened", 0) for entry in lm.history)


def thousand(lm: Any) -> tuple[dict[str, Any], bool]:
    """All the calls, in threads."""
    asked = programs()
    plan = [(list(asked)[i % len(asked)], TOPICS[(i // len(asked)) % len(TOPICS)], i) for i in range(CALLS)]
    started, done = time.monotonic(), Counter[str]()

    def one(item: tuple[str, str, int]) -> tuple[str, list[str], int]:
        name, topic, seed = item
        found, shortened = faults(asked[name], lm, topic, seed)
        done[name] += 1
        if sum(done.values()) % 100 == 0:
            say(f"  {sum(done.values())} calls, {time.monotonic() - started:.0f} s")
        return name, found, shortened

    with ThreadPoolExecutor(THREADS) as pool:
        judged = list(pool.map(one, plan))
    wrong = [(name, fault) for name, found, _ in judged for fault in found]
    shortened = Counter(dict.fromkeys(asked, 0))
    for name, _, count in judged:
        shortened[name] += count > 0
    figures = {
        "calls": len(judged),
        "by_signature": dict(sorted(Counter(name for name, _, _ in judged).items())),
        "failed": sum(bool(found) for _, found, _ in judged),
        "shortened": sum(shortened.values()),
        "with_a_text_shortened": {name: count for name, count in sorted(shortened.items()) if count},
        "faults": [f"{name}: {fault}" for name, fault in wrong[:10]],
        "seconds": round(time.monotonic() - started, 1),
    }
    most = MOST_SHORTENED * len(judged) // 1000
    return figures, not wrong and sum(shortened.values()) <= most


UNITS = {"money": "dollars", "distance": "kilometres|metres", "time": "hours|minutes|days|weeks"}


def unit(question: str) -> str:
    """What a problem asks for; things, if nothing else."""
    asked = re.search(r"How (?:many|much|long|far) ([a-z]+)", question)
    return next((kind for kind, words in UNITS.items() if asked and re.fullmatch(words, asked[1])), "things")


def both_ways(lm: Any) -> tuple[dict[str, Any], bool]:
    """Problems sorted by what they ask for, greedily, without examples and with some: free as DSPy has it, and held."""
    import dspy

    from densecore import data
    from densecore.dspy import DenseAdapter, DenseEngine

    class Free(DenseEngine):
        """What no form can hold: DSPy's second try in JSON is free as well."""

        supports_response_schema = False
        supported_params = DenseEngine.supported_params - {"response_format"}

    lm = lm.copy(max_tokens=TASK_TOKENS)
    unheld = dspy.LM(lm.model, engine=Free(lm.dense), max_tokens=TASK_TOKENS, cache=False)
    kinds = Literal["money", "distance", "time", "things"]
    task = dspy_signature("problem -> asked", asked=kinds)
    program = dspy.Predict(task.with_instructions("What kind of number does the problem ask for?"))
    shots: dict[str, Any] = {}
    for row in data.load("problems", "train", limit=200):
        shots.setdefault(unit(row.question), dspy.Example(problem=row.question, asked=unit(row.question)))
    rows = data.load("problems", "dev", limit=max(10, min(ROWS, CALLS // 5)))

    def answers(asked: Any, adapter: Any) -> list[str | None]:
        def one(row: Any) -> str | None:
            with dspy.context(lm=asked, adapter=adapter):
                try:
                    return str(program(problem=row.question, config={"temperature": 0.0}).asked)
                except Exception as error:
                    if "parse" not in str(error).lower():
                        raise
                    return None

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(one, rows))

    figures: dict[str, Any] = {"rows": len(rows)}
    passed = True
    for name, demos in (("without_examples", []), ("with_examples", list(shots.values()))):
        program.demos = demos
        free, held = answers(unheld, dspy.ChatAdapter()), answers(lm, DenseAdapter())
        right = [sum(a == unit(row.question) for a, row in zip(found, rows, strict=True)) for found in (free, held)]
        unparsed = [free.count(None), held.count(None)]
        figures[name] = {"examples": len(program.demos), "right_free_held": right, "unparsed_free_held": unparsed}
        passed &= right[1] >= right[0] and unparsed[1] == 0
        passed &= not demos or right[1] * ROWS >= LEAST_RIGHT * len(rows)
    return figures, passed


def pace(model: Any) -> tuple[dict[str, Any], bool]:
    """Seconds of whole calls, held over free, in turns: the very same text, alone and sixteen at a time, and a person of as
    many tokens as free text.
    """
    import densecore
    from densecore.dspy.fields import grammar, text_rule

    text = densecore.Lark(f"start: TEXT\nTEXT: {text_rule()}\n")
    forms = {
        "text": (text, 1),
        "sixteen texts": (text, THREADS),
        "person": (grammar(dspy_signature("topic -> person", person=Person), {}, TOKENS)[0], 1),
    }
    prompt = [{"role": "user", "content": "Tell a long story about a goat, a ferry and a piano. Begin at once."}]

    def timed(count: int, **options: Any) -> tuple[list[int], float]:
        started = time.perf_counter()
        found = model.generate([prompt] * count, **options)
        return [i for each in found for i in each.ids], time.perf_counter() - started

    figures: dict[str, Any] = {"pairs": PACES}
    for name, (form, count) in forms.items():
        ratios, same, tokens = [], True, 0
        for i in range(-1, PACES):  # the first pair warms up
            drawn: dict[str, Any] = {"temperature": 1.0, "seed": i + 1} if name == "person" else {}
            most = TOKENS if name == "person" else PACE_TOKENS
            if name != "person" and i % 2:  # its tokens are known beforehand, so either side may begin
                free, free_seconds = timed(count, max_tokens=most, **drawn)
                held, held_seconds = timed(count, form=form, max_tokens=most, **drawn)
            else:
                held, held_seconds = timed(count, form=form, max_tokens=most, **drawn)
                known = len(held) if name == "person" else most
                free, free_seconds = timed(count, max_tokens=known, ignore_eos=name == "person", **drawn)
            if i >= 0:
                ratios.append(held_seconds / free_seconds)
                same, tokens = same and free == held, tokens + len(held)
        figures[name] = {
            "held_over_free": round(statistics.median(ratios), 3),
            "range": [round(min(ratios), 3), round(max(ratios), 3)],
            "tokens": tokens,
        }
        if name != "person" and not same:
            figures[name]["texts"] = "not the same"
    fast = all(figures[name]["held_over_free"] <= 1 + DEAREST for name in forms)
    return figures, fast and all("texts" not in figures[name] for name in forms)


def dspy_signature(fields: str, **kinds: Any) -> Any:
    """A signature whose fields have these types."""
    import dspy

    signature = dspy.Signature(fields)
    for name, kind in kinds.items():
        signature = signature.with_updated_fields(name, type_=kind)
    return signature


def check() -> tuple[bool, dict[str, Any]]:
    """All three parts."""
    import dspy

    from densecore.dspy import DenseLM

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    logging.getLogger("dspy").setLevel(logging.ERROR)  # truncation is counted here
    lm = DenseLM(str(real_path(*MODELS)), temperature=TEMPERATURE, max_tokens=TOKENS, cache=False)
    figures, verdicts = {}, []
    parts: dict[str, Callable[[], tuple[dict[str, Any], bool]]] = {
        "pace": lambda: pace(lm.dense),
        "calls": lambda: thousand(lm),
        "task": lambda: both_ways(lm),
    }
    for name, part in parts.items():
        figures[name], passed = part()
        verdicts.append(passed)
        say(f"  {name}: {'passed' if passed else 'FAILED'} {figures[name]}")
    return all(verdicts), {"temperature": TEMPERATURE, "threads": THREADS, "max_tokens": TOKENS, **figures}
