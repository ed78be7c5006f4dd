"""Work in a folder that somebody hands over, behind a proxy, with secrets of other servers about: nothing of it is used."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import httpx
import psutil
import pytest

from flows.environment.server_note import NOTE
from flows.serving.server import free_port
from tests.command_line import ROOT, environment, rootstock
from tests.flows.hostile import lay_modules, lay_settings, marked, trap
from tests.flows.prefect_api import api_client
from tests.flows.test_serve import ENDED, wait_until
from tests.tiny import write_tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COMMAND = [sys.executable, "-P", "-m", "flows.cli.main"]  # what the console script `rootstock` is
CELL = """
import sys
from pathlib import Path
from flows.cli.main import quiet_environment
quiet_environment()
from flows.comparing.cells import run_processes
from schemas.errors import UserError
from schemas.reading.load import load_spec
from data_contracts.contract import list_contracts
spec = load_spec(Path("tiny.yaml"), [], list_contracts())
try:
    run_processes(1, print)([("one", spec)], Path(".rootstock"), Path(".rootstock/comparison"))
except UserError as error:
    print(error.what)
"""


def test_a_run_in_a_folder_that_somebody_hands_over(tmp_path: Path) -> None:
    files, marks, home = tmp_path / "files", tmp_path / "marks", tmp_path / "files" / ".rootstock" / "prefect"
    files.mkdir()
    write_tiny(files, copies=2)
    lay_modules(files, marks)
    lay_settings(files, home, marks)
    with trap() as told:
        (home / NOTE).write_text(json.dumps({"pid": 0, "address": f"{told.address}/api"}))
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
        proxies = dict.fromkeys(names, told.address)
        env = {name: value for name, value in environment(**proxies).items() if name.lower() != "no_proxy"}
        secret = {"PREFECT_API_KEY": "hidden", "PREFECT_API_AUTH_STRING": "hidden"}
        with subprocess.Popen([*COMMAND, "run", "tiny.yaml"], cwd=files, env=env | secret, stderr=subprocess.PIPE, text=True) as run:  # fmt: skip
            assert run.stderr is not None
            said = ""
            while not (found := re.search(r"watch the run at (http://127\.0\.0\.1:(\d+))", said)):
                said += run.stderr.readline()
                assert run.poll() is None, said
            with api_client(f"{found[1]}/api") as api:
                assert api.post("/flow_runs/filter", json={}).status_code == 200
                for headers in ({"Host": f"evil.test:{found[2]}"}, {"Origin": "http://evil.test"}):
                    assert api.post("/flow_runs/filter", json={}, headers=headers).status_code == 403
                    assert api.get("/flows/x", headers=headers).status_code == 403
            for child in psutil.Process(run.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    assert "hidden" not in " ".join(child.environ().values())
            said += run.stderr.read()
        assert run.returncode == 0, said
        assert told.heard == []
    assert (home / "prefect.db").is_file()
    assert marked(marks) == []


def test_a_training_of_a_comparison_imports_nothing_that_lies_beside_the_data(tmp_path: Path) -> None:
    lay_modules(tmp_path, tmp_path / "marks")
    write_tiny(tmp_path)
    (tmp_path / "domain.txt").write_text("q7z\n" * 200)  # a broken contract ends it soon
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(CELL)
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, env=environment(), capture_output=True, text=True)  # fmt: skip
    assert "contract" in done.stdout, (done.stdout, done.stderr)
    assert marked(tmp_path / "marks") == []


def test_a_password_is_asked_of_everybody_and_known_to_those_of_this_state(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    secret, port = "correct-horse-battery", free_port()
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text(f"{secret}\n")
    serve = [*COMMAND, "serve", "--port", str(port), "--password-file", "password"]
    address = f"http://127.0.0.1:{port}/api"
    log = tmp_path / "serve.log"
    with log.open("w") as said, api_client(address, headers=knows(secret)) as api:
        served = subprocess.Popen(serve, cwd=tmp_path, env=environment(), stdout=said, stderr=said)
        try:

            def ready() -> bool:
                assert served.poll() is None, log.read_text()
                with contextlib.suppress(httpx.TransportError):
                    found = api.get("/deployments/name/promote/promote")
                    return found.status_code == 200
                return False

            wait_until(ready, 300)
            for wrong in ({}, knows("x"), knows("wrong")):
                asked = httpx.post(f"{address}/deployments/filter", json={}, headers=wrong, trust_env=False)
                assert asked.status_code == 401
            checked = api.get("/deployments/name/check-contracts/check-contracts").json()
            form = {"parameters": {"contract": "general_text", "data": ["general.txt"]}}
            made = api.post(f"/deployments/{checked['id']}/create_flow_run", json=form).raise_for_status()
            run = made.json()["id"]

            lines = (tmp_path / "tiny.yaml").read_text().splitlines()
            lines[1] = f"base: {ROOT / 'assets' / 'base'}"
            lines[6] = (
                f"evaluation: {{domain_holdout: 0.2, general: [{{path: {tmp_path}/general.txt, contract: general_text}}]}}"
            )
            (tmp_path / "grows.yaml").write_text("\n".join([*lines, "increments: {}"]))
            done = rootstock("announce", "grows.yaml", cwd=tmp_path)
            assert (done.code, done.out) == (0, "increment 1 of tiny: 1 new files\n"), done.err

            def ended() -> bool:
                state = api.get(f"/flow_runs/{run}").json()["state_type"]
                return state in ENDED

            wait_until(ended, 300)
            assert api.get(f"/flow_runs/{run}").json()["state_type"] == "COMPLETED"
            events = {"filter": {"event": {"name": ["rootstock.data.arrived"]}}}
            wait_until(lambda: api.post("/events/filter", json=events).json()["total"], 60)
        finally:
            os.kill(served.pid, signal.SIGTERM)
            served.wait(120)
    assert secret not in log.read_text() + done.err
    files = [file for file in (tmp_path / ".rootstock").rglob("*") if file.is_file()]
    assert not [file for file in files if secret.encode() in file.read_bytes()]


def knows(password: str) -> dict[str, str]:
    """The header that Prefect's clients and its page send."""
    return {"Authorization": f"Basic {b64encode(password.encode()).decode()}"}
