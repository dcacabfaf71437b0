"""DSPy's optimisers under one set of names, with settings that suit small models.

===========  ==================================  ==============================================================
name         DSPy's                              finds
===========  ==================================  ==============================================================
labeled      LabeledFewShot                      nothing: rows as demonstrations, the plain control
bootstrap    BootstrapFewShot                    demonstrations with working, from right runs of the program
random       BootstrapFewShotWithRandomSearch    the best of several such sets
mipro        MIPROv2                             instructions and sets of demonstrations together; needs optuna
copro        COPRO                               instructions, from earlier ones and their scores
gepa         GEPA                                instructions, from what was wrong with answers; needs gepa
===========  ==================================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import dspy
from dspy.teleprompt import COPRO, GEPA, BootstrapFewShot, BootstrapFewShotWithRandomSearch, LabeledFewShot, MIPROv2

from densecore import __version__
from densecore.errors import ArgumentError, MissingExtraError

_DEMOS: dict[str, Any] = {"max_bootstrapped_demos": 4, "max_labeled_demos": 4}
# DSPy takes any score above 0 for a success, and an F1 of 0.1 is no demonstration.
_RIGHT: dict[str, Any] = {"metric_threshold": 1.0}
# At DSPy's 1.4 (COPRO) small models write noise.
_WARM: dict[str, Any] = {"init_temperature": 0.7}


@dataclass(frozen=True)
class Job:
    """What an optimiser is given."""

    program: dspy.Module
    train: list[dspy.Example]
    select: list[dspy.Example]
    metric: Callable[..., Any]
    """The score; score and feedback where GEPA asks for a predictor's."""
    lm: dspy.LM
    teacher: dspy.LM | None
    seed: int
    threads: int
    evaluations: int
    """Full evaluations at most, the first of the program as it is included."""
    options: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """DSPy's way to name another model for demonstrations."""
        return {"lm": self.teacher} if self.teacher is not None else {}


def _labeled(job: Job) -> dspy.Module:
    return LabeledFewShot(**job.options).compile(job.program, trainset=job.train)


def _bootstrap(job: Job) -> dspy.Module:
    optimiser = BootstrapFewShot(metric=job.metric, teacher_settings=job.settings, **job.options)
    return optimiser.compile(job.program, trainset=job.train)


def _random(job: Job) -> dspy.Module:
    optimiser = BootstrapFewShotWithRandomSearch(
        metric=job.metric,
        teacher_settings=job.settings,
        num_candidate_programs=max(
            1, job.evaluations - 3
        ),  # beside it: no demonstrations, rows alone, rows in their order
        num_threads=job.threads,
        **job.options,
    )
    return optimiser.compile(job.program, trainset=job.train, valset=job.select)


def _mipro(job: Job) -> dspy.Module:
    made = ("init_temperature", "metric_threshold", "num_candidates", *_DEMOS)
    optimiser = MIPROv2(
        metric=job.metric,
        prompt_model=job.teacher or job.lm,
        task_model=job.lm,
        teacher_settings=job.settings,
        auto=None,
        num_threads=job.threads,
        seed=job.seed,
        **{name: job.options[name] for name in made},
    )
    return optimiser.compile(
        job.program,
        trainset=job.train,
        valset=job.select,
        num_trials=job.evaluations - 1,
        minibatch=False,  # every candidate over the same rows, so that any two can be compared
        **{name: value for name, value in job.options.items() if name not in made},
    )


def _copro(job: Job) -> dspy.Module:
    depth = job.options["depth"]
    optimiser = COPRO(
        prompt_model=job.teacher, metric=job.metric, breadth=max(2, job.evaluations // depth), **job.options
    )
    evaluation = {"num_threads": job.threads, "display_progress": False}
    return optimiser.compile(job.program, trainset=job.select, eval_kwargs=evaluation)


def _gepa(job: Job) -> dspy.Module:
    options = dict(job.options)
    warmth = options.pop("init_temperature")
    optimiser = GEPA(
        metric=job.metric,
        max_metric_calls=job.evaluations * len(job.select),
        reflection_lm=job.teacher or job.lm.copy(temperature=warmth),
        num_threads=job.threads,
        seed=job.seed,
        **options,
    )
    return optimiser.compile(job.program, trainset=job.train, valset=job.select)


_OPTIMISERS: dict[str, tuple[Callable[[Job], dspy.Module], dict[str, Any]]] = {
    "labeled": (_labeled, {"k": 4}),
    "bootstrap": (_bootstrap, {**_DEMOS, **_RIGHT, "max_rounds": 1}),
    "random": (_random, {**_DEMOS, **_RIGHT, "max_rounds": 1}),
    "mipro": (
        _mipro,
        {
            **_DEMOS,
            **_RIGHT,
            **_WARM,
            "num_candidates": 6,
            "view_data_batch_size": 3,  # ten rows with passages would fill a small model's context
            "program_aware_proposer": True,
            "data_aware_proposer": True,
            "tip_aware_proposer": True,
            "fewshot_aware_proposer": True,
        },
    ),
    "copro": (_copro, {**_WARM, "depth": 2}),
    "gepa": (
        _gepa,
        {**_WARM, "reflection_minibatch_size": 3, "use_merge": True, "add_format_failure_as_feedback": True},
    ),
}
_NEEDS = {"mipro": "optuna", "gepa": "gepa"}


def names() -> tuple[str, ...]:
    """The optimisers.

    >>> names()
    ('labeled', 'bootstrap', 'random', 'mipro', 'copro', 'gepa')
    """
    return tuple(_OPTIMISERS)


def settled(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an optimiser: those given, and the defaults of the others.

    Raises:
        ArgumentError: No such optimiser or option, or a value of another kind than the default's.
        MissingExtraError: A package that the optimiser needs is not installed.

    >>> settled("labeled", {"k": 2})
    {'k': 2}
    """
    if name not in _OPTIMISERS:
        raise ArgumentError(f"optimiser = {name!r:.80}: there are {', '.join(_OPTIMISERS)}")
    found = dict(_OPTIMISERS[name][1])
    for option, given in options.items():
        if option not in found:
            raise ArgumentError(f"option {option!r:.80}: {name} has {', '.join(found)}")
        kind = type(found[option])
        value = float(given) if kind is float and type(given) is int else given
        if type(value) is not kind or (kind is not bool and not 0 <= value < 10**9):
            raise ArgumentError(f"option {option} = {given!r:.80}: give a {kind.__name__}, as in {found[option]!r}")
        found[option] = value
    needed = _NEEDS.get(name)
    if needed is not None and find_spec(needed) is None:
        raise MissingExtraError(
            f"{name} needs the package {needed}; install it with: pip install 'densecore[optimize]'"
        )
    return found


def versions(name: str) -> dict[str, str]:
    """Of the packages that decide what an optimiser comes to."""
    found = {"densecore": __version__, "dspy": dspy.__version__}
    return found if name not in _NEEDS else {**found, _NEEDS[name]: metadata.version(_NEEDS[name])}


def run(name: str, job: Job) -> dspy.Module:
    """Let an optimiser work; the program it would choose."""
    return _OPTIMISERS[name][0](job)
