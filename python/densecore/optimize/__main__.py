"""``python -m densecore.optimize``: an optimiser looks for better instructions and demonstrations for a program."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from densecore.command import MODEL, count, measure
from densecore.errors import ArgumentError, DenseCoreError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_EPILOG = """\
optimisers: labeled, bootstrap, random, mipro, copro, gepa (see python -c 'help("densecore.optimize.optimisers")')
examples:
  python -m densecore.optimize --program ChainOfThought --set gsm8k --optimiser random
  python -m densecore.optimize --program MultiHop --set hotpotqa --optimiser mipro --minutes 60
  python -m densecore.optimize --program ChainOfThought --optimiser gepa --teacher dspy:openai/gpt-4.1
  python -m densecore.eval --set gsm8k --module ChainOfThought --load results/optimize/gsm8k-ChainOfThought-random/program.json
A run that was stopped goes on where it was when the command is given again. Its folder holds program.json (the best so
far), trials.jsonl (candidates and scores), answers.jsonl (what language models said) and log.txt (what DSPy printed).
Demonstrations come from splits called train, candidates are chosen on splits called select, and neither is ever reported on.
exit status: 0 done, or its budget over; 1 failed; 2 wrong arguments; 130 interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m densecore.optimize",
        description="Compile a program: let an optimiser look for better instructions and demonstrations.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is compiled")
    what.add_argument(
        "--program",
        "--module",
        metavar="NAME[:SETTING=VALUE...]",
        default="ChainOfThought",
        help="(default: %(default)s)",
    )
    what.add_argument("--set", default="gsm8k", help="what it is to answer (default: gsm8k)")
    what.add_argument("--optimiser", "--optimizer", default="random", metavar="NAME", help="(default: random)")
    what.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the optimiser")
    what.add_argument("--train-set", metavar="SET/train", help="rows for demonstrations (default: the set's)")
    what.add_argument("--train-rows", type=count, metavar="N", help="how many (default: 200)")
    what.add_argument("--select-set", metavar="SET/select", help="rows to choose on (default: the set's)")
    what.add_argument("--select-rows", type=count, metavar="N", help="how many (default: 100)")
    what.add_argument("--data", metavar="FOLDER", help="folder of the sets, or hub (default: DENSECORE_DATA)")
    what.add_argument("--seed", type=int, default=0, help="of choices and draws (default: 0)")
    who = parser.add_argument_group(
        "who answers", "NAME: a model computed here, by name or path; or dspy:PROVIDER/NAME"
    )
    who.add_argument("--model", default=MODEL, metavar="NAME", help="(default: %(default)s)")
    who.add_argument("--teacher", metavar="NAME", help="demonstrates and writes instructions (default: the model)")
    who.add_argument("--adapter", default="dense", help="how programs ask: dense, chat or json (default: dense)")
    who.add_argument("--temperature", type=measure, default=0.0, help="0 takes the likeliest token (default)")
    who.add_argument("--api-base", metavar="URL", help="where a server answers for the model, vLLM's say")
    who.add_argument("--teacher-base", metavar="URL", help="where one answers for the teacher")
    who.add_argument("--import", metavar="MODULE", dest="imported", help="a Python module that registers your programs")
    who.add_argument("--max-tokens", type=count, metavar="N", help="of an answer (default: 512)")
    how = parser.add_argument_group("how")
    how.add_argument("--evaluations", type=count, default=16, metavar="N", help="candidates at most (default: 16)")
    how.add_argument("--minutes", type=measure, metavar="N", help="stop after so long, with the best so far")
    how.add_argument("--threads", type=count, default=16, metavar="N", help="rows in work at once (default: 16)")
    how.add_argument("--out", metavar="FOLDER", help="of the run (default: results/optimize/SET-PROGRAM-OPTIMISER)")
    how.add_argument("--json", action="store_true", help="print what was done as one JSON object")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        _compile(options)
    except ArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except DenseCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
    return OK


def _compile(options: argparse.Namespace) -> None:
    from densecore import programs
    from densecore.optimize import optimisers, rows
    from densecore.optimize.compiled import compile as compiled
    from densecore.optimize.run import PROGRAM
    from densecore.programs import lms

    if options.imported:
        programs.bring(options.imported)
    program, *settings = options.program.split(":")
    places = rows.DEFAULTS.get(options.set, ("", ""))
    taken = (
        (options.train_set or places[0], "train", options.train_rows, rows.TRAIN_ROWS),
        (options.select_set or places[1], "select", options.select_rows, rows.SELECT_ROWS),
    )
    for place, role, *_ in taken:
        if place:
            rows.checked(place, role)
    made = dict(map(_option, settings))
    lms.check_base(options.model, options.api_base, "--api-base")
    lms.check_base(options.teacher, options.teacher_base, "--teacher-base")
    lms.adapter(options.adapter)
    student = programs.make(program, programs.task_of(options.set), **made)
    lms.heeds(student, program, options.model, options.temperature, options.max_tokens)
    settled = optimisers.settled(options.optimiser, dict(map(_option, options.option)))
    for place, role, wanted, most in taken:  # before a model is loaded, or even fetched
        rows.take(place, role, wanted, most, options.data, options.seed)
    folder = Path(options.out or f"results/optimize/{options.set}-{program}-{options.optimiser}")
    told = {"temperature": options.temperature}
    if options.max_tokens is not None:
        told["max_tokens"] = options.max_tokens
    best = compiled(
        program,
        options.set,
        optimiser=options.optimiser,
        lm=lms.language_model(options.model, api_base=options.api_base, **told),
        teacher=options.teacher and lms.language_model(options.teacher, api_base=options.teacher_base, **told),
        adapter=options.adapter,
        settings=made,
        options=settled,
        train=options.train_set,
        train_rows=options.train_rows,
        select=options.select_set,
        select_rows=options.select_rows,
        seed=options.seed,
        evaluations=options.evaluations,
        minutes=options.minutes,
        threads=options.threads,
        data=options.data,
        folder=folder,
    )
    facts = best.provenance
    if options.json:
        print(json.dumps({"saved": str(folder / PROGRAM), **facts}))
        return
    chosen = f"{facts['select']['rows']} rows of {facts['select']['from']}"
    if best.stopped:
        print(f"the budget ({best.stopped}) was over before {options.optimiser} was done; this is the best so far")
    print(
        f"best of {len(facts['candidates'])} candidates on {chosen}: {best.score:.1%}, and at the start {best.start:.1%}"
    )
    print(f"saved: {folder / PROGRAM}")


def _option(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark:
        raise ArgumentError(f"{text!r:.80}: write NAME=VALUE")
    try:
        return name, json.loads(value.lower() if value in ("True", "False") else value)
    except ValueError:
        return name, value


def _command() -> int:
    try:
        return main()
    except KeyboardInterrupt:
        print("\nstopped: the best so far is saved, and the same command goes on from here", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # the answers in work would be waited for otherwise


if __name__ == "__main__":
    sys.exit(_command())
