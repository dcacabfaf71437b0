"""A loopback hub with the answers of the real one, and every fault a test asks for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Blob:
    data: bytes
    lfs: bool = True
    claims: bytes | None = None  # what the metadata is computed from, if not from the data

    @property
    def size(self) -> int:
        return len(self.claims if self.claims is not None else self.data)

    @property
    def etag(self) -> str:
        data = self.claims if self.claims is not None else self.data
        if self.lfs:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Hub:
    """State shared by the hub and its file server (another port: another origin)."""

    repos: dict[str, dict[str, Blob]] = field(default_factory=dict)
    token: str | None = None
    log: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # (server, path, headers)
    cuts: list[int] = field(default_factory=list)  # bytes to send before each cut of a large file
    faults: list[int] = field(default_factory=list)  # statuses for the next requests to the file server
    ranges: bool = True
    wrong_range: bool = False
    lying_length: int | None = None
    chunked: bool = False
    extra: bytes = b""
    stall: threading.Event | None = None  # set: the hub accepts and never answers
    slow: float = 0.0  # seconds between two pieces of a large file
    siblings: list[str] | None = None
    etag_headers: bool = True
    commit: str = COMMIT
    url: str = ""
    files_url: str = ""

    def add(self, repo: str, file: str, data: bytes, *, lfs: bool | None = None, claims: bytes | None = None) -> Blob:
        large = lfs if lfs is not None else file.endswith((".gguf", ".safetensors"))
        blob = Blob(data, large, claims)
        self.repos.setdefault(repo, {})[file] = blob
        return blob

    def requests(self, server: str = "hub") -> list[str]:
        return [path for where, path, _ in self.log if where == server]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub
    role: str

    def log_message(self, *_: object) -> None:
        return

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def _plain(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _serve(self, *, body: bool) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.log.append((self.role, f"{self.command} {path}", dict(self.headers.items())))
        if hub.stall is not None:
            hub.stall.wait(30)
            self.close_connection = True
            return
        if self.role == "files":
            repo, _, file = unquote(path).removeprefix("/blob/").partition("!")
            self._large(hub.repos[repo][file])
            return
        if path == "/":
            self._plain(200)
            return
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._plain(401, b"gated")
            return
        if path.startswith("/api/models/"):
            repo = path.removeprefix("/api/models/").partition("/revision/")[0]
            if repo not in hub.repos:
                self._plain(404)
                return
            names = hub.siblings if hub.siblings is not None else list(hub.repos[repo])
            self._plain(
                200,
                json.dumps(
                    {"sha": hub.commit, "siblings": [{"rfilename": n} for n in names], "cardData": {"license": "mit"}}
                ).encode(),
            )
            return
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        file = unquote(rest.partition("/")[2])
        blob = hub.repos.get(repo, {}).get(file)
        if blob is None:
            self._plain(404)
            return
        told = {"X_Repo_Commit": hub.commit}
        if hub.etag_headers:
            told |= {"X_Linked_Etag": f'"{blob.etag}"', "X_Linked_Size": str(blob.size)}
        if blob.lfs:
            self._plain(302, Location=f"{hub.files_url}/blob/{repo}!{file}?signature=secret", **told)
            return
        tag = {"ETag": f'"{blob.etag}"'} if hub.etag_headers else {}
        self._plain(200, blob.data, X_Repo_Commit=hub.commit, **tag)

    def _large(self, blob: Blob) -> None:
        hub, data = self.hub, blob.data + self.hub.extra
        if hub.faults:
            self._plain(hub.faults.pop(0))
            return
        begin, span = 0, self.headers.get("Range")
        if span and hub.ranges:
            begin = int(span.removeprefix("bytes=").partition("-")[0])
            if begin >= len(data):
                self._plain(416)
                return
        total = hub.lying_length if hub.lying_length is not None else len(data)
        self.send_response(206 if begin else 200)
        if begin:
            first = begin + 7 if hub.wrong_range else begin
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        if hub.chunked:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(total - begin))
        self.send_header("ETag", f'"{blob.etag[:16]}"')
        self.end_headers()
        rest = data[begin:]
        cut = hub.cuts.pop(0) if hub.cuts else None
        if cut is not None:
            rest = rest[:cut]
        with contextlib.suppress(OSError):
            for start in range(0, len(rest), 65536):
                self.wfile.write(rest[start : start + 65536])
                if hub.slow:
                    time.sleep(hub.slow)
        if cut is not None or total != len(data):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        return


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    hub, servers = Hub(), []
    for role in ("hub", "files"):
        server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": hub, "role": role}))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
    hub.url, hub.files_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        if hub.stall is not None:
            hub.stall.set()
        for server in servers:
            server.shutdown()
            server.server_close()
