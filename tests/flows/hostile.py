"""A folder that somebody hands over: settings and modules that would run code or send traffic elsewhere, each leaving a mark."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path

OURS = {"flows", "tasks", "schemas", "data_contracts"}
MODULES = sorted(
    {f"{name}/__init__.py" for name in OURS}
    | {f"{name}.py" for name in {*packages_distributions(), *sys.stdlib_module_names, "sitecustomize"} - OURS if name.isidentifier()}
)  # fmt: skip
"""Every module that any library could ask for."""
LOGGING = """\
version: 1
disable_existing_loggers: false
handlers: {{mark: {{class: logging.FileHandler, filename: "{mark}"}}}}
root: {{handlers: [mark], level: INFO}}
"""


@dataclass
class Trap:
    """A server that should hear nothing; it answers everything as a healthy one would."""

    port: int
    heard: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def trap(status: int = 200) -> Iterator[Trap]:
    """A trap while the block lasts."""

    class Hears(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.heard.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')}")
            self.send_response(status)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"true")

        do_POST = do_CONNECT = do_PATCH = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Hears) as server:
        told = Trap(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield told
        server.shutdown()


def lay_modules(folder: Path, marks: Path) -> None:
    """Modules beside the data; whoever imports one leaves its name in `marks`."""
    marks.mkdir(exist_ok=True)
    for name in MODULES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"open({str(marks / name.replace('/', '.'))!r}, 'w').close()\n")


def lay_settings(folder: Path, home: Path, marks: Path) -> None:
    """Files that Prefect would read in the working directory and in its own folder; each sets what nothing else sets."""
    marks.mkdir(exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    for place, name in ((folder, "env.yml"), (home, "logging.yml")):
        (place / name).write_text(LOGGING.format(mark=marks / name))
    (folder / ".env").write_text(
        f"PREFECT_LOGGING_SETTINGS_PATH={folder / 'env.yml'}\nPREFECT_DEBUG_MODE=1\n"
    )
    database = f'connection_url = "sqlite+aiosqlite:///{marks}/prefect.toml.db"'
    (folder / "prefect.toml").write_text(f"[server.database]\n{database}\n")
    memo = f'memo_store_path = "{marks}/pyproject.memo"'
    (folder / "pyproject.toml").write_text(f"[tool.prefect.server]\n{memo}\n")
    profile = f'PREFECT_UI_STATIC_DIRECTORY = "{marks}/profiles.static"'
    (home / "profiles.toml").write_text(f'active = "theirs"\n[profiles.theirs]\n{profile}\n')


def marked(marks: Path) -> list[str]:
    """What ran or was written that should not have been."""
    return sorted(path.name for path in marks.iterdir())
