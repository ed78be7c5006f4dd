"""Served runs load Rootstock's flows and nothing else.

A deployment may say what to run first (pull steps: shell commands) and what to import, and it lies in a database that
somebody may hand over, behind an API that other users of the machine may reach.
"""

import importlib
from typing import TYPE_CHECKING, Any

from schemas.errors import UserError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun


def load_only_ours(prefect_module: Any) -> None:
    """Have a module of Prefect's (its engine, its runner) load flows with `load_ours`."""
    name = "load_flow_from_flow_run"
    assert name in vars(prefect_module), f"Prefect has no {prefect_module.__name__}.{name} any more"
    setattr(prefect_module, name, load_ours)


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
        f"delete the deployment on the page, then make it anew: rootstock serve --restore {deployment.name}",
    )
