"""The hub: is it there, what does a repository hold, and its files into the shared cache."""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from densecore import regular
from densecore.errors import DenseCoreError, DownloadError, IntegrityError, ModelNotFoundError, StorageError
from densecore.runs import lock
from densecore.runs.progress import wanted

from . import cache, disk, fetch, names, pick, transport
from .catalogue import HubSource, Pin
from .progress import Bar
from .receipt import Digest

PATIENCE = 3.0  # seconds an unreachable hub may cost, once in a process
_METADATA_TIMEOUT = 10.0  # seconds for one small answer of a hub that is there
_METADATA_TRIES = 3
_MAX_ANSWER = 16 << 20  # bytes of a repository listing
_AWAY = {407, 502, 503, 504}  # what proxies and gateways answer for a hub they cannot reach
_HEX = re.compile(r"[0-9a-f]{40}")

_verdicts: dict[str, str | None] = {}
_asking = threading.Lock()


class HubUnreachable(DownloadError):
    """The hub did not answer in time. Another source may still have the model."""


@dataclass(frozen=True)
class Remote:
    """A file on the hub, as its metadata tells."""

    file: str
    size: int
    digest: Digest
    commit: str


def endpoint() -> str:
    """The hub's address: ``$HF_ENDPOINT`` or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").strip().rstrip("/")


def reach() -> None:
    """Return if the hub answers; the verdict is asked for once and remembered for the life of the process.

    Raises:
        HubUnreachable: it did not answer within three seconds, name resolution included.
    """
    address = endpoint()
    with _asking:
        if address not in _verdicts:
            _verdicts[address] = _probe(address)
        verdict = _verdicts[address]
    if verdict is not None:
        raise HubUnreachable(
            f"the hub {transport.shown(address)} cannot be reached: {verdict}. Check the network, the proxy settings "
            "(HTTPS_PROXY) or HF_ENDPOINT; a model already on disk can be given by its path"
        )


def forget() -> None:
    """Ask again next time (for long-lived processes whose network came back)."""
    with _asking:
        _verdicts.clear()


def _probe(address: str) -> str | None:
    """Why the hub cannot be reached, or ``None``. A thread of its own, because name resolution has no timeout."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            answer, _ = transport.request(address + "/", method="HEAD", timeout=PATIENCE, same_origin_only=True)
            answer.close()
            outcome.append(f"HTTP status {answer.status}" if answer.status in _AWAY else None)
        except DenseCoreError as error:
            outcome.append(str(error))
        except (OSError, http.client.HTTPException) as error:
            outcome.append(transport.reason(error))

    thread = threading.Thread(target=ask, name="densecore-hub-probe", daemon=True)
    begin = time.monotonic()
    thread.start()
    thread.join(PATIENCE)
    if not outcome:
        return f"no answer within {time.monotonic() - begin:.1f} s"
    return outcome[0]


def _token() -> transport.Token | None:
    return transport.token_for(endpoint(), str(cache.hf_home()))


def _ask(url: str, label: str, method: str) -> tuple[transport.Answer, str]:
    """A small request with a few tries; statuses that mean no raise."""
    why = ""
    token = _token()
    for attempt in range(_METADATA_TRIES):
        if attempt:
            time.sleep(min(fetch.POLICY.longest_wait, fetch.POLICY.backoff * 2 ** (attempt - 1)))
        try:
            answer, final = transport.request(
                url, method=method, token=token, timeout=_METADATA_TIMEOUT, same_origin_only=method == "HEAD"
            )
        except DenseCoreError:
            raise
        except (OSError, http.client.HTTPException) as error:
            why = transport.reason(error)
            if transport.untrusted(error):
                break
            continue
        if answer.status < 300 or (method == "HEAD" and answer.status < 400):
            return answer, final
        answer.close()
        fetch.refuse(answer.status, final, label, with_token=token is not None)
        why = f"HTTP status {answer.status}"
    raise DownloadError(f"{label}: {transport.shown(url)} failed ({why}) after several tries; try again later")


@dataclass(frozen=True)
class Listing:
    """What a revision of a repository is: its commit, its files, and the licence its card states."""

    commit: str
    files: tuple[str, ...]
    licence: str | None


def listing(repo: str, revision: str) -> Listing:
    """Ask what a revision of a repository holds."""
    url = f"{endpoint()}/api/models/{repo}/revision/{quote(revision, safe='')}"
    answer, _ = _ask(url, repo, "GET")
    body = bytearray()
    try:
        while len(body) <= _MAX_ANSWER and (block := answer.read1(1 << 16)):
            body += block
        told = json.loads(bytes(body))
        commit, files = str(told["sha"]), tuple(str(item["rfilename"]) for item in told["siblings"])
        licence = (told.get("cardData") or {}).get("license")
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise DownloadError(
            f"{repo}: {transport.shown(url)} did not answer with a list of files ({error!r}); check HF_ENDPOINT"
        ) from error
    finally:
        answer.close()
    if not _HEX.fullmatch(commit):
        raise DownloadError(f"{repo}: {transport.shown(url)} names the commit {commit[:60]!r}, which is none")
    plain = isinstance(licence, str) and licence.isprintable() and len(licence) < 100
    return Listing(commit, files, licence if plain else None)


def _url(repo: str, revision: str, file: str) -> str:
    return f"{endpoint()}/{repo}/resolve/{quote(revision, safe='')}/{quote(file)}"


def metadata(repo: str, revision: str, file: str) -> Remote:
    """Size, hash and commit of one file, from the headers of its resolve address."""
    url = _url(repo, revision, file)
    answer, _ = _ask(url, f"{repo}:{file}", "HEAD")
    answer.close()
    head = answer.headers
    commit = head.get("X-Repo-Commit", revision)
    etag = (head.get("X-Linked-Etag") or head.get("ETag") or "").removeprefix("W/").strip('"')
    size = head.get("X-Linked-Size") or head.get("Content-Length") or ""
    digest = Digest.from_etag(etag)
    if not _HEX.fullmatch(commit) or digest is None or not size.isdigit():
        raise IntegrityError(
            f"{repo}:{file}: {transport.shown(url)} gives no commit, size and hash to check the content by (commit "
            f"{commit[:60]!r}, size {size[:20]!r}, etag {etag[:80]!r}); use another HF_ENDPOINT"
        )
    return Remote(file, int(size), digest, commit)


def pull(source: HubSource, *, pin: Pin | None = None, progress: bool | None = None) -> Path:
    """Bring a model into the shared cache; the path of its GGUF file or of its folder.

    Raises:
        HubUnreachable: no hub.
        DownloadError, ModelNotFoundError, IntegrityError: as their messages say.
    """
    reach()
    label = source.label
    if source.file is not None:
        remote = metadata(source.repo, source.revision, source.file)
        if pin is not None and remote.digest != Digest("sha256", pin.sha256):
            raise DownloadError(
                f"{label}: the hub now offers {remote.digest}, this version of densecore knows SHA-256 {pin.sha256}; "
                f"to use the new file all the same, ask for {label} by that id"
            )
        place = _bring(source.repo, [remote], label, progress)[0]
        cache.Repo(source.repo).refer(source.revision, remote.commit)
        return place
    there = listing(source.repo, source.revision)
    choice = pick.choose(there.files, source.repo)
    if choice.gguf is not None:
        place = _bring(source.repo, [metadata(source.repo, there.commit, choice.gguf)], label, progress)[0]
    else:
        place = _folder(source.repo, there.commit, choice, set(there.files), progress)
    cache.Repo(source.repo).refer(source.revision, there.commit)
    return place


def licence(source: HubSource) -> str | None:
    """The licence a repository's card states, remembered beside the receipts for offline use."""
    stated = listing(source.repo, source.revision).licence
    cache.note_licence(source.repo, stated)
    return stated


def _folder(repo: str, commit: str, choice: pick.Choice, there: set[str], progress: bool | None) -> Path:
    small = [metadata(repo, commit, file) for file in choice.files if file.endswith((".json", ".jinja"))]
    for remote in small:
        if remote.size > pick.MAX_JSON:
            raise DownloadError(f"{repo}:{remote.file} has {remote.size} bytes, more than the {pick.MAX_JSON} allowed")
    paths = dict(zip((remote.file for remote in small), _bring(repo, small, repo, False), strict=True))
    if pick.remote_code(_read(paths[pick.CONFIG])):
        warnings.warn(f"{repo}: auto_map in config.json asks for the repository's code; ignored", stacklevel=2)
    large = pick.shards(_read(paths[pick.INDEX]), repo) if choice.sharded else [pick.SINGLE]
    absent = [file for file in large if file not in there]
    if absent:
        raise ModelNotFoundError(f"{repo}: the index names shards the repository lacks: {', '.join(absent[:5])}")
    _bring(repo, [metadata(repo, commit, file) for file in large], repo, progress)
    return cache.Repo(repo).snapshot(commit)


def _read(path: Path) -> bytes:
    try:
        return regular.read(path, pick.MAX_JSON)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error}; remove it, and run it again") from error


def _bring(repo: str, remotes: Sequence[Remote], label: str, progress: bool | None) -> list[Path]:
    """Download what the cache lacks, one bar for all of it; the snapshot path of each."""
    place, notes = cache.Repo(repo), cache.receipts()
    for remote in remotes:
        names.within(place.snapshot(remote.commit), remote.file, repo)
    lacking = [remote for remote in remotes if not place.blob(remote.digest.value).is_file()]
    need = sum(max(0, remote.size - fetch.size(_part(place, remote))) for remote in lacking)
    if need:
        disk.require(place.folder, need, label)
    token, paths = _token(), []
    with Bar(label, sum(remote.size for remote in lacking), enabled=bool(lacking) and wanted(progress)) as bar:
        for remote in remotes:
            blob = place.blob(remote.digest.value)
            if not blob.is_file():
                job = fetch.Job(
                    _url(repo, remote.commit, remote.file),
                    blob,
                    _part(place, remote),
                    remote.size,
                    remote.digest,
                    f"{repo}:{remote.file}",
                    token,
                )
                with lock.hold(place.lock(remote.digest.value), f"downloading {job.label}", quiet=progress is False):
                    if blob.is_file():
                        bar.add(remote.size)
                    else:
                        fetch.download(job, bar)
                        notes.write(blob, remote.digest)
            pointer = place.point(remote.commit, remote.file, remote.digest.value)
            if not pointer.is_symlink():
                notes.write(pointer, remote.digest)  # a copy does not carry its hash in the name of a blob
            paths.append(pointer)
    return paths


def _part(place: cache.Repo, remote: Remote) -> Path:
    # A suffix of our own: other tools' partial files may have holes.
    return place.folder / "blobs" / f"{remote.digest.value}.densecore.incomplete"
