"""What a run left, and what is made of it: journals, summaries, comparisons, tables and pages.

Nothing here knows a model, a program or a data set: it reads and writes what a run left.

    journal.py, record.py   the file of a run, a line an example
    summary.py              a row a run
    compare.py              two runs over the same questions
    prices.py, published.py costs, published scores and prices, the aim
    table.py                plain text
    page.py                 one HTML file; with chart.py, failures.py, markup.py
    plots.py                files of charts, through matplotlib
"""

from __future__ import annotations

from densecore.report.compare import Comparison, compare
from densecore.report.journal import Journal
from densecore.report.prices import Aim, Prices, aims
from densecore.report.published import API, F1, REFERENCES, Price, Reference
from densecore.report.record import EXACT, Example, Header
from densecore.report.summary import Row, row, rows

__all__ = [
    "API",
    "EXACT",
    "F1",
    "REFERENCES",
    "Aim",
    "Comparison",
    "Example",
    "Header",
    "Journal",
    "Price",
    "Prices",
    "Reference",
    "Row",
    "aims",
    "compare",
    "row",
    "rows",
]
