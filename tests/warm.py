"""Commands in forked processes that have the libraries loaded: loading them takes longer than a tiny run (15 of 19 seconds).

Each is a process of its own that imports our code anew, as a user's does; only what is installed was imported before. What
libraries read of the environment as they are imported is the tests' own: commands that change it start cold.
"""

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

TEMPLATE = Path(tempfile.mkdtemp(prefix="rootstock-registry-"), "registry.db")
"""Of this process of tests: see tests/registry_template.py."""
atexit.register(shutil.rmtree, TEMPLATE.parent, ignore_errors=True)

_ZYGOTE = """
import gc, json, os, select, signal, sys
import accelerate, great_expectations, mlflow, pandas, peft, pyarrow.parquet, safetensors.torch, scipy.stats, sqlalchemy
import torch, transformers, transformers.models.llama.modeling_llama, transformers.trainer
from multiprocessing import resource_tracker, spawn

gc.freeze()
asked = b""
running = set()
print("ready", file=sys.stderr, flush=True)

def wait(block_seconds):
    global asked
    readable, _, _ = select.select([0], [], [], block_seconds)
    if readable:
        got = os.read(0, 65536)
        if not got:
            os._exit(0)  # whoever asked has ended
        asked += got
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        running.discard(pid)
        os.write(1, f"{pid} {os.waitstatus_to_exitcode(status)}\\n".encode())

while True:
    while b"\\n" not in asked:
        wait(0.01 if running else None)
    line, asked = asked.split(b"\\n", 1)
    told = json.loads(line)
    pid = os.fork()
    if not pid:
        break
    running.add(pid)
    os.write(1, f"{pid} begun\\n".encode())

# the child: as if it had just been started
os.chdir(told["cwd"])
for descriptor, (name, flags) in enumerate([(os.devnull, os.O_RDONLY), *((f, os.O_WRONLY) for f in told["files"])]):
    opened = os.open(name, flags)
    os.dup2(opened, descriptor)
    os.close(opened)
os.environ.clear()
os.environ.update(told["environment"])
sys.argv = ["-c", *told["arguments"]]
sys.path[:1] = [told["project"], ""]
signal.signal(signal.SIGINT, signal.default_int_handler)
del asked, running, line, pid, wait
import flows.cli.main
from tests.registry_template import reuse_migrations
reuse_migrations(__import__("pathlib").Path(told["template"]))
flows.cli.main.main()
"""


class _Zygote:
    """A process that forks; one for each process of tests, made when it is first needed."""

    def __init__(self, project: Path, environment: Mapping[str, str]):
        self._project = project
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ZYGOTE], env=dict(environment), cwd="/", stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stderr is not None
        while (line := self._process.stderr.readline()) != b"ready\n":
            assert line or self._process.poll() is None, "the libraries cannot be loaded"
        atexit.register(self._process.kill)
        self._begun: list[int] = []
        self._ended: dict[int, int] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            pid, what = line.split()
            with self._changed:
                if what == b"begun":
                    self._begun.append(int(pid))
                else:
                    self._ended[int(pid)] = int(what)
                self._changed.notify_all()

    def run(
        self,
        arguments: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        files: tuple[Path, Path],
        timeout: float,
    ) -> int:
        """Run a command to its end, its output in `files`; return its exit code."""
        told = {
            "arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment),
            "files": [str(file) for file in files], "project": str(self._project),
            "template": str(TEMPLATE),
        }  # fmt: skip
        assert self._process.stdin is not None
        with self._changed:
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
            assert self._changed.wait_for(lambda: self._begun, 60)
            pid = self._begun.pop()
            if not self._changed.wait_for(lambda: pid in self._ended, timeout):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
                raise subprocess.TimeoutExpired(list(arguments), timeout)
            return self._ended.pop(pid)


_made: list[_Zygote] = []


def run_warm(
    arguments: Sequence[str], project: Path, cwd: Path, environment: Mapping[str, str], timeout: float
) -> tuple[int, str, str]:
    """Run `rootstock ARGUMENTS` of `project`: its exit code, standard output and standard error."""
    if not _made:
        _made.append(_Zygote(project, environment))
    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder, "out"), Path(folder, "err"))
        for file in files:
            file.touch()
        code = _made[0].run(arguments, cwd, environment, files, timeout)
        return code, files[0].read_text(), files[1].read_text()
