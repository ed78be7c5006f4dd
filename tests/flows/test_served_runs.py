"""Which of the runs that are due begin, which wait, and which are not needed; asked of a real server, without processes."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect._internal.schemas.fields import CreatedBy
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ParameterTypeError
from prefect.settings import PREFECT_API_URL
from prefect.states import Failed, Scheduled
from prefect.types.entrypoint import EntrypointType

from flows.check_contracts import check_contracts
from flows.serving import lost_runs
from flows.serving.lost_runs import read_runs
from flows.serving.served_run import COMMAND, _mistake
from flows.serving.served_runs import AWAITING, Child, Rules, ServedRuns
from schemas.errors import ExitCode, UserError
from tests.command_line import environment

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]


class Recorded(ServedRuns):
    """What is served, without processes."""

    def __init__(self, nightly: UUID, check: UUID):
        super().__init__(Path(), {nightly: Rules("n", True, "skip"), check: Rules("c", False, None)}, 6)
        self.started: list[UUID] = []

    def _start(self, client: SyncPrefectClient, run: FlowRun, rules: Rules) -> None:
        self.started.append(run.id)

    def go_on(self, deployment: UUID, parameters: dict[str, Any]) -> None:
        """Have a run of these parameters going on."""
        self.children.append(Child(UUID(int=0), deployment, "on", subprocess.Popen(["true"]), parameters))


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def two(client: SyncPrefectClient) -> Iterator[tuple[UUID, UUID]]:
    """A deployment that trains at night, and one that checks."""
    made = [
        RunnerDeployment.from_flow(check_contracts, name, entrypoint_type=EntrypointType.MODULE_PATH).apply()
        for name in ("nightly", "check")
    ]
    nightly, check = made
    assert isinstance(nightly, UUID)
    assert isinstance(check, UUID)
    yield nightly, check
    for one in (nightly, check):
        client._client.delete(f"/deployments/{one}")


def due(client: SyncPrefectClient, deployment: UUID, contract: str, name: str = "Scheduled") -> UUID:
    state: State[Any] = Scheduled(name=name, scheduled_time=datetime.now(UTC) - timedelta(minutes=1))
    form = {"contract": contract, "data": []}
    return client.create_flow_run_from_deployment(deployment, parameters=form, state=state).id


def test_runs_that_wait_hide_no_other(
    client: SyncPrefectClient, two: tuple[UUID, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect answers with 200 runs at most; here with two."""
    monkeypatch.setattr(lost_runs, "AT_MOST", 2)
    nightly, check = two
    for number in range(5):
        due(client, nightly, str(number), AWAITING)
    quick = due(client, check, "quick")
    served = Recorded(*two)
    assert len(served._due(client)) == 6, "nothing trains: one of them may"
    served.go_on(nightly, {"contract": "another", "data": []})
    assert [run.id for run in served._due(client)] == [quick], "however many wait"
    served._start_due(client)
    assert served.started == [quick]


def test_a_nightly_run_of_another_specification_waits_for_its_turn(
    client: SyncPrefectClient, two: tuple[UUID, UUID]
) -> None:
    nightly, _ = two
    served = Recorded(*two)
    served.go_on(nightly, {"contract": "a", "data": []})
    other, again, same = (due(client, nightly, contract) for contract in ("b", "b", "a"))
    served._start_due(client)
    states = {run: client.read_flow_run(run).state for run in (other, again, same)}
    assert sorted(str(s.name) for s in states.values() if s) == [AWAITING, "Cancelled", "Cancelled"]
    assert states[same].name == "Cancelled"  # type: ignore[union-attr]
    assert served.started == []


def test_what_is_said_of_a_missed_run_is_true(
    client: SyncPrefectClient,
    two: tuple[UUID, UUID],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside a run that is taken up the same work is not done twice, other work is."""
    nightly, _ = two

    def made_by_schedules(*asked: Any, **named: Any) -> list[FlowRun]:
        made = {"auto_scheduled": True}
        return [
            run.model_copy(update=made | {"created_by": CreatedBy(id=run.id)})
            for run in read_runs(*asked, **named)
        ]

    monkeypatch.setattr(lost_runs, "read_runs", made_by_schedules)
    taken_up = due(client, nightly, "a", "Resuming")
    runs = {contract: due(client, nightly, contract) for contract in ("a", "b")}
    names = {contract: client.read_flow_run(run).name for contract, run in runs.items()}
    lost_runs.skip_missed(client, two, [nightly])
    said = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "another run with the same parameters goes on" in said[names["a"]]
    assert "it runs as soon as its turn comes" in said[names["b"]]
    served = Recorded(*two)
    served._start_due(client)
    assert served.started == [taken_up, runs["b"]]


def test_a_mistake_is_three_lines_on_the_terminal(
    client: SyncPrefectClient, two: tuple[UUID, UUID], tmp_path: Path
) -> None:
    _, check = two
    run = str(due(client, check, "no-such-contract"))
    settings = environment(PREFECT_API_URL=str(PREFECT_API_URL.value()), PREFECT__FLOW_RUN_ID=run)
    done = subprocess.run(COMMAND, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    what, where, fix = done.stderr.rstrip().splitlines()[-3:]
    assert what.startswith("error: ")
    assert (where[:9], fix[:7]) == ("  where: ", "  fix: ")
    for loud in ("Traceback", "RuntimeWarning", "unexpected exception"):
        assert loud not in done.stderr


def test_a_run_that_failed_by_a_defect_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    told = _mistake(Failed(data=KeyError("ours")))
    assert told is not None
    assert told.exit_code == ExitCode.DEFECT
    assert "Traceback" in capsys.readouterr().err
    for mistake in (UserError("what", "where", "fix"), ParameterTypeError("data: no list")):
        told = _mistake(Failed(data=mistake))
        assert told is not None
        assert told.exit_code == ExitCode.BAD_SPECIFICATION
    assert capsys.readouterr().err == ""
