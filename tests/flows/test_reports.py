"""Reports as web pages of this machine."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from flows.serving.reports import serve_reports
from flows.serving.server import free_port


@pytest.fixture
def state(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "medical-1a2b"
    (run / "model").mkdir(parents=True)
    (run / "report.html").write_text("<h1>接穗</h1>", encoding="utf-8")
    (run / "model" / "report.html").write_text("not a run's")
    (run / "spec.yaml").write_text("name: medical")
    return tmp_path


def test_a_report_is_shown_under_its_runs_name(state: Path) -> None:
    port = free_port()
    with serve_reports(state, port) as address:
        assert address == f"http://127.0.0.1:{port}"
        assert (
            urllib.request.urlopen(f"{address}/medical-1a2b/report.html").read().decode() == "<h1>接穗</h1>"
        )


@pytest.mark.parametrize(
    "path", ["/", "/medical-1a2b/spec.yaml", "/medical-1a2b/model/report.html", "/../runs/medical-1a2b/report.html", "/medical-1a2b/../medical-1a2b/report.html", "/none/report.html"]
)  # fmt: skip
def test_nothing_else_is_served(state: Path, path: str) -> None:
    with serve_reports(state, free_port()) as address, pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address + path)


def test_a_taken_port_is_evaded(state: Path) -> None:
    port = free_port()
    with serve_reports(state, port), serve_reports(state, port) as second:
        assert urllib.request.urlopen(f"{second}/medical-1a2b/report.html").status == 200


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.test"}, {"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}]
)  # fmt: skip
def test_a_page_of_elsewhere_is_shown_no_report(state: Path, headers: dict[str, str]) -> None:
    with serve_reports(state, free_port()) as address:
        asked = urllib.request.Request(f"{address}/medical-1a2b/report.html", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asked)
