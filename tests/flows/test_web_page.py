"""What a web page of elsewhere can do to `rootstock serve` in a real browser: nothing; and what our own page can: all."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.serving.server import free_port
from tests.command_line import environment
from tests.flows.browser import CHROMIUM, Page, browser
from tests.flows.hostile import lay_modules, lay_settings, marked
from tests.flows.prefect_api import api_client
from tests.flows.test_serve import ENDED, wait_until
from tests.tiny import write_tiny

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome here"),
]
SHELL = {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch stolen"}}]}
ATTACK = """
(async () => {
  const api = %(api)s, form = %(form)s, got = {}
  const tried = (name, done) => Promise.race([done, new Promise(r => setTimeout(r, 8000, 'timeout'))])
    .then(value => { got[name] = value }, error => { got[name] = 'refused' })
  const read = (path, asked) => fetch(api + path, asked).then(async r => r.ok ? await r.text() : 'refused')
  const post = (type, body) => ({method: 'POST', mode: 'no-cors', headers: type ? {'Content-Type': type} : {}, body})
  const untyped = new Blob([form])
  await tried('read', read(%(named)s))
  await tried('read no-cors', read(%(named)s, {mode: 'no-cors'}))
  await tried('filter', read('/deployments/filter', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}))
  await tried('blob', fetch(api + %(run)s, post(null, untyped)).then(() => 'sent'))
  await tried('text', fetch(api + %(run)s, post('text/plain', form)).then(() => 'sent'))
  await tried('empty', fetch(api + %(run)s, post(null, undefined)).then(() => 'sent'))
  await tried('json', read(%(run)s, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: form}))
  await tried('patch', read(%(deployment)s, {method: 'PATCH', headers: {'Content-Type': 'application/json'}, body: %(shell)s}))
  await tried('delete', read(%(deployment)s, {method: 'DELETE'}))
  navigator.sendBeacon(api + %(run)s, untyped)
  for (const enctype of ['text/plain', 'multipart/form-data', 'application/x-www-form-urlencoded']) {
    const frame = document.createElement('iframe'); frame.name = enctype; document.body.append(frame)
    const sent = document.createElement('form')
    Object.assign(sent, {method: 'POST', action: api + %(run)s, enctype, target: enctype})
    const field = document.createElement('input'); field.name = '{"parameters":{},"x":"'; field.value = '"}'
    sent.append(field); document.body.append(sent); sent.submit()
  }
  for (const path of ['/events/in', '/events/out', '/logs/out'])
    await tried('socket ' + path, new Promise((opened, refused) => {
      const socket = new WebSocket(api.replace('http', 'ws') + path, ['prefect'])
      socket.onopen = () => opened('open'); socket.onerror = refused; socket.onclose = refused
    }))
  await tried('report', fetch(%(report)s).then(r => r.text()))
  const script = document.createElement('script'); script.src = api + %(named)s; document.body.append(script)
  await tried('script', new Promise((r, e) => { script.onload = () => r('ran'); script.onerror = e }))
  await new Promise(r => setTimeout(r, 1500))
  return JSON.stringify(got)
})()
"""


@dataclass(frozen=True)
class Site:
    """A served project in a folder that somebody handed over, a browser, and a page of elsewhere."""

    api: httpx.Client
    files: Path
    marks: Path
    page: Page
    elsewhere: int
    port: int

    def deployment(self) -> Any:
        found = self.api.get("/deployments/name/check-contracts/check-contracts").json()
        return {name: value for name, value in found.items() if name not in ("status", "last_polled")}

    def runs(self) -> list[Any]:
        found: list[Any] = self.api.post("/flow_runs/filter", json={}).json()
        return [run for run in found if not run["auto_scheduled"]]

    def attack(self, api: str, report: str) -> dict[str, str]:
        """All that a page can send, from the page that is open now."""
        here = self.deployment()["id"]
        form = json.dumps({"parameters": {"contract": "general_text", "data": ["general.txt"]}})
        words = {
            "api": api, "form": form, "shell": json.dumps(SHELL), "report": report, "deployment": f"/deployments/{here}",
            "named": "/deployments/name/check-contracts/check-contracts", "run": f"/deployments/{here}/create_flow_run",
        }  # fmt: skip
        quoted = {name: json.dumps(value) for name, value in words.items()}
        got: dict[str, str] = json.loads(self.page.evaluate(ATTACK % quoted))
        return got


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("web")
    files, marks, port = place / "files", place / "marks", free_port()
    files.mkdir()
    write_tiny(files)
    lay_modules(files, marks)
    lay_settings(files, files / ".rootstock" / "prefect", marks)
    report = files / ".rootstock" / "runs" / "one" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text("secret")
    with contextlib.ExitStack() as ends:
        log = ends.enter_context((place / "serve.log").open("w"))
        command = [sys.executable, "-P", "-m", "flows.cli.main", "serve", "--port", str(port)]
        served = subprocess.Popen(command, cwd=files, env=environment(), stdout=log, stderr=log)
        ends.callback(served.wait, 120)
        ends.callback(os.kill, served.pid, signal.SIGTERM)
        api = ends.enter_context(api_client(f"http://127.0.0.1:{port}/api"))
        elsewhere = ends.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere))
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        ends.callback(elsewhere.shutdown)
        page = ends.enter_context(browser(place / "browser", "MAP evil.test 127.0.0.1"))

        def ready() -> bool:
            assert served.poll() is None, (place / "serve.log").read_text()
            with contextlib.suppress(httpx.TransportError):
                return api.get("/deployments/name/promote/promote").status_code == 200
            return False

        wait_until(ready, 300)
        yield Site(api, files, marks, page, elsewhere.server_address[1], port)


class Elsewhere(BaseHTTPRequestHandler):
    """The page of somebody else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<body>elsewhere</body>")

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("name", ["127.0.0.1", "evil.test"])
def test_a_page_of_elsewhere_neither_reads_nor_starts_nor_changes_anything(site: Site, name: str) -> None:
    before, runs = site.deployment(), site.runs()
    site.page.open(f"http://{name}:{site.elsewhere}/")
    for host in ("127.0.0.1", "localhost"):
        got = site.attack(f"http://{host}:{site.port}/api", f"http://{host}:{site.port + 1}/one/report.html")
        sent = {what for what, value in got.items() if value != "refused"}
        # of an answer that a page cannot look into it learns nothing; that nothing was changed is seen below
        assert sent <= {"read no-cors", "blob", "text", "empty"}
        assert got["read no-cors"] in ("refused", "")
    assert site.runs() == runs
    assert site.deployment() == before


def test_a_name_that_was_turned_to_this_machine_reaches_nothing(site: Site) -> None:
    before, runs = site.deployment(), site.runs()
    here = f"http://evil.test:{site.port}"
    site.page.open(f"{here}/ui-settings")
    assert "refused" in site.page.evaluate("document.body.innerText")
    got = site.attack(f"{here}/api", f"http://evil.test:{site.port + 1}/one/report.html")
    assert set(got.values()) <= {"refused", "sent"}
    assert {what for what, value in got.items() if value == "sent"} <= {"blob", "text", "empty"}
    site.page.open(f"http://evil.test:{site.port + 1}/one/report.html")
    assert "secret" not in site.page.evaluate("document.body.innerText")
    assert site.runs() == runs
    assert site.deployment() == before


def test_the_page_works_without_a_login_and_its_form_starts_a_run(site: Site) -> None:
    page, here = site.page, f"http://127.0.0.1:{site.port}"
    page.open(f"http://localhost:{site.port}/deployments")
    page.wait("document.body.innerText.includes('check-contracts')")
    assert page.evaluate("location.origin") == here
    page.open(f"{here}/v2/deployments/deployment/{site.deployment()['id']}/run")
    button = "[...document.querySelectorAll('button')].find(b => b.innerText.trim() === %r)"
    page.wait("!!" + button % "Add item")
    page.evaluate(button % "Add item" + ".click()")
    page.wait("document.querySelectorAll('textarea').length === 2")
    for number, text in enumerate(("general_text", "general.txt")):
        page.evaluate(f"document.querySelectorAll('textarea')[{number}].focus()")
        page.ask("Input.insertText", text=text)
    page.evaluate(button % "Submit" + ".click()")
    wait_until(site.runs, 60)
    [run] = site.runs()
    wait_until(lambda: site.api.get(f"/flow_runs/{run['id']}").json()["state_type"] in ENDED, 300)
    run = site.api.get(f"/flow_runs/{run['id']}").json()
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["parameters"] == {"contract": "general_text", "data": ["general.txt"]}
    socket = "new Promise((opened, no) => { const s = new WebSocket(%r, ['prefect']); s.onopen = () => opened('open'); s.onerror = no })"
    assert page.evaluate(socket % f"ws://127.0.0.1:{site.port}/api/events/out") == "open"
    page.open(f"http://127.0.0.1:{site.port + 1}/one/report.html")
    assert page.evaluate("document.body.innerText") == "secret"


def test_a_deployment_that_names_other_code_runs_nothing(site: Site) -> None:
    """As a database may say that somebody hands over, or another user of the machine who asks the API."""
    stolen = site.marks / "shell"
    steps = [{"prefect.deployments.steps.run_shell_script": {"script": f"touch {stolen}"}}]
    found = site.api.get("/deployments/name/look-for-data/look-for-data").json()
    site.api.patch(f"/deployments/{found['id']}", json={"pull_steps": steps}).raise_for_status()
    asked = {"parameters": {"spec": "tiny.yaml"}}
    run = (
        site.api.post(f"/deployments/{found['id']}/create_flow_run", json=asked)
        .raise_for_status()
        .json()["id"]
    )
    wait_until(lambda: site.api.get(f"/flow_runs/{run}").json()["state_type"] in ENDED, 300)
    ended = site.api.get(f"/flow_runs/{run}").json()
    assert ended["state_type"] in ("CRASHED", "FAILED")

    def reason_is_logged() -> bool:
        """Prefect sends a run's log beside its state, not before it."""
        logs = site.api.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [run]}}}).json()
        return "other code than Rootstock's" in " ".join(log["message"] for log in logs)

    wait_until(reason_is_logged, 60)
    assert not stolen.exists()


def test_nothing_that_lies_in_the_folder_ran_or_was_followed(site: Site) -> None:
    """Last of its module: a server, a runner and a run were started there."""
    assert (site.files / ".rootstock" / "prefect" / "prefect.db").is_file()
    assert len(site.runs()) == 2
    assert marked(site.marks) == []
