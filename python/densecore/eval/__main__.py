"""``python -m densecore.eval``: programs answer the questions of a set; a table, a summary and a page say how well."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densecore import data
from densecore.command import MODEL, count, measure
from densecore.errors import ArgumentError, DenseCoreError

if TYPE_CHECKING:
    from densecore.report import Journal, Prices

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
MODULES = "PlanSolve,PromptPlanSolve,PlainChainOfThought"
IN_TEXT = "PromptPlanSolve,PlainChainOfThought"
"""The same for a language model that keeps its states to itself."""
SET, LIMIT = "problems", 16
"""What no options mean: problems that need no download, as many as a laptop answers in some minutes."""
_EPILOG = """\
examples:
  python -m densecore.eval
  python -m densecore.eval --set gsm8k --module PlanSolve,PlanSolve:mode=token,PromptPlanSolve --limit 64
  python -m densecore.eval --set hotpotqa --module ChainOfThought --load compiled.json
  python -m densecore.eval --compare gsm8k-dev-PlanSolve gsm8k-dev-PromptPlanSolve
A run that was stopped goes on where it was when the command is given again.
exit status: 0 done, 1 failed, 2 wrong arguments, 130 interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m densecore.eval",
        description="Let programs answer the questions of a set, and judge the answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is asked")
    what.add_argument("--set", default=None, help=f"{', '.join(data.names())} (default: {SET}, {LIMIT} of them)")
    what.add_argument("--split", default="dev", help="its split (default: dev)")
    what.add_argument(
        "--limit", type=int, metavar="N", help="the first N questions (default: all of a set that has files)"
    )
    what.add_argument("--data", metavar="FOLDER", help="folder of the sets, or hub (default: DENSECORE_DATA)")
    what.add_argument("--seed", type=int, default=0, help="of generated problems and of drawn answers (default: 0)")
    who = parser.add_argument_group("who answers")
    who.add_argument("--import", metavar="MODULE", dest="imported", help="a Python module that registers your programs")
    who.add_argument(
        "--module",
        "--program",
        metavar="NAME[:SETTING=VALUE...][,...]",
        help=f"programs (default: {MODULES}; of an API {IN_TEXT})",
    )
    who.add_argument("--load", metavar="FILE", help="the program as densecore.optimize saved it")
    who.add_argument(
        "--model",
        default=MODEL,
        metavar="NAME",
        help="its name or path, or dspy:PROVIDER/NAME (default: %(default)s)",
    )
    who.add_argument("--api-base", metavar="URL", help="where a server answers for a dspy: name, vLLM's say")
    who.add_argument("--adapter", default="dense", help="how DSPy's programs ask: dense, chat or json (default: dense)")
    who.add_argument("--temperature", type=measure, default=0.0, help="0 takes the likeliest token (default)")
    who.add_argument("--max-tokens", type=count, metavar="N", help="of an answer of DSPy's programs (default: 512)")
    how = parser.add_argument_group("how")
    how.add_argument("--threads", type=count, metavar="N", help="questions in work at a time (default: 64)")
    how.add_argument(
        "--piece", type=count, metavar="N", help="questions of a program before the next's turn (default: 128)"
    )
    how.add_argument("--cache", action="store_true", help="let DSPy's cache answer what was asked before")
    how.add_argument("--run", metavar="NAME", help="of the run, where there is one program")
    how.add_argument("--fresh", action="store_true", help="forget these runs' answers and begin again")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument(
        "--out", metavar="FOLDER", default="results/eval", help="journals, summary, page (default: results/eval)"
    )
    shown.add_argument(
        "--compare", nargs=2, metavar="RUN", help="two runs of that folder, or journals; answers nothing"
    )
    shown.add_argument("--plots", metavar="FOLDER", help="also write charts as files (needs matplotlib)")
    shown.add_argument("--prices", metavar="FILE", help="prices, see python -m densecore.report --help")
    shown.add_argument("--json", action="store_true", help="print the summary as JSON instead of a table")
    shown.add_argument("--quiet", action="store_true", help="no bars")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        prices = _prices(options)
        if options.compare:
            _show(options, prices, [_journal(options, name) for name in options.compare], "compare")
        else:
            _show(options, prices, _evaluate(options), f"{options.set or SET}-{options.split}")
    except ArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except DenseCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
    return OK


def _evaluate(options: argparse.Namespace) -> list[Journal]:
    from densecore import models, programs  # the rest is slow to import, and --help needs none of it
    from densecore.programs import lms

    from . import choice
    from .progress import Progress
    from .turns import PIECE, THREADS, take_turns

    if options.imported:
        programs.bring(options.imported)
    remote = options.model.startswith(lms.REMOTE)

    logging.getLogger("dspy").setLevel(logging.ERROR)  # an answer cut short shows in the journal
    chosen = [_module(text) for text in (options.module or (IN_TEXT if remote else MODULES)).split(",")]
    for number, each in enumerate(chosen):
        if each in chosen[:number]:
            raise ArgumentError(f"--module: {each[0]} is named twice with the same settings")
    if len(chosen) > 1 and (options.run or options.load):
        raise ArgumentError("--run, --load: they are for one program; name it with --module")
    lms.check_base(options.model, options.api_base, "--api-base")
    name = options.set or SET
    for program, settings in chosen:
        choice.check(
            program,
            name,
            model=options.model,
            adapter_name=options.adapter,
            compiled=options.load,
            settings=settings,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
        )
    limit = LIMIT if options.limit is None and name == SET else options.limit
    rows = data.load(name, options.split, folder=options.data, limit=limit, seed=options.seed)
    if not remote:
        models.resolve(options.model)
    lm = lms.language_model(
        options.model,
        api_base=options.api_base,
        temperature=options.temperature,
        max_tokens=options.max_tokens or lms.MAX_TOKENS,
        seed=options.seed,
        cache=options.cache,
    )
    runs = []
    try:
        for program, settings in chosen:
            runs.append(
                choice.begin(
                    program,
                    name,
                    options.split,
                    lm,
                    options.out,
                    model=options.model,
                    name=options.run,
                    adapter_name=options.adapter,
                    compiled=options.load,
                    settings=settings,
                    seed=options.seed,
                    fresh=options.fresh,
                )
            )
        progress = Progress(runs, len(rows), show=False if options.quiet else None)
        try:
            take_turns(runs, rows, threads=options.threads or THREADS, piece=options.piece or PIECE, seen=progress)
        finally:
            progress.close()
    finally:
        for run in runs:
            run.journal.close()
    return [run.journal for run in runs]


def _module(text: str) -> tuple[str, dict[str, Any]]:
    """``PlanSolve:mode=token:steps=200`` as a name and its settings."""
    name, *settings = text.strip().split(":")
    found = {}
    for setting in settings:
        key, mark, value = setting.partition("=")
        if not mark:
            raise ArgumentError(f"--module {text!r:.80}: write a setting as name=value")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return name, found


def _prices(options: argparse.Namespace) -> Prices:
    from densecore.report import Prices

    return Prices.read(options.prices) if options.prices else Prices()


def _journal(options: argparse.Namespace, name: str) -> Journal:
    from densecore.report import Journal

    from . import choice

    return Journal.read(name if name.endswith(".jsonl") else choice.place(options.out, name))


def _show(options: argparse.Namespace, prices: Prices, journals: Sequence[Journal], title: str) -> None:
    from densecore.report import compare, page, plots, summary, table

    from . import choice

    pairs = [compare(journals[0], other) for other in journals[1:]]
    folder = Path(options.out)
    if not options.compare:
        summary.write(folder / f"{title}.json", journals, keep=True, prices=prices, comparisons=pairs)
    own = journals[0].header.run if len(journals) == 1 else title
    place = page.write(choice.place(folder, own).with_suffix(".html"), journals, prices=prices, comparisons=pairs)
    if options.json:
        print(json.dumps(summary.document(journals, prices, pairs), indent=1))
    else:
        print(table.report(summary.rows(journals), prices, pairs))
        print(f"\nsummary: {folder / title}.json" if not options.compare else "")
        print(f"page: {place} (open it in a browser)")
    if options.plots:
        for drawn in plots.write(options.plots, summary.rows(journals), prices=prices):
            print(f"plot: {drawn}", file=sys.stderr)


def _command() -> int:
    try:
        return main()
    except KeyboardInterrupt:
        print("\nstopped: answers that were finished are kept; the same command goes on", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # the answers in work would be waited for otherwise


if __name__ == "__main__":
    sys.exit(_command())
