"""The runs of what is served: each a process of its own, which outlives a server that is away, and never us.

Prefect's own runner ends with the third unanswered question and calls what it ends so cancelled; a run that waits for its turn
keeps a place of it. So this one is ours. What was going on when we were stopped, or killed, is taken up by the next start.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Pending, Scheduled

from flows.environment import processes
from flows.orchestration.turns import WAITING
from flows.serving.lost_runs import LOST, STOPPED, read_runs, same_work, settle
from flows.serving.served_run import COMMAND
from tasks.storage.children import die_with
from tasks.storage.signals import Asked, exit_code, leave_lost_terminal, say, take_signals, told

POLL_SECONDS = 2.0
"""How soon a run that somebody asked for begins."""
PATIENCE = 120.0
"""Seconds that a run has to finish its step and write a checkpoint."""
SKIPPED = "another run of this deployment with the same parameters was going on, or waiting for its turn"
AWAITING = "AwaitingTurn"
PLACED = (LOST, STOPPED, AWAITING)
"""Names of the states of what is not new: it was going on, or waits for its turn."""
CLIENT_RETRIES = "8"
"""Of a run that has something to tell while the server is away: 2 + 4 + ... + 256 seconds."""


@dataclass(frozen=True)
class Rules:
    """How a deployment's runs are started."""

    name: str
    trains: bool
    """Of these one runs at a time, of whichever deployment."""
    overlap: str | None
    """What becomes of a run while another of its deployment goes on: `skip`, `queue`, or None: both run."""


@dataclass
class Child:
    """A run that goes on."""

    run: UUID
    deployment: UUID
    name: str
    process: "subprocess.Popen[bytes]"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    """`cancelled` or `stopped`, once it was asked to end."""
    until: float = 0.0
    """When patience ends."""


class ServedRuns:
    """Start what is due, end what is cancelled, until a signal comes."""

    def __init__(self, home: Path, deployments: Mapping[UUID, Rules], limit: int):
        self.home, self.deployments, self.limit = home, deployments, limit
        self.children: list[Child] = []
        self.asked: list[int] = []
        self.wake = threading.Event()
        self.away = False
        self.waiting: set[UUID] = set()
        self.begun: set[UUID] = set()
        """Runs that were told to begin, and have no process yet: what was interrupted here is settled."""

    def serve(self) -> None:
        """Run until asked to end.

        Raises:
            Asked: a signal came; every run was stopped, and is taken up by the next start.
        """
        take_signals(self._ask)
        # asked once: the loop asks again by itself, and a signal is not kept waiting
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": 15}, sync_client=True) as client,
        ):
            while not self.asked:
                self._try(self._round, client)
                self.wake.wait(POLL_SECONDS)
            self._stop(client)
        raise Asked(self.asked[0])

    def _ask(self, number: int, _frame: Any) -> None:
        leave_lost_terminal()
        self.asked.append(number)
        self.wake.set()
        if len(self.asked) > 2:
            os._exit(exit_code(number))  # what we started ends with us
        how = "stopped at a checkpoint (again: at once)" if len(self.asked) == 1 else "killed"
        if self.children:
            say(
                f"{told(number)}: what is going on is {how}: {', '.join(child.name for child in self.children)}"
            )

    def _try(self, work: Callable[[SyncPrefectClient], None], client: SyncPrefectClient) -> bool:
        """Do what needs the server; while it is away, runs go on and are looked after later."""
        try:
            work(client)
        except (httpx.HTTPError, PrefectException) as error:
            if not self.away:
                say(f"Prefect's server does not answer ({type(error).__name__}): runs go on meanwhile")
            self.away = True
            return False
        if self.away:
            say("Prefect's server answers again")
        self.away = False
        return True

    def _round(self, client: SyncPrefectClient) -> None:
        self._bury(client)
        self._end_cancelled(client)
        self._start_due(client)

    def _bury(self, client: SyncPrefectClient) -> None:
        """Settle the runs whose process has ended, or never was."""
        for run in list(self.begun):
            settle(client, run)
            self.begun.discard(run)
        for child in [child for child in self.children if child.process.poll() is not None]:
            settle(client, child.run, child.why)
            processes.forget_process(self.home, str(child.run))
            self.children.remove(child)

    def _end_cancelled(self, client: SyncPrefectClient) -> None:
        living = {child.run: child for child in self.children}
        if living:
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(living)))
            states = {run.id: run.state for run in client.read_flow_runs(flow_run_filter=wanted, limit=200)}
            for run, child in living.items():
                state = states.get(run)  # none: it was deleted
                if not child.why and (state is None or state.is_cancelling() or state.is_cancelled()):
                    _end(child, "cancelled")
        for child in self.children:
            if child.why and time.monotonic() > child.until:
                _kill(child)

    def _start_due(self, client: SyncPrefectClient) -> None:
        for run in sorted(self._due(client), key=_first_what_was_begun):
            if self.asked:
                return
            assert run.deployment_id is not None
            rules = self.deployments[run.deployment_id]
            same = any(child.deployment == run.deployment_id for child in self.children)
            if rules.overlap == "skip" and self._is_ahead(client, run, rules):
                client.set_flow_run_state(run.id, Cancelled(message=SKIPPED))
            elif same and rules.overlap == "queue":
                continue
            elif rules.trains and self._trains():
                self._let_wait(client, run)
            elif len(self.children) < self.limit:
                self._start(client, run, rules)

    def _trains(self) -> bool:
        return any(self.deployments[child.deployment].trains for child in self.children)

    def _due(self, client: SyncPrefectClient) -> list[FlowRun]:
        """All that may begin, however many wait: those that wait for a training are not asked for while one goes on."""
        now = datetime.now(UTC)
        everything = list(self.deployments)
        # its answer is cut off; asked for one, so that the page shows that somebody serves these
        client.get_scheduled_flow_runs_for_deployments(everything, scheduled_before=now, limit=1)
        queued = {c.deployment for c in self.children if self.deployments[c.deployment].overlap == "queue"}
        return read_runs(
            client,
            [StateType.SCHEDULED],
            [one for one in everything if one not in queued],
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=now),
            state_name=FlowRunFilterStateName(not_any_=[AWAITING]) if self._trains() else None,
        )

    def _is_ahead(self, client: SyncPrefectClient, run: FlowRun, rules: Rules) -> bool:
        """Whether the same work goes on, or has a place before this run."""
        if run.state is not None and run.state.name in PLACED:
            return False
        if any(
            child.deployment == run.deployment_id and child.parameters == run.parameters
            for child in self.children
        ):
            return True
        if not (rules.trains and self._trains()):
            return False  # nothing waits
        assert run.deployment_id is not None
        placed = FlowRunFilterStateName(any_=list(PLACED))
        waiting = read_runs(client, [StateType.SCHEDULED], [run.deployment_id], state_name=placed)
        return any(same_work(run, one) for one in waiting)

    def _let_wait(self, client: SyncPrefectClient, run: FlowRun) -> None:
        """It waits on the page, without a process."""
        if run.id in self.waiting:
            return
        self.waiting.add(run.id)
        if run.state is not None and run.state.name not in PLACED:
            due = run.next_scheduled_start_time
            client.set_flow_run_state(
                run.id, Scheduled(name=AWAITING, message=WAITING, scheduled_time=due), force=True
            )

    def _start(self, client: SyncPrefectClient, run: FlowRun, rules: Rules) -> None:
        assert run.deployment_id is not None
        self.waiting.discard(run.id)
        self.begun.add(run.id)
        if client.set_flow_run_state(run.id, Pending()).status != SetStateStatus.ACCEPT:
            self.begun.discard(run.id)
            return  # cancelled meanwhile, or somebody set a limit on the page
        environment = {
            **os.environ,
            "PREFECT__FLOW_RUN_ID": str(run.id),
            "PREFECT__DEPLOYMENT_NAME": rules.name,
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            "PREFECT_CLIENT_MAX_RETRIES": CLIENT_RETRIES,
        }
        parent = os.getpid()
        try:
            process = subprocess.Popen(
                COMMAND,
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C and a closed terminal are ours to pass on
                preexec_fn=lambda: die_with(parent),
            )
        except OSError as error:
            say(f"no process could be started for {run.name}: {error}")
            return
        self.begun.discard(run.id)
        self.children.append(Child(run.id, run.deployment_id, run.name, process, run.parameters))
        with suppress(
            OSError
        ):  # on a full disk; without a note it counts as gone when we start the next time
            processes.note_process(self.home, str(run.id), process.pid)

    def _stop(self, client: SyncPrefectClient) -> None:
        """End every run, and leave it to the next start; a second signal ends patience."""
        for child in self.children:
            if not child.why:
                _end(child, "stopped")
        names = [child.name for child in self.children if child.why == "stopped"]
        while any(child.process.poll() is None for child in self.children):
            for child in self.children:
                if len(self.asked) > 1 or time.monotonic() > child.until:
                    _kill(child)
            time.sleep(0.1)
        deadline = time.monotonic() + 30
        while not self._try(self._bury, client) and len(self.asked) < 3 and time.monotonic() < deadline:
            time.sleep(1)  # what cannot be told now, the next start finds out by itself
        if names:
            say(f"the next start goes on with {', '.join(names)}")


def _end(child: Child, why: str) -> None:
    """Ask a run to end: it finishes its step and writes a checkpoint."""
    child.why, child.until = why, time.monotonic() + PATIENCE
    if child.process.poll() is None:
        child.process.send_signal(signal.SIGTERM)


def _kill(child: Child) -> None:
    """End a run and whatever it started."""
    if child.process.poll() is None:
        os.killpg(child.process.pid, signal.SIGKILL)


def _first_what_was_begun(run: Any) -> Any:
    """What was stopped comes before what was missed meanwhile: it may be the same work."""
    begun = run.state is not None and run.state.name in (LOST, STOPPED)
    return not begun, run.next_scheduled_start_time or run.created, str(run.id)
