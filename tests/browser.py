"""A headless Chromium, steered through its debugging pipe: what a page does there, and what it asks for."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120.0  # seconds until a browser that says nothing is taken to be stuck
# A browser listens on descriptor 3 and answers on 4.
_ON_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
    """The browser of this machine."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One browser with a profile of its own; pages are opened in it one after another."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs = [], []
        for ends in (os.pipe(), os.pipe()):
            ours.append(ends)
        (their_in, our_out), (our_in, their_out) = ours
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (their_in, their_out)]
        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
        flags += ["--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to sandbox pages for root
        command = [sys.executable, "-c", _ON_3_AND_4, *map(str, theirs), program, *flags, "about:blank"]
        with (profile.parent / "browser.log").open("wb") as log:
            self.process = subprocess.Popen(command, pass_fds=theirs, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for end in (their_in, their_out, *theirs):
            os.close(end)
        self._out, self._in = our_out, our_in
        self._number, self._waiting = 0, b""
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        """End it."""
        try:
            self.call("Browser.close")
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._out)
            os.close(self._in)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Ask for something and wait for the answer; events that arrive meanwhile are kept."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters}
        data = json.dumps(asked | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def wait(self, method: str, session: str) -> None:
        """Until an event has happened."""
        while not any(event.get("method") == method and event.get("sessionId") == session for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser says nothing"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser is gone"
            self._waiting += data
        message, self._waiting = self._waiting.split(b"\0", 1)
        return json.loads(message)


class View:
    """A file, opened at a width and in a colour scheme."""

    def __init__(self, browser: Browser, page: Path, width: int, scheme: str, scripts: bool = True) -> None:
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=780, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.address = page.resolve().as_uri()
        self.ask("Page.navigate", url=self.address)
        browser.wait("Page.loadEventFired", self.session)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call about this page."""
        return self.browser.call(method, self.session, **parameters)

    def value(self, expression: str) -> Any:
        """What JavaScript's expression comes to in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def complaints(self) -> list[Any]:
        """Whatever a console would show: logged, thrown, or refused by the page's policy."""
        names = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.browser.events if event.get("method") in names]

    def requests(self) -> dict[str, str]:
        """Addresses the page asked for, by the number of the request."""
        asked = (each["params"] for each in self.browser.events if each.get("method") == "Network.requestWillBeSent")
        return {each["requestId"]: each["request"]["url"] for each in asked}

    def blocked(self) -> list[str]:
        """Those that its policy did not let out; waits for one if there is none."""
        self.browser.wait("Network.loadingFailed", self.session)
        failed = (each["params"] for each in self.browser.events if each.get("method") == "Network.loadingFailed")
        return [self.requests()[each["requestId"]] for each in failed if each.get("blockedReason") == "csp"]

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12_000), "scale": 1}
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
