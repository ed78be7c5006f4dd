"""Bring deployments up to date on the server, and keep what people edited on its page.

What this program last set, and how the server showed it then, is written down in Prefect's folder. What looks different now
was edited, and is left as it is; everything else follows the program. What was deleted stays so until somebody asks for it.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.progress.terminal import say
from flows.serving.deployed_record import (
    NAME,
    RECORD,
    Noted,
    edited_values,
    name_of,
    read_record,
    was_there,
    write_record,
)
from flows.serving.deployed_triggers import set_triggers, shown_triggers
from schemas.errors import UserError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.deployments.runner import RunnerDeployment

PARAMETER = "parameter "
WHOLE = ("schedules", "tags", "description", "paused")
TRIGGERS = "triggers"
Values = dict[str, Any]
"""What can be edited, each by its name: `schedules`, `tags`, `description`, `paused`, `triggers`, and `parameter NAME` one by one."""


def deploy(
    client: "SyncPrefectClient",
    deployments: "Sequence[RunnerDeployment]",
    home: Path,
    restore: Collection[str] = (),
) -> dict[UUID, str]:
    """Create or update every deployment; return their names by id, and print what was kept as it was edited.

    Raises:
        UserError: `restore` names one that was not deleted.
    """
    record = read_record(home / RECORD)
    found = [_find(client, deployment) for deployment in deployments]
    if record == {} and all(one is not None and one.paused for one in found):
        for one in (
            found
        ):  # not edited: Prefect's own `serve`, which came before this file, paused all when it ended
            assert one is not None
            client.resume_deployment(one.id)
        found = [_find(client, deployment) for deployment in deployments]
    living = {str(one.id) for one in found if one is not None}
    deleted = [
        deployment
        for deployment, one in zip(deployments, found, strict=True)
        if one is None and was_there(record, living, deployment.full_name)
    ]
    _require_deleted(restore, [deployment.name for deployment in deleted])
    known, names = record or {}, {}
    for deployment, one in zip(deployments, found, strict=True):
        if deployment in deleted and deployment.name not in restore:
            back = f"bring it back: rootstock serve --restore {deployment.name}"
            say(f"deleted on the page, and stays so: {deployment.name} ({back})", flush=True)
            continue
        ours = _ours(deployment)
        if one is None:
            identity = deployment.apply()
            assert isinstance(identity, UUID)
            before, edited = {}, []
            known = {
                key: entry
                for key, entry in known.items()
                if key in living or name_of(entry) != deployment.full_name
            }
        else:
            identity, before = one.id, known.get(str(one.id), {})
            now = _seen(client, deployment, one)
            edited = edited_values(before, now)
            changes = {} if record is None else _changes(ours, before, now, edited)
            _update(client, deployment, one, changes, before)
            if edited:
                told = ", ".join(edited)
                say(f"kept as it was edited on the page: {deployment.name} ({told})", flush=True)
        names[identity] = deployment.name
        after = _seen(client, deployment, client.read_deployment(identity))
        known[str(identity)] = {
            name: before.get(name, Noted(ours=None, seen=None))
            if name in edited
            else Noted(ours=ours.get(name), seen=after.get(name))
            for name in {**ours, **after, **dict.fromkeys(edited)}
        } | {NAME: Noted(ours=deployment.full_name, seen=None)}
        write_record(home / RECORD, known)
    return names


def _require_deleted(restore: Collection[str], deleted: Sequence[str]) -> None:
    for name in restore:
        if name not in deleted:
            known = f"deleted are: {', '.join(deleted)}" if deleted else "nothing is: leave out --restore"
            raise UserError(
                f"no deployment {name!r} was deleted on the page, so none is restored",
                f"--restore {name}",
                known,
            )


def _changes(ours: Values, before: dict[str, Noted], now: Values, edited: Sequence[str]) -> Values:
    """What of ours is to be set: all that was not edited and is not as this program last set it.

    Of what was deployed before this record was kept, all that is there may have been edited, and is the beginning.
    """
    if not before:
        return {name: value for name, value in ours.items() if name not in now or name == f"{PARAMETER}state"}
    return {
        name: value
        for name, value in ours.items()
        if name not in edited and (name not in before or before[name].ours != value)
    }


def _update(
    client: "SyncPrefectClient",
    deployment: "RunnerDeployment",
    one: "DeploymentResponse",
    changes: Values,
    before: dict[str, Noted],
) -> None:
    """Set what a program decides alone (how it is started, its form), and `changes`; `before`: what we deployed."""
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
    if not before:
        body["concurrency_limit"] = None  # of an older Rootstock; now `served_runs.py` sees to it
    client.request("PATCH", "/deployments/{id}", path_params={"id": one.id}, json=body)
    if TRIGGERS in changes:
        last = before[TRIGGERS].ours if TRIGGERS in before else []
        set_triggers(client, deployment, one.id, {trigger["name"] for trigger in last or []})


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
        TRIGGERS: [trigger.model_dump(mode="json") for trigger in deployment.triggers],
        **{f"{PARAMETER}{name}": value for name, value in deployment.parameters.items()},
    }


def _seen(client: "SyncPrefectClient", deployment: "RunnerDeployment", one: "DeploymentResponse") -> Values:
    """What the server shows of it, in the same names."""
    automations = shown_triggers(client, deployment, one.id)
    plans = [
        plan.model_dump(mode="json", include={"schedule", "active", "parameters", "max_scheduled_runs"})
        for plan in one.schedules
    ]
    return {
        "schedules": sorted(plans, key=lambda plan: json.dumps(plan, sort_keys=True)),
        "tags": sorted(one.tags),
        "description": one.description,
        "paused": one.paused,
        **({TRIGGERS: automations} if automations else {}),
        **{f"{PARAMETER}{name}": value for name, value in one.parameters.items()},
    }


def _find(client: "SyncPrefectClient", deployment: "RunnerDeployment") -> "DeploymentResponse | None":
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None
