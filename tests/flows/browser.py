"""A real browser without a window, told over its debugging port what to open and what to evaluate."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
START_SECONDS = 120


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection):
        self.socket, self.number = socket, 0

    def ask(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol; its result."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv(timeout=120))).get("id") != self.number:
            pass
        return answer["result"]

    def open(self, address: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.ask("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, program: str) -> Any:
        """Value of a JavaScript expression; a promise is awaited."""
        done = self.ask("Runtime.evaluate", expression=program, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, true: str, seconds: float = 90) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(true):
            assert time.monotonic() < deadline, self.evaluate("location.href + ' ' + document.body.innerText")
            time.sleep(0.2)


@contextmanager
def browser(folder: Path, resolve: str = "") -> Iterator[Page]:
    """A tab of a fresh browser; `resolve` says what names lead where, as DNS would ("MAP evil.test 127.0.0.1")."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--remote-debugging-port=0", f"--user-data-dir={folder}", f"--host-resolver-rules={resolve}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_tab(folder), max_size=None, proxy=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(30)


def _tab(folder: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            port = (folder / "DevToolsActivePort").read_text().split("\n")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                return next(str(t["webSocketDebuggerUrl"]) for t in json.load(answer) if t["type"] == "page")
        except (OSError, StopIteration):
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.2)
