"""The automations of a deployment: changed in place, so that what people did to them on the page stays."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment

AUTOMATION = (
    "name", "description", "enabled", "tags", "trigger", "actions", "actions_on_trigger", "actions_on_resolve",
)  # fmt: skip


def set_triggers(
    client: "SyncPrefectClient", deployment: "RunnerDeployment", identity: UUID, last: set[str]
) -> None:
    """Change our automations in place: one that was switched off on the page stays off. `last`: the names of those of before."""
    there = {one["name"]: one for one in _automations(client, identity)}
    for trigger in deployment.triggers:
        trigger.set_deployment_id(identity)
        wanted = trigger.as_automation()
        if (old := there.get(wanted.name)) is None:
            client.create_automation(wanted)
            continue
        kept = {name: old[name] for name in AUTOMATION if name in old}
        set_now = wanted.model_dump(mode="json", include={"trigger", "actions"})
        path = {"id": old["id"]}
        client.request("PUT", "/automations/{id}", path_params=path, json=kept | set_now)
    for name in (last - _names(deployment)) & there.keys():
        client.request("DELETE", "/automations/{id}", path_params={"id": there[name]["id"]})


def _automations(client: "SyncPrefectClient", identity: UUID) -> list[dict[str, Any]]:
    path = {"resource_id": f"prefect.deployment.{identity}"}
    found: list[dict[str, Any]] = client.request(
        "GET", "/automations/related-to/{resource_id}", path_params=path
    ).json()
    return found


def shown_triggers(
    client: "SyncPrefectClient", deployment: "RunnerDeployment", identity: UUID
) -> list[dict[str, Any]]:
    """Our automations as the server shows them. Whether one is on is not ours to set, so it is left out."""
    ours = _names(deployment)
    return [
        {"name": found["name"], "trigger": _told(found["trigger"]), "actions": found["actions"]}
        for found in (_automations(client, identity) if ours else [])
        if found["name"] in ours
    ]


def _names(deployment: "RunnerDeployment") -> set[str]:
    return {trigger.model_dump()["name"] for trigger in deployment.triggers}


def _told(trigger: dict[str, Any]) -> dict[str, Any]:
    """A trigger as it can be compared: an id is given anew with every change, and sets come in any order."""
    sets = {name: sorted(trigger.get(name) or []) for name in ("expect", "after", "for_each")}
    return {name: value for name, value in trigger.items() if name != "id"} | sets
