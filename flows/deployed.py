"""Bring deployments up to date on the server, and keep what people edited on its page.

What this program last set, and how the server showed it then, is written down in Prefect's folder. What looks different now
was edited, and is left as it is; everything else follows the program.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.terminal import say
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import parse_json, read_stored

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.deployments.runner import RunnerDeployment

RECORD = "deployed.json"
PARAMETER = "parameter "
WHOLE = ("schedules", "tags", "description", "paused")
Values = dict[str, Any]
"""What can be edited, each by its name: `schedules`, `tags`, `description`, `paused`, and `parameter NAME` one by one."""


def deploy(
    client: "SyncPrefectClient", deployments: "Sequence[RunnerDeployment]", home: Path
) -> dict[UUID, str]:
    """Create or update every deployment; return their names by id, and print what was kept as it was edited."""
    record = _read(home / RECORD)
    found = [_find(client, deployment) for deployment in deployments]
    if not record and all(one is not None and one.paused for one in found):
        for one in (
            found
        ):  # not edited: Prefect's own `serve`, which came before this file, paused all when it ended
            assert one is not None
            client.resume_deployment(one.id)
        found = [_find(client, deployment) for deployment in deployments]
    names = {}
    for deployment, one in zip(deployments, found, strict=True):
        ours = _ours(deployment)
        if one is None:
            identity = deployment.apply()
            assert isinstance(identity, UUID)
            before, edited = {}, []
        else:
            identity, before, now = one.id, record.get(str(one.id), {}), _seen(one)
            edited = [name for name, was in before.items() if was["seen"] != now.get(name)]
            edited += [name for name in now if before and name not in before]
            _update(client, deployment, one, _changes(ours, before, now, edited), bool(before))
            if edited:
                told = ", ".join(edited)
                say(f"kept as it was edited on the page: {deployment.name} ({told})", flush=True)
        names[identity] = deployment.name
        after = _seen(client.read_deployment(identity))
        record[str(identity)] = {
            name: before.get(name, {"ours": None, "seen": None})
            if name in edited
            else {"ours": ours.get(name), "seen": after.get(name)}
            for name in {**ours, **after, **dict.fromkeys(edited)}
        }
        write_atomic(home / RECORD, json.dumps(record, indent=1))
    return names


def _changes(ours: Values, before: Values, now: Values, edited: Sequence[str]) -> Values:
    """What of ours is to be set: all that was not edited and is not as this program last set it.

    Of what was deployed before this record was kept, all that is there may have been edited, and is the beginning.
    """
    if not before:
        return {name: value for name, value in ours.items() if name not in now or name == f"{PARAMETER}state"}
    return {
        name: value
        for name, value in ours.items()
        if name not in edited and (name not in before or before[name]["ours"] != value)
    }


def _update(
    client: "SyncPrefectClient",
    deployment: "RunnerDeployment",
    one: "DeploymentResponse",
    changes: Values,
    known: bool,
) -> None:
    """Set what a program decides alone (how it is started, its form), and `changes`; `known`: it was deployed by us before."""
    parameters = one.parameters | {
        name.removeprefix(PARAMETER): value for name, value in changes.items() if name.startswith(PARAMETER)
    }
    body: Values = {
        "entrypoint": deployment.entrypoint,
        "path": deployment._path,
        "pull_steps": None,
        "work_pool_name": None,
        "parameter_openapi_schema": deployment._parameter_openapi_schema.model_dump(
            mode="json", exclude_unset=True
        ),
        "enforce_parameter_schema": deployment.enforce_parameter_schema,
        "parameters": parameters,
        **{name: value for name, value in changes.items() if name in WHOLE},
    }
    if not known:
        body["concurrency_limit"] = None  # of an older Rootstock; now `served_runs.py` sees to it
    client.request("PATCH", "/deployments/{id}", path_params={"id": one.id}, json=body)
    if "triggers" in changes:
        owner = f"prefect.deployment.{one.id}"
        path = {"resource_id": owner}
        if (
            known
            or not client.request("GET", "/automations/related-to/{resource_id}", path_params=path).json()
        ):
            deployment._create_triggers_sync(one.id, client)


def _ours(deployment: "RunnerDeployment") -> Values:
    """What this program wants a deployment to be, in plain JSON."""
    schedules = [
        plan.model_dump(mode="json", exclude_unset=True) for plan in deployment.schedules or [] if plan
    ]
    return {
        "schedules": schedules,
        "tags": deployment.tags,
        "description": deployment.description,
        "paused": False,
        "triggers": [trigger.model_dump(mode="json") for trigger in deployment.triggers],
        **{f"{PARAMETER}{name}": value for name, value in deployment.parameters.items()},
    }


def _seen(one: "DeploymentResponse") -> Values:
    """What the server shows of it, in the same names."""
    plans = [
        plan.model_dump(mode="json", include={"schedule", "active", "parameters", "max_scheduled_runs"})
        for plan in one.schedules
    ]
    return {
        "schedules": sorted(plans, key=lambda plan: json.dumps(plan, sort_keys=True)),
        "tags": sorted(one.tags),
        "description": one.description,
        "paused": one.paused,
        **{f"{PARAMETER}{name}": value for name, value in one.parameters.items()},
    }


def _find(client: "SyncPrefectClient", deployment: "RunnerDeployment") -> "DeploymentResponse | None":
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None


def _read(file: Path) -> dict[str, Values]:
    try:
        record = parse_json(read_stored(file))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
