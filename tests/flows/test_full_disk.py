"""A disk that is full, or a file that may not grow: exit 74 and three lines, wherever it happens; then the run goes on."""

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import environment
from tests.tiny import write_tiny

WRITERS = """
import json, resource, shutil, sqlite3, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, torch
from safetensors.torch import save_file
from flows.progress.failures import machine_error

folder = Path(sys.argv[1])
big = np.arange(400_000)
(folder / "source").mkdir()
np.save(folder / "source" / "a.npy", big)

def database():
    made = sqlite3.connect(folder / "a.db")
    made.execute("create table t (x blob)")
    made.executemany("insert into t values (?)", [(b"x" * 4096,)] * 1000)
    made.commit()

def wrapped():
    try:
        save_file({"a": torch.from_numpy(big)}, folder / "b.safetensors")
    except Exception:
        raise RuntimeError("a library's own words")

writers = {
    "safetensors": lambda: save_file({"a": torch.from_numpy(big)}, folder / "a.safetensors"),
    "torch": lambda: torch.save({"a": torch.from_numpy(big)}, folder / "a.pt"),
    "numpy": lambda: np.save(folder / "b.npy", big),
    "parquet": lambda: pq.write_table(pa.table({"a": np.random.default_rng(1).random(400_000)}), folder / "a.parquet"),
    "text": lambda: (folder / "a.txt").write_text("x" * 4_000_000),
    "copy": lambda: shutil.copytree(folder / "source", folder / "copy"),
    "sqlite": database,
    "wrapped": wrapped,
}
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
else:  # fill what is left
    with open(folder / "filler", "wb") as filler:
        try:
            while True:
                filler.write(b"0" * 65536)
                filler.flush()
        except OSError:
            pass
told = {}
for name, write in writers.items():
    try:
        write()
        told[name] = "written"
    except BaseException as error:
        found = machine_error(error)
        told[name] = f"{int(found.exit_code)} {found.what}" if found else repr(error)
print(json.dumps(told))
"""
NAMES = {"safetensors", "torch", "numpy", "parquet", "text", "copy", "sqlite", "wrapped"}


def write(command: list[str], folder: Path) -> dict[str, str]:
    done = subprocess.run(
        [*command], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    told: dict[str, str] = json.loads(done.stdout)
    return told


def test_a_file_that_may_not_grow_is_told_whoever_writes_it(tmp_path: Path) -> None:
    told = write([sys.executable, "-c", WRITERS, str(tmp_path), "100000"], tmp_path)
    assert told.keys() == NAMES
    assert {name: text[:2] for name, text in told.items()} == dict.fromkeys(NAMES, "74"), told


def test_a_full_disk_is_told_whoever_writes_to_it(tmp_path: Path) -> None:
    """A real one: a disk in memory of 8 MiB, in a name space of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=8m none "$1" && shift && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*mount, disk, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk in memory")
    told = write([*mount, str(disk), sys.executable, "-c", WRITERS, str(disk)], tmp_path)
    assert {name: text[:2] for name, text in told.items()} == dict.fromkeys(NAMES, "74"), told
    assert "No space left on device" in told["safetensors"]


def limit(num_bytes: int | None) -> Callable[[], None]:
    def apply() -> None:
        if num_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))

    return apply


@pytest.mark.slow
def test_training_that_cannot_write_ends_in_three_lines_and_goes_on_afterwards(tmp_path: Path) -> None:
    spec = write_tiny(tmp_path) / "tiny.yaml"

    def run(num_bytes: int | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "flows.cli.main", "run", str(spec), "--no-prefect", "--state", "state"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, preexec_fn=limit(num_bytes),
        )  # fmt: skip

    codes = []
    for num_bytes in (
        60_000,
        120_000,
        200_000,
        300_000,
    ):  # from the tokenizer to the optimizer of a checkpoint
        done = run(num_bytes)
        codes.append(done.returncode)
        assert "Traceback" not in done.stderr
        if done.returncode == 74:
            told = done.stderr.rstrip().split("\n")[
                -3:
            ]  # torch and SQLite lose what the system said of the file
            assert re.match(
                r"error: .*(File too large|could not be written to its end|disk I/O error)", told[0]
            )
            assert "ulimit -f" in told[2]
    assert set(codes[:2]) == {74}
    assert run(None).returncode == 0
