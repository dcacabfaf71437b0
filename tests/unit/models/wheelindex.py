"""A package index on the loopback, with wheels built here, for the real pip."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def wheel(name: str, version: str, member: str, data: bytes, *, compress: bool = True) -> bytes:
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{stem}/__init__.py", "raise SystemExit('a model wheel was imported')\n")
        archive.writestr(f"{stem}/data/{member}", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


@dataclass
class Index:
    wheels: dict[str, bytes] = field(default_factory=dict)  # file name to content
    served: list[str] = field(default_factory=list)
    slow: float = 0.0  # seconds between two pieces
    url: str = ""

    def add(self, name: str, version: str, member: str, data: bytes, *, compress: bool = True) -> str:
        file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        self.wheels[file] = wheel(name, version, member, data, compress=compress)
        return file


class _Handler(BaseHTTPRequestHandler):
    index: Index

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        path = self.path.strip("/").split("/")
        if path[0] == "simple" and len(path) == 2:
            names = [n for n in self.index.wheels if re.sub(r"[-_.]+", "-", n.split("-")[0]) == path[1]]
            body = "".join(f'<a href="/files/{n}">{n}</a>' for n in names).encode()
            self._send(200 if names else 404, body, "text/html")
        elif path[0] == "files" and path[1] in self.index.wheels:
            self.index.served.append(path[1])
            self._send(200, self.index.wheels[path[1]], "application/octet-stream")
        else:
            self._send(404, b"", "text/html")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            for start in range(0, len(body), 32768):
                self.wfile.write(body[start : start + 32768])
                if self.index.slow and kind != "text/html":
                    time.sleep(self.index.slow)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        return


@contextlib.contextmanager
def running() -> Iterator[Index]:
    index = Index()
    server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"index": index}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    index.url = f"http://127.0.0.1:{server.server_address[1]}/simple/"
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
