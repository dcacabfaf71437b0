"""Settings every test shares. Nothing here imports densecore: the structure tests run before anything is built."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest

# Before any library reads them: no telemetry, no bars in the log, no tokenizer threads around a fork.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Commands that tests start and interrupt would ignore Ctrl-C if this process does, as one that was put into the background.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so a failure of one machine is a failure of all; no deadline on shared cores.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")


def _no_silent_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where everything is installed, a test that skips itself has failed; only absent data sets excuse it."""
    if report.skipped and os.environ.get("CI") and "DENSECORE_DATA" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Tests."""
    report = yield
    _no_silent_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Whole files."""
    report = yield
    _no_silent_skip(report)
    return report
