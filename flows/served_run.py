"""A run that `rootstock serve` starts: Prefect's engine, but nothing taken from files that lie in the working directory.

`python -P -m flows.served_run`: Prefect would start `python -m prefect.engine`, which reads its settings before any line of
ours. And no code but ours: a deployment may say, in a database that somebody hands over, what to run first (pull steps) and
what to import.
"""

import functools
import importlib
import runpy
import shlex
import sys
from typing import TYPE_CHECKING, Any

from flows.surroundings import quiet_environment
from schemas.errors import UserError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun


def start_runs_isolated() -> None:
    """Have the runner of this process start every run as this module, and load nothing else when it looks for hooks."""
    from prefect.runner import runner
    from prefect.runner._starter_engine import EngineCommandStarter

    command = shlex.join([sys.executable, "-P", "-m", "flows.served_run"])
    _replace(runner, "EngineCommandStarter", functools.partial(EngineCommandStarter, command=command))
    _replace(runner, "load_flow_from_flow_run", load_ours)


async def load_ours(flow_run: "FlowRun", **_: Any) -> "Flow[..., Any]":
    """The flow of a served run, which is one of ours.

    Raises:
        UserError: its deployment names other code.
    """
    from prefect import Flow, get_client

    assert flow_run.deployment_id is not None
    async with get_client() as client:
        deployment = await client.read_deployment(flow_run.deployment_id)
    entrypoint = deployment.entrypoint or ""
    module, name = entrypoint.rpartition(".")[0], entrypoint.rpartition(".")[2]
    if not deployment.pull_steps and module.startswith("flows."):
        found = getattr(importlib.import_module(module), name, None)
        if isinstance(found, Flow):
            return found
    raise UserError(
        "this deployment says to run other code than Rootstock's, so nothing was run",
        f"deployment {deployment.name!r}, pull steps or entrypoint",
        "delete the deployment on the page, then start `rootstock serve` again: it makes it anew",
    )


def _replace(module: Any, name: str, ours: Any) -> None:
    assert name in vars(module), f"Prefect has no {module.__name__}.{name} any more"
    setattr(module, name, ours)


if __name__ == "__main__":
    quiet_environment()
    from prefect import flow_engine

    _replace(flow_engine, "load_flow_from_flow_run", load_ours)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
