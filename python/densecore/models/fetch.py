"""One file over HTTP: streamed to disk while hashing, resumed after a break, accepted only whole and verified.

Bytes go into a ``.incomplete`` file beside the target. Only when size and digest are right is it renamed to its
real name, so a file under its real name is always whole.
"""

from __future__ import annotations

import http.client
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from densecore import regular
from densecore.errors import DenseCoreError, DownloadError, IntegrityError, ModelNotFoundError
from densecore.runs import replace

from . import disk, receipt, transport
from .progress import Bar
from .receipt import Digest


@dataclass(frozen=True)
class Policy:
    """How patient a download is. Seconds and counts."""

    stall: float = 30.0  # without a byte, the connection counts as dead
    slowest: float = 1024.0  # bytes per second over one stall period, below which it counts as dead too
    tries: int = 5  # in a row without a new byte
    total_tries: int = 50  # in all, however many bytes each one brings
    backoff: float = 0.5  # before the second try; doubled each time
    longest_wait: float = 30.0  # between two tries, whatever the server asks


POLICY = Policy()


@dataclass(frozen=True)
class Job:
    """What to download and how to recognise it."""

    url: str
    target: Path
    part: Path
    size: int
    digest: Digest
    label: str
    token: transport.Token | None = None


class _Broken(Exception):
    """A connection that ended early: worth another try."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _Restart(Exception):
    """What is on disk does not belong to what the server sends: begin at zero."""


def download(job: Job, bar: Bar) -> None:
    """Bring ``job.target`` here, whole and verified.

    Raises:
        DownloadError: network, server or disk; the ``.incomplete`` file stays for the next run, except on a full disk.
        IntegrityError: wrong size or hash; nothing stays.
    """
    job.target.parent.mkdir(parents=True, exist_ok=True)
    begin = bar.done
    _clear(job)
    have = size(job.part)
    resumed = 0 < have <= job.size
    if have > job.size:
        job.part.unlink(missing_ok=True)
    _transfer(job, bar, begin)
    found = receipt.hash_file(job.part, job.digest.kind)
    if found != job.digest and resumed:
        # The bytes of an earlier run may be the wrong ones: once more from zero before blaming the server.
        job.part.unlink(missing_ok=True)
        bar.set(begin)
        _transfer(job, bar, begin)
        found = receipt.hash_file(job.part, job.digest.kind)
    if found != job.digest:
        job.part.unlink(missing_ok=True)
        raise IntegrityError(
            f"{job.label}: {transport.shown(job.url)} sent bytes with {found}, expected {job.digest}; the file was "
            "removed. Try again; if it repeats, the server or a proxy alters the file: do not use it"
        )
    _commit(job)


def _clear(job: Job) -> None:
    """Take the name of the partial file back from what is no file: a pipe would make us wait."""
    try:
        if os.path.lexists(job.part) and not job.part.is_file():
            job.part.unlink()
    except OSError as error:
        raise disk.explain(error, job.part, job.label, 0, job.size) from error


def _commit(job: Job) -> None:
    try:
        replace.settle(job.part, job.target)
    except OSError as error:
        raise disk.explain(error, job.target, job.label, job.size, job.size) from error


def _transfer(job: Job, bar: Bar, begin: int) -> None:
    """Fill ``job.part`` to ``job.size`` bytes, over as many connections as it takes."""
    failures, restarts, validator = 0, 0, None
    for _ in range(POLICY.total_tries):
        have = size(job.part)
        if have == job.size and job.part.exists():
            bar.set(begin + have)
            return
        try:
            validator = _once(job, have, bar, begin, validator)
            continue
        except _Restart as error:
            restarts += 1
            validator = None
            job.part.unlink(missing_ok=True)
            if restarts > 2:
                raise DownloadError(f"{job.label}: {error}, again after two restarts; try again later") from error
            continue
        except _Broken as error:
            why, wait = str(error), error.wait
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, DenseCoreError):
                raise
            if transport.untrusted(error):
                raise DownloadError(
                    f"{job.label}: the certificate of {transport.shown(job.url)} is not trusted "
                    f"({transport.reason(error)}); behind a company proxy, set SSL_CERT_FILE to its certificates"
                ) from error
            why, wait = transport.reason(error), 0.0
        failures = 0 if size(job.part) > have else failures + 1
        if failures >= POLICY.tries:
            break
        time.sleep(min(POLICY.longest_wait, max(wait, POLICY.backoff * 2 ** max(0, failures - 1))))
    raise DownloadError(
        f"{job.label}: {transport.shown(job.url)} broke off at {size(job.part)} of {job.size} bytes ({why}) after "
        f"{POLICY.tries} tries without progress; what arrived is kept, run it again to resume"
    )


def _once(job: Job, have: int, bar: Bar, begin: int, validator: str | None) -> str | None:
    """One connection. Returns the server's validator for the next range request."""
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    answer, final = transport.request(job.url, headers=headers, token=job.token, timeout=POLICY.stall)
    try:
        _check_status(answer, final, job, have)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise DownloadError(f"{job.label}: {transport.shown(final)} sent compressed bytes though asked not to")
        if have and answer.status == 200:
            have = 0  # the server ignores ranges, or the file changed: take it from the start
            job.part.unlink(missing_ok=True)
        _check_length(answer, final, job, have)
        bar.set(begin + have)
        _stream(answer, job, have, bar, begin)
        etag = answer.headers.get("ETag")
        return etag if etag and not etag.startswith("W/") else None
    finally:
        answer.close()


def _check_status(answer: transport.Answer, url: str, job: Job, have: int) -> None:
    status = answer.status
    if status == 206 and have:
        span = answer.headers.get("Content-Range", "").replace("bytes", "").strip()
        first = span.partition("-")[0]
        if first != str(have):
            raise _Restart(f"the server answered a range from {first or 'nowhere'} when asked for {have}")
        return
    if status == 200:
        return
    if status == 416:
        raise _Restart(f"the server has no bytes after {have}")
    refuse(status, url, job.label, with_token=job.token is not None)
    wait = answer.headers.get("Retry-After", "")
    raise _Broken(f"HTTP status {status}", float(wait) if wait.isdigit() else 0.0)


def refuse(status: int, url: str, label: str, *, with_token: bool) -> None:
    """Raise for an HTTP status that another try will not change; return for the others.

    Raises:
        DownloadError: no permission, or a client error.
        ModelNotFoundError: no such file.
    """
    place = transport.shown(url)
    if status in (401, 403):
        sent = "a token was sent, but it does not open this" if with_token else "no token was sent"
        raise DownloadError(
            f"{label}: {place} answered {status}, no access ({sent}). If the model is gated, accept its licence on "
            "its page on the hub, then set HF_TOKEN to a token with read access"
        )
    if status in (404, 410):
        raise ModelNotFoundError(f"{label}: {place} answered {status}, not found; check the name, revision and file")
    if 300 <= status < 500 and status not in (408, 425, 429):
        raise DownloadError(f"{label}: {place} answered HTTP status {status}; check HF_ENDPOINT or the proxy")


def _check_length(answer: transport.Answer, url: str, job: Job, have: int) -> None:
    """A size that contradicts the metadata is refused before a byte is written."""
    total: int | None = None
    span = answer.headers.get("Content-Range", "").rpartition("/")[2]
    length = answer.headers.get("Content-Length", "")
    if answer.status == 206 and span.isdigit():
        total = int(span)
    elif length.isdigit():
        total = int(length) + have
    if total is not None and total != job.size:
        job.part.unlink(missing_ok=True)
        raise IntegrityError(
            f"{job.label}: {transport.shown(url)} offers {total} bytes, expected {job.size}; nothing was kept. Try "
            "again; if it repeats, the server or a proxy alters the file: do not use it"
        )


def _stream(answer: transport.Answer, job: Job, have: int, bar: Bar, begin: int) -> None:
    mark, low = time.monotonic(), have
    try:
        # Unbuffered: a failed write must not come back a second time when the file is closed.
        with regular.opened(job.part, "ab", 0) as handle:
            while True:
                block = answer.read1(receipt.BLOCK)
                if not block:
                    break
                have += len(block)
                if have > job.size:
                    raise IntegrityError(
                        f"{job.label}: {transport.shown(job.url)} sent more than the expected {job.size} bytes; the "
                        "file was removed. Try again; if it repeats, do not use this server"
                    )
                _append(handle, block, job, have - len(block))
                bar.set(begin + have)
                now = time.monotonic()
                if now - mark > POLICY.stall:
                    if (have - low) / (now - mark) < POLICY.slowest:
                        raise _Broken(f"only {have - low} bytes in {now - mark:.0f} s")
                    mark, low = now, have
    except IntegrityError:
        job.part.unlink(missing_ok=True)
        raise
    if have < job.size:
        raise _Broken("connection closed early")


def _append(handle: BinaryIO, block: bytes, job: Job, done: int) -> None:
    """Write; a full disk removes the partial file."""
    try:
        disk.write(handle, block)
    except OSError as error:
        problem = disk.explain(error, job.part, job.label, done, job.size)
        if isinstance(problem, DownloadError):
            job.part.unlink(missing_ok=True)
        raise problem from error


def size(path: Path) -> int:
    """Bytes of a file; none if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
