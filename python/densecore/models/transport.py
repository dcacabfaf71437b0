"""HTTP requests one hop at a time: proxies and certificates of the user, redirects and the token by our own rules.

The token goes to the hub endpoint's own scheme, host and port and nowhere else; a redirect to another host (the
hub's file servers) is followed without it.
"""

from __future__ import annotations

import functools
import http.client
import os
import ssl
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from densecore import regular
from densecore.errors import ArgumentError, DownloadError

MAX_HOPS = 10  # redirects followed for one request; the hub needs two
_REDIRECTS = {301, 302, 303, 307, 308}
_AGENT = "densecore-models"


class Answer(Protocol):
    """What we use of an HTTP response."""

    status: int
    headers: Message

    def read1(self, size: int = ..., /) -> bytes:
        """What has arrived, at most ``size`` bytes; empty at the end."""

    def close(self) -> None:
        """Drop the connection."""


class _AsIs(urllib.request.HTTPErrorProcessor):
    """Hands every response to us: no automatic redirect (which would carry the token along), no exception."""

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        return response

    https_response = http_response


@dataclass(frozen=True)
class Token:
    """A hub token and the only origin that may see it. Never shown in a message or a representation."""

    value: str
    origin: tuple[str, str, int]

    def __repr__(self) -> str:
        """Without the value."""
        return f"Token(origin={self.origin})"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL.

    >>> origin("https://huggingface.co/x")
    ('https', 'huggingface.co', 443)
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), port or (443 if scheme == "https" else 80)


def token_for(endpoint: str, home: str) -> Token | None:
    """The token of the environment, or of the file ``huggingface-cli login`` writes under ``home``."""
    value = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not value:
        try:
            value = regular.read(os.environ.get("HF_TOKEN_PATH") or os.path.join(home, "token"), 4096).decode()
        except (OSError, UnicodeError):
            return None
    value = value.strip()
    if not value:
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ArgumentError(
            "the Hugging Face token (HF_TOKEN or the token file) holds spaces, line breaks or non-ASCII characters; "
            "copy it again from the hub's settings page"
        )
    return Token(value, origin(endpoint))


@functools.lru_cache(maxsize=4)
def _context(bundle: str | None) -> ssl.SSLContext:
    """Certificates are read once: that costs more than a small request."""
    return ssl.create_default_context(cafile=bundle if bundle and os.path.isfile(bundle) else None)


def _opener() -> urllib.request.OpenerDirector:
    context = _context(os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"))
    return urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _AsIs())


def request(
    url: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    token: Token | None = None,
    timeout: float,
    same_origin_only: bool = False,
) -> tuple[Answer, str]:
    """Send one request and follow redirects by hand; the answer comes with its final URL.

    With ``same_origin_only`` a redirect to another host is not followed but returned (its headers carry the hub's
    metadata).

    Raises:
        DownloadError: too many redirects, or one that leaves HTTP or drops encryption.
        OSError, http.client.HTTPException: the connection failed.
    """
    opener = _opener()
    for _ in range(MAX_HOPS + 1):
        if origin(url)[0] not in ("http", "https") or not origin(url)[1]:
            raise DownloadError(f"{shown(url)} is not an http or https address; check HF_ENDPOINT or the server")
        send = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **(headers or {})}
        if token is not None and origin(url) == token.origin:
            send["Authorization"] = f"Bearer {token.value}"
        try:
            answer: Answer = opener.open(urllib.request.Request(url, headers=send, method=method), timeout=timeout)
        except ValueError as error:  # a malformed URL or header, as http.client words it
            raise DownloadError(f"cannot ask for {shown(url)}: {error}; check HF_ENDPOINT or the server") from error
        target = answer.headers.get("Location")
        if answer.status not in _REDIRECTS or target is None:
            return answer, url
        following = urljoin(url, target)
        if same_origin_only and origin(following) != origin(url):
            return answer, url
        answer.close()
        if origin(url)[0] == "https" and origin(following)[0] != "https":
            raise DownloadError(
                f"{shown(url)} redirects to {shown(following)}, which is not encrypted; refused. Check HF_ENDPOINT "
                "or the proxy"
            )
        url = following
    raise DownloadError(f"more than {MAX_HOPS} redirects, the last to {shown(url)}; check HF_ENDPOINT or the proxy")


def shown(url: str) -> str:
    """A URL fit for a message: no user name, no password, no signed query.

    >>> shown("https://me:secret@host/path?signature=abc")
    'https://host/path'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def reason(error: BaseException) -> str:
    """The plain cause inside a network exception."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        error = inner
    return str(error) or type(error).__name__


def untrusted(error: BaseException) -> bool:
    """Whether the connection failed because the certificate is not trusted (another try will not help)."""
    return isinstance(error, ssl.SSLCertVerificationError) or isinstance(
        getattr(error, "reason", None), ssl.SSLCertVerificationError
    )
