"""The verbs `backfill` and `announce` on this machine."""

import os
from pathlib import Path

from flows.growing.backfill import backfill, row_of
from flows.growing.due import require_increments
from flows.progress.watch import Console
from flows.serving.server import prefect_server, running_server, server_home
from schemas.errors import ExitCode, UserError
from schemas.spec.run import RunSpec

_CODES = {"promote": ExitCode.PROMOTE, "inconclusive": ExitCode.INCONCLUSIVE, "reject": ExitCode.REJECT}
_WORST = list(_CODES)


def backfill_here(
    spec: RunSpec, state: Path, start: str | None, stop: str | None
) -> tuple[list[dict[str, str]], int]:
    """Rows of what became of each place, and the exit code of the worst verdict."""
    from flows.run.journey import follow

    watch = Console()
    rows, verdicts = [], ["promote"]
    for filled in backfill(spec, state, start, stop, lambda now: follow(now, state, watch)):
        rows.append(row_of(filled.place, filled.outcome))
        verdicts += [filled.outcome.decision.verdict] if filled.outcome else []
        watch.note(f"{filled.place}: {rows[-1]['verdict']}")
    return rows, int(_CODES[max(verdicts, key=_WORST.index)])


def announce_here(spec: RunSpec, file: str, state: Path) -> str | None:
    """Tell the Prefect server of this state, or of PREFECT_API_URL.

    Raises:
        UserError: the specification does not grow, or there is no server.
    """
    require_increments(spec, file)
    if not os.environ.get("PREFECT_API_URL") and running_server(server_home(state)) is None:
        fix = "start `rootstock serve` in this folder, or export PREFECT_API_URL=..."
        raise UserError("no Prefect server runs that could be told", str(server_home(state)), fix)
    with prefect_server(state):
        from flows.orchestration.events import announce_data
        from flows.serving.embedded import deliver

        told = announce_data(spec, file, state)
        deliver()
        return told
