"""Demonstrations written by hand, of no data set."""

from __future__ import annotations

import dspy

from densecore.errors import ArgumentError
from densecore.programs.task import Task

_MATH = (
    (
        "Rosa fills 6 baskets with 14 plums each and sells 35 plums. How many plums are left?",
        "The baskets hold 6 * 14 = 84 plums. After the sale 84 - 35 = 49 plums are left.",
        "49",
    ),
    (
        "A tram ticket costs $3 and a day pass $8. Ilja rides 4 times on Monday and buys a day pass on Tuesday. "
        "How much does he pay on both days together?",
        "Monday costs 4 * $3 = $12. Tuesday costs $8. Together that is $12 + $8 = $20.",
        "20",
    ),
    (
        "A tank holds 240 litres and is a quarter full. A pump adds 15 litres a minute. After how many minutes is it full?",
        "It holds 240 / 4 = 60 litres now. 240 - 60 = 180 litres are missing. The pump takes 180 / 15 = 12 minutes.",
        "12",
    ),
    (
        "Kofi is three times as old as Ama. In 5 years their ages will add up to 50. How old is Kofi now?",
        "In 5 years both have aged 5, so now their ages add up to 50 - 2 * 5 = 40. Ama is one part and Kofi three parts of "
        "4, so Ama is 40 / 4 = 10 and Kofi 3 * 10 = 30.",
        "30",
    ),
)
_QA = (
    (
        (
            "Harbour Lights (film) | Harbour Lights is a drama directed by Edda Voss, set in a small port.",
            "Edda Voss | Edda Voss is a director who was born in Trondheim and lives in Oslo.",
            "Oslo | Oslo is the capital of Norway.",
        ),
        "In which city was the director of Harbour Lights born?",
        "Harbour Lights was directed by Edda Voss, and Edda Voss was born in Trondheim.",
        "Trondheim",
    ),
    (
        (
            "Mill Bridge | Mill Bridge crosses the Arve and was opened in 1911.",
            "Stone Bridge (Arve) | Stone Bridge, farther upstream, was opened in 1874.",
        ),
        "Which bridge is older, Mill Bridge or Stone Bridge?",
        "Mill Bridge was opened in 1911 and Stone Bridge in 1874, so Stone Bridge is older.",
        "Stone Bridge",
    ),
    (
        (
            "Lena Okafor | Lena Okafor is a botanist from Ghana.",
            "Per Lindqvist | Per Lindqvist is a botanist and photographer from Sweden.",
        ),
        "Are Lena Okafor and Per Lindqvist both botanists?",
        "Lena Okafor is a botanist. Per Lindqvist is a botanist, too. So both are.",
        "yes",
    ),
)


def shots(task: Task) -> list[dspy.Example]:
    """A task's demonstrations, three or four, with reasoning and answer."""
    if task.name == "math":
        made = [dspy.Example(question=asked, reasoning=why, answer=said) for asked, why, said in _MATH]
        return [example.with_inputs("question") for example in made]
    if task.name == "qa":
        found = [
            dspy.Example(context=list(read), question=asked, reasoning=why, answer=said)
            for read, asked, why, said in _QA
        ]
        return [example.with_inputs("context", "question") for example in found]
    raise ArgumentError(f"task = {task.name!r:.80}: demonstrations are there for math and qa")
