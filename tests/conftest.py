"""Settings every test shares. Nothing here imports densecore: the structure tests run before anything is built."""

from __future__ import annotations

import os

import hypothesis

# Before any library reads them: no telemetry, no bars in the log, no tokenizer threads around a fork.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The same examples in every run, so a failure of one machine is a failure of all; no deadline on shared cores.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")
