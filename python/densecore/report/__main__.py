"""``python -m densecore.report RUN.jsonl ...``: tables, comparisons, a page and plots of runs that are done."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from densecore.errors import ArgumentError, DenseCoreError
from densecore.report import page, plots, summary, table
from densecore.report.compare import compare
from densecore.report.journal import Journal
from densecore.report.prices import KEYS, Prices

OK, FAILED, USAGE = 0, 1, 2
_EPILOG = """\
exit status: 0 done, 1 a file is wrong or cannot be written, 2 wrong arguments
prices: a TOML or JSON file with any of hour, input, output, prompt_tokens, output_tokens and [models."NAME"]
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m densecore.report",
        description="Show what runs left.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUN.jsonl", nargs="+", help="journals of runs")
    parser.add_argument("--compare", action="store_true", help="pair the first run with each of the others")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page")
    parser.add_argument("--plots", metavar="FOLDER", help="write the charts as files (needs matplotlib)")
    parser.add_argument("--format", choices=plots.FORMATS, default="png", help="of the charts (default: png)")
    parser.add_argument("--summary", metavar="FILE", help="write the summary as JSON")
    parser.add_argument("--keep", action="store_true", help="leave rows of other runs in the summary")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON instead of tables")
    parser.add_argument("--title", help="of the page")
    costs = parser.add_argument_group("costs, in US dollars")
    costs.add_argument("--prices", metavar="FILE", help="a file of prices; the options below go over it")
    costs.add_argument("--hour", type=float, metavar="USD", help="an hour of this machine")
    costs.add_argument("--lm-input", type=float, metavar="USD", help="a million tokens read by the API that answered")
    costs.add_argument("--lm-output", type=float, metavar="USD", help="a million tokens it wrote")
    costs.add_argument("--input", type=float, metavar="USD", help="a million tokens read by a large model's API")
    costs.add_argument("--output", type=float, metavar="USD", help="a million tokens it writes")
    costs.add_argument(
        "--prompt-tokens", type=float, metavar="N", help="what it reads a question (default: the set's mean)"
    )
    costs.add_argument(
        "--output-tokens", type=float, metavar="N", help="what it writes a question (default: the set's mean)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.compare and len(options.runs) < 2:
        parser.error("--compare needs two runs or more")
    try:
        _show(options)
    except ArgumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except DenseCoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return OK
    return OK


def _show(options: argparse.Namespace) -> None:
    prices = Prices.read(options.prices) if options.prices else Prices()
    prices = prices.set(**{name: getattr(options, name) for name in KEYS})
    journals = [Journal.read(path) for path in options.runs]
    found = summary.rows(journals)
    compared = [compare(journals[0], other) for other in journals[1:]] if options.compare else []
    if options.json:
        print(json.dumps(summary.document(journals, prices, compared), indent=1))
    else:
        print(table.report(found, prices, compared))
    if options.summary:
        summary.write(options.summary, journals, keep=options.keep, prices=prices, comparisons=compared)
    if options.html:
        place = page.write(options.html, journals, prices=prices, comparisons=compared, title=options.title)
        print(f"page: {place}", file=sys.stderr)
    if options.plots:
        for place in plots.write(options.plots, found, prices=prices, kind=options.format):
            print(f"plot: {place}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
