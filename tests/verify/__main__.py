"""`python -m tests.verify [name ...] [--force] [--list]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time

from tests.golden.fixtures import real_path
from tests.verify import record

# name -> what it proves; the module of that name in this folder has `check() -> (passed, figures)`
CHECKS = {
    "import_cost": "import densecore costs no more than import numpy and 30 ms",
    "startup": "new process to first id of a 16-token prompt in two seconds",
    "first_command": "python -m densecore.eval without options: table and page within five minutes",
    "memory": "peak resident memory of 512 + 64 tokens at most 1.35 times the file",
    "exchange": "10,000 exchange round trips grow memory by at most 5 MB",
    "soak": "4,000 mixed calls from four threads, a tenth and more cancelled, leave memory and answers as they were",
    "dspy_soak": "64 threads of DSPy programs for ten minutes: none stuck, none lost, memory within 1 MB a minute",
    "dspy_company": "64 threads beside streams given up, calls timed out, answers held to forms: none lost, none changed",
    "structured": "1,000 structured DSPy calls of SmolLM2-135M: all parse, no task suffers, a tenth of the pace at most",
    "tokenizer_full": "ids equal llama.cpp's on all of GSM8K train and 2,000 SQuAD paragraphs",
    "soft_sentence": "eight vectors learn a sentence of 20 tokens through SmolLM2 in 500 Adam steps",
    "qwen_gradient": "gradients of 100 GSM8K problems through Q4_K_M equal torch's through the same weights",
    "fuzz": "five minutes of each fuzz target: no crash, no hang, memory below its cap",
    "notebooks": "the notebooks run from top to bottom on real Qwen",
    "qwen_kl": "2,000 positions against float32: KL, arg-max, hidden states",
}


def main() -> int:
    """Run the chosen checks; the exit status counts the failures."""
    parser = argparse.ArgumentParser(prog="python -m tests.verify", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(CHECKS)}; all without one")
    parser.add_argument("--force", action="store_true", help="run again what has passed")
    parser.add_argument("--list", action="store_true", help="tell the checks and their results, run nothing")
    options = parser.parse_args()
    unknown = set(options.names) - set(CHECKS)
    if unknown:
        parser.error(f"no check named {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    failed = 0
    for name in options.names or CHECKS:
        done = record.path(name)
        known = json.loads(done.read_text(encoding="utf-8")) if done.exists() else None
        if options.list or (known is not None and known["passed"] and not options.force):
            verdict = "not run" if known is None else f"{'passed' if known['passed'] else 'FAILED'} {known['date']}"
            record.say(f"{name:15} {verdict:30} {CHECKS[name]}")
            failed += known is not None and not known["passed"]
            continue
        record.say(f"{name}: {CHECKS[name]} ...")
        started = time.monotonic()
        module = importlib.import_module(f"tests.verify.{name}")
        passed, figures = module.check()
        record.write(
            name,
            passed=passed,
            seconds=time.monotonic() - started,
            figures=figures,
            peers=getattr(module, "PEERS", ()),
            models={name: real_path(name) for name in getattr(module, "MODELS", ())},
        )
        print(f"{name}: {'passed' if passed else 'FAILED'} {json.dumps(figures, ensure_ascii=False)}", flush=True)
        failed += not passed
    return min(failed, 100)


if __name__ == "__main__":
    sys.exit(main())
