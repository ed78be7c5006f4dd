"""Reports of a state folder as web pages of this machine: Prefect's page may link to those, but never to files."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from flows.serving.guard import SHUT, may_pass

REPORT = re.compile(r"/([a-z0-9][a-z0-9_-]*)/report\.html")


@contextmanager
def serve_reports(state: Path, port: int) -> Iterator[str]:
    """Yield the address under which `/<run>/report.html` is served; nothing else of the folder is."""

    class Reports(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not may_pass("GET", self.path, self._headers(), self.server.server_port):  # type: ignore[attr-defined]
                self.send_error(403, "this server answers pages and programs of this machine only")
                return
            named = REPORT.fullmatch(self.path)
            file = state / "runs" / named[1] / "report.html" if named else None
            if file is None or not file.is_file():
                self.send_error(404, "no such report")
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            for name, value in SHUT:
                self.send_header(name.decode(), value.decode())
            self.end_headers()
            self.wfile.write(content)

        def _headers(self) -> list[tuple[bytes, bytes]]:
            return [(name.encode(), value.encode()) for name, value in self.headers.items()]

        def log_message(self, *_: object) -> None: ...

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Reports)
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Reports)
    with server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
