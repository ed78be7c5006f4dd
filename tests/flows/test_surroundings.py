"""What is in the environment, in the working directory and in a state folder that somebody hands over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.environment.server_note import NOTE, boot_id, loopback_port, read_note, started
from flows.serving.server import free_port
from flows.serving.server_secret import read_password
from schemas.errors import UserError
from tests.command_line import ROOT, environment, rootstock
from tests.flows.hostile import lay_modules, lay_settings, marked, trap
from tests.tiny import write_tiny

SETTINGS = """
from flows.cli.main import quiet_environment
quiet_environment()
import sys, json, threading
import prefect
from prefect.settings import get_current_settings
from prefect.server.api.server import create_app
found = get_current_settings()
print(json.dumps([str(found.logging.config_path), found.debug_mode, str(found.server.memo_store_path), str(found.server.ui.static_directory), found.server.database.connection_url.get_secret_value()]))
"""


@pytest.mark.parametrize(("verb", "name"), [("run", "WORLD_SIZE"), ("serve", "OMPI_COMM_WORLD_SIZE")])
def test_what_a_launcher_left_is_refused_before_anything_hangs(tmp_path: Path, verb: str, name: str) -> None:
    write_tiny(tmp_path)
    spec = ["tiny.yaml", "--no-prefect"] if verb == "run" else []
    done = rootstock(verb, *spec, cwd=tmp_path, env={name: "2", "RANK": "0"})
    [(what, where, fix)] = done.errors
    assert done.code == 2
    assert f"{name}=2" in what
    assert where == f"environment variable {name}"
    assert f"unset {name} RANK" in fix


def test_one_process_of_a_launcher_is_one_process(tmp_path: Path) -> None:
    program = (
        "from flows.cli.main import leave_launcher; import os; leave_launcher(); print(sorted(os.environ))"
    )
    there = {
        "WORLD_SIZE": "1",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment(**there), capture_output=True, text=True, check=True)  # fmt: skip
    assert not set(there) & set(json.loads(done.stdout.replace("'", '"')))


def test_the_address_of_a_dead_server_is_a_mistake_that_is_told_at_once(tmp_path: Path) -> None:
    """What is no address, or no Prefect server: tests/flows/test_server.py."""
    write_tiny(tmp_path)
    address = f"http://name:hidden@127.0.0.1:{free_port()}/api"
    done = rootstock("run", "tiny.yaml", cwd=tmp_path, env={"PREFECT_API_URL": address})
    [(what, where, fix)] = done.errors
    assert done.code == 2
    assert what.startswith("no Prefect server answers there")
    assert where.startswith("PREFECT_API_URL=")
    assert "hidden" not in done.err
    assert "unset PREFECT_API_URL" in fix


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        (
            "HF_HUB_DOWNLOAD_TIMEOUT",
            "soon",
            "HF_HUB_DOWNLOAD_TIMEOUT is set to something that cannot be read",
        ),
        ("PYTHONWARNINGS", "error", "a library's warning was made an error"),
    ],
)
def test_a_variable_that_a_library_cannot_bear_is_named(
    tmp_path: Path, name: str, value: str, what: str
) -> None:
    write_tiny(tmp_path)
    done = rootstock("run", "tiny.yaml", "--no-prefect", cwd=tmp_path, env={name: value})
    told = done.err.strip().split("\n")[-3:]
    assert done.code == 2, done.err
    assert what in told[0]
    assert f"unset {name}" in told[2]


def test_a_state_folder_that_sqlite_would_miss_is_refused_first(tmp_path: Path) -> None:
    odd = tmp_path / "q?dir"
    odd.mkdir()
    done = rootstock("run", str(write_tiny(odd) / "tiny.yaml"), "--no-prefect", cwd=odd)
    assert done.code == 2
    assert "cannot have ? in its path" in done.errors[0][0]
    assert not (odd / ".rootstock").exists()


@pytest.mark.slow
def test_a_proxy_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    done = rootstock("run", "tiny.yaml", cwd=tmp_path, env={"ALL_PROXY": "socks7://user:hidden@127.0.0.1:9"})
    what, where, fix = done.err.strip().split("\n")[-3:]
    assert (done.code, where) == (2, "  where: ALL_PROXY")
    assert "a proxy is set that cannot be used" in what
    assert "unset ALL_PROXY" in fix
    assert "hidden" not in done.err


@pytest.mark.parametrize("pid", [0, -1, 1, "own", True, "1", None])
def test_a_note_that_somebody_wrote_leads_nowhere(tmp_path: Path, pid: object) -> None:
    own = os.getpid() if pid == "own" else pid
    home = tmp_path / ".rootstock" / "prefect"
    home.mkdir(parents=True)
    write_tiny(tmp_path)
    lines = (tmp_path / "tiny.yaml").read_text().splitlines()
    lines[1] = f"base: {ROOT / 'assets' / 'base'}"
    lines[6] = (
        f"evaluation: {{domain_holdout: 0.2, general: [{{path: {tmp_path}/general.txt, contract: general_text}}]}}"
    )
    (tmp_path / "tiny.yaml").write_text("\n".join([*lines, "increments: {}"]))
    with trap() as told:
        note = {
            "pid": own,
            "address": f"{told.address}/api",
            "boot": boot_id(),
            "started": started(os.getpid()),
        }
        (home / NOTE).write_text(json.dumps(note))
        if pid in (0, "own"):
            secret = {"PREFECT_API_KEY": "secret", "PREFECT_API_AUTH_STRING": "secret"}
            done = rootstock("announce", "tiny.yaml", cwd=tmp_path, env=secret)
            assert done.code == 2
            assert "no Prefect server runs" in done.errors[0][0]
        assert read_note(home) is None
        assert told.heard == []


@pytest.mark.parametrize(
    "address", ["http://evil.test:1/api", "http://127.0.0.1:1@evil.test/api", "https://127.0.0.1:1/api", "http://127.0.0.1/api", "http://127.0.0.1:1/api/../x", "http://127.0.0.1:0/api", "http://127.0.0.1:99999/api"]
)  # fmt: skip
def test_only_our_own_address_is_one(address: str) -> None:
    try:
        assert loopback_port(address) is None
    except ValueError:
        return  # `read_note` takes it for no note
    assert loopback_port("http://127.0.0.1:4200/api") == 4200


def test_a_password_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into that pipe."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UserError, match="no plain file"):
        read_password(tmp_path / "pipe")


@pytest.mark.parametrize(("mode", "text", "said"), [
    (0o644, "long enough", "other users"), (0o600, "short", "at least 8"), (0o600, "two\nlong lines", "at least 8"),
    (0o600, None, "cannot be read"), (0o600, "p\u00e9nultieme", "beyond ASCII"),
])  # fmt: skip
def test_a_password_that_protects_nothing_is_refused(
    tmp_path: Path, mode: int, text: str | None, said: str
) -> None:
    file = tmp_path / "pass word"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    done = rootstock("serve", "--password-file", "pass word", "--port", str(free_port()), cwd=tmp_path)
    [(what, where, fix)] = [error for error in done.errors if error]
    assert done.code == 2
    assert said in what
    assert where == f"--password-file {file}"
    if mode == 0o600:  # the remedy works
        file.unlink(missing_ok=True)
        subprocess.run(fix.removeprefix("make one: "), shell=True, check=True)
        assert (file.stat().st_mode & 0o777, len(file.read_text().split())) == (0o600, 1)
    else:
        subprocess.run(fix.split(",")[0], shell=True, check=True)
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_prefect_takes_no_settings_from_folders(tmp_path: Path) -> None:
    folder, home, marks = tmp_path / "files", tmp_path / "home", tmp_path / "marks"
    folder.mkdir()
    lay_settings(folder, home, marks)
    lay_modules(folder, marks)
    (folder / ".env").write_bytes(b"\xff\xfe" + (folder / ".env").read_bytes())  # and no crash
    env = environment(PREFECT_HOME=str(home))
    done = subprocess.run([sys.executable, "-P", "-c", SETTINGS], cwd=folder, env=env, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    logging, debug, memo, static, database = json.loads(done.stdout)
    assert logging.endswith("prefect/logging/logging.yml")
    assert (debug, memo, static) == (False, str(home / "memo_store.toml"), "None")
    assert database == f"sqlite+aiosqlite:///{home}/prefect.db"
    assert marked(marks) == []


WORKERS = """
import time
from flows.cli.main import quiet_environment
quiet_environment()
from tasks.storage.workers import map_in_processes
if __name__ == "__main__":
    print(map_in_processes(time.gmtime, [0, 1])[0].tm_year)
"""


def test_worker_processes_import_nothing_that_lies_beside_the_data(tmp_path: Path) -> None:
    lay_modules(tmp_path, tmp_path / "marks")
    program = tmp_path / "elsewhere" / "program.py"  # as a console script is, which lies in no folder of data
    program.parent.mkdir()
    program.write_text(WORKERS)
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.stdout.strip() == "1970", done.stderr
    assert marked(tmp_path / "marks") == []
