"""Shards on a real Dask cluster: a scheduler and two workers, each a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow

from flows.orchestration.as_tasks import call_as_task
from flows.orchestration.dask_shards import map_on_dask, require_workers
from flows.orchestration.page_watch import PageWatch
from flows.progress.watch import Silent
from flows.serving.server import free_port
from schemas.errors import UserError
from schemas.reading.load import load_spec
from schemas.spec.run import RunSpec
from tasks.data.prepare import prepare, tokenize
from tests.command_line import ROOT, environment
from tests.corpora import here as one_by_one
from tests.tiny import follow_tiny, write_tiny

pytest.importorskip("prefect_dask", reason="the extra 'dask' is not installed")
pytestmark = pytest.mark.usefixtures("prefect_api")
BASE = ROOT / "assets" / "base"
"""For its tokenizer."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", _api())
    return tmp_path


def _api() -> str:
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


@pytest.fixture
def scheduler(here: Path) -> Iterator[str]:
    """Address of a scheduler with two single-threaded workers in this folder."""
    address = f"tcp://127.0.0.1:{free_port()}"
    commands = [
        ["dask", "scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":", 1)[1], "--no-dashboard"],
        *[["dask", "worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]] * 2,
    ]
    env = environment(PREFECT_API_URL=_api(), PREFECT_HOME=os.environ["PREFECT_HOME"])
    with (here / "dask.log").open("w") as log:
        processes = [
            subprocess.Popen([sys.executable, "-m", *command], cwd=here, env=env, stdout=log, stderr=log)
            for command in commands
        ]
    yield address
    for process in processes:
        process.kill()
        process.wait()


def wait_for_workers(address: str, count: int) -> None:
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(count, timeout=120)


def parts_of(state: Path) -> dict[str, bytes]:
    """Every file of the data stages, by step folder and name; scratch and training aside."""
    steps = ("read-*", "validate-*", "gate-*", "divide-*", "encode-*", "tokenize-*", "plan-*")
    files = [file for step in steps for folder in (state / "data").glob(step) for file in folder.rglob("*")]
    return {str(file.relative_to(state)): file.read_bytes() for file in files if file.is_file()}


@flow
def data_stages(spec: RunSpec, state: Path, address: str) -> None:
    """The stages that map shards, as `continual-training` runs them."""
    watch = PageWatch(spec.name, Silent())
    with map_on_dask(address, state) as shards:
        prepared = call_as_task(prepare, state, spec, map_shards=shards, note=watch.note)
        call_as_task(tokenize, state, spec, prepared, BASE, map_shards=shards, note=watch.note)


@pytest.mark.slow
def test_a_cluster_makes_byte_for_byte_what_this_machine_makes(scheduler: str, here: Path) -> None:
    spec = load_spec(write_tiny(here, copies=4) / "tiny.yaml")
    wait_for_workers(scheduler, 2)
    data_stages(spec, here / "mapped", scheduler)
    prepared = prepare(here / "local", spec, map_shards=one_by_one)
    tokenize(here / "local", spec, prepared, BASE, map_shards=one_by_one)
    local, cluster = parts_of(here / "local"), parts_of(here / "mapped")
    assert len(local) > 10
    assert cluster == local


@pytest.mark.slow
def test_workers_that_cannot_do_our_work_are_found_before_any_is_given(
    scheduler: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_workers(scheduler, 2)
    require_workers(scheduler, here / "state")
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(UserError) as caught:
        require_workers(scheduler, elsewhere / "state")
    assert caught.value.what == f"a Dask worker runs in {here}, not in {elsewhere}"
    assert f"cd {elsewhere}" in caught.value.fix
    monkeypatch.chdir(here)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with pytest.raises(UserError) as caught:
        require_workers(scheduler, here / "state")
    assert "cannot reach Prefect's server" in caught.value.what


def test_a_scheduler_that_does_not_answer_is_a_mistake_with_a_way_out(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.orchestration.dask_shards as dask_shards

    monkeypatch.setattr(dask_shards, "CONNECT_SECONDS", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    write_tiny(here)
    run = follow_tiny(here, spec="tiny.yaml", dask=address).run
    assert run.state_type.value == "FAILED"
    what, where, fix = run.state.message.split("\n")
    assert what.startswith("no Dask scheduler answers")
    assert where == f"  where: --dask {address}"
    assert "dask scheduler" in fix


def test_an_address_that_is_none_is_a_mistake_too(here: Path) -> None:
    with pytest.raises(UserError, match="no Dask scheduler answers"):
        require_workers("nonsense://x", here / "state")
