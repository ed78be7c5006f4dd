"""Runs that nobody is at any more: taken up once, or ended; and of those that were missed, the newest is kept.

A ghost that stays *Running* for ever would keep the nightly run from its place.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed, Scheduled

from flows.environment import processes
from flows.progress.terminal import say

STOPPED, LOST = "Resuming", "ResumingLost"
"""Scheduled once more: after `serve` was stopped; after its process was killed."""
GOING_ON = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
SECOND_TIME = "its process was killed for the second time; start it again when you know why"
SAME = "another run with the same parameters goes on, or waits for its turn"
MISSED = "missed while nothing was served; the newest of those missed runs instead"
AT_MOST = 200


def settle(client: SyncPrefectClient, run: UUID, why: str = "") -> str | None:
    """Give a run whose process has ended the state that is true of it; return what became of it, if anything.

    `why` it was ended by us: `cancelled` (somebody asked for it), `stopped` (we stop), or not at all.
    """
    try:
        state = client.read_flow_run(run).state
    except ObjectNotFound:
        return None
    history = client.read_flow_run_states(run)
    cancelled = why == "cancelled" or any(past.type == StateType.CANCELLING for past in history[-3:])
    if state is None or state.type in (
        StateType.COMPLETED,
        StateType.FAILED,
        StateType.SCHEDULED,
        StateType.PAUSED,
    ):
        return None
    if cancelled:
        if state.type != StateType.CANCELLED:
            client.set_flow_run_state(run, Cancelled(message="Flow run was cancelled."), force=True)
        return "cancelled"
    if why == "stopped":
        client.set_flow_run_state(
            run, Scheduled(name=STOPPED, message="stopped with rootstock serve"), force=True
        )
        return "taken up"
    if state.type not in GOING_ON:
        return None  # it told its end itself
    if any(past.name == LOST for past in history):
        client.set_flow_run_state(run, Crashed(message=SECOND_TIME), force=True)
        return "ended: its process was killed for the second time"
    client.set_flow_run_state(run, Scheduled(name=LOST, message="its process was killed"), force=True)
    return "taken up"


def settle_lost(client: SyncPrefectClient, deployments: Collection[UUID], home: Path, ours: bool) -> None:
    """At a start: no run goes on whose process is gone. With a server that others use too (not `ours`), only known ones."""
    for run in read_runs(client, GOING_ON):
        served = run.deployment_id in deployments
        noted = processes.noted_process(home, str(run.id))
        if noted is None and not (served and ours):
            continue
        if processes.process_of(home, str(run.id)) is not None:
            say(f"flow run {run.name} still goes on (process {noted and noted.pid}): left alone", flush=True)
            continue
        if served:
            became = settle(client, run.id)
        else:
            client.set_flow_run_state(run.id, Crashed(message="its process is gone"), force=True)
            became = "ended"
        processes.forget_process(home, str(run.id))
        say(f"flow run {run.name} was going on, but its process is gone: {became}", flush=True)


def skip_missed(
    client: SyncPrefectClient, deployments: Collection[UUID], alone: Collection[UUID] = ()
) -> None:
    """Of what a schedule would have started while nothing was served, keep the newest.

    `alone`: deployments that have no two runs of the same parameters; what is taken up comes before what was missed.
    """
    newest: dict[Any, FlowRun] = {}
    begun = []
    for run in read_runs(client, [StateType.SCHEDULED, *GOING_ON], deployments):
        assert run.state is not None
        if run.state.name not in ("Scheduled", "Late"):
            begun.append(run)
            continue
        if run.expected_start_time is None or not _past(run):
            continue
        if not run.auto_scheduled:
            begun.append(run)
            continue
        schedule = (run.deployment_id, run.created_by.id if run.created_by else None)
        other = newest.get(schedule)
        if other is not None:
            assert other.expected_start_time is not None
            older = min(run, other, key=lambda one: one.expected_start_time)  # type: ignore[arg-type, return-value]
            client.set_flow_run_state(older.id, Cancelled(name="Missed", message=MISSED), force=True)
            run = other if older is run else run
        newest[schedule] = run
    for run in newest.values():
        due = f"{run.name} was due {run.expected_start_time:%Y-%m-%d %H:%M} UTC and missed"
        if run.deployment_id in alone and any(same_work(run, one) for one in begun):
            client.set_flow_run_state(run.id, Cancelled(name="Missed", message=SAME), force=True)
            say(f"{due}: {SAME}", flush=True)
            continue
        begun.append(run)
        say(f"{due}: it runs as soon as its turn comes", flush=True)


def same_work(run: FlowRun, other: FlowRun) -> bool:
    """Whether two runs are of one deployment and have the same parameters."""
    return run.deployment_id == other.deployment_id and run.parameters == other.parameters


def _past(run: FlowRun) -> bool:
    from datetime import UTC, datetime

    assert run.expected_start_time is not None
    return run.expected_start_time < datetime.now(UTC)


def read_runs(
    client: SyncPrefectClient,
    states: list[StateType],
    deployments: Collection[UUID] | None = None,
    **more: Any,
) -> list[FlowRun]:
    """All runs in these states, however many; `more`: further filters, by their names."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states), name=more.pop("state_name", None)),
        deployment_id=None if deployments is None else FlowRunFilterDeploymentId(any_=list(deployments)),
        **more,
    )
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, limit=AT_MOST, offset=len(found)):
        found += page
        if len(page) < AT_MOST:
            break
    return found
