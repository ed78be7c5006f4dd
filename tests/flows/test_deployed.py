"""What people edit or delete on Prefect's page stays so at the next start of `rootstock serve`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.types.entrypoint import EntrypointType

from flows.check_contracts import check_contracts
from flows.serving.deployed import deploy
from flows.serving.deployed_record import RECORD
from schemas.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_api")]
NAMES = ("edited-a", "edited-b")


def wanted(state: str = ".rootstock") -> list[RunnerDeployment]:
    trigger = DeploymentEventTrigger(name="new", expect={"x"}, parameters={"contract": state})
    return [
        RunnerDeployment.from_flow(
            check_contracts, name, entrypoint_type=EntrypointType.MODULE_PATH, parameters={"contract": state},
            triggers=[trigger] if name == "edited-a" else [],
        ) for name in NAMES
    ]  # fmt: skip


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client
        for one in client.read_deployments():
            if one.name in NAMES:
                client._client.delete(f"/deployments/{one.id}")


def automation(client: SyncPrefectClient, names: dict[Any, str]) -> Any:
    owner = next(one for one, name in names.items() if name == "edited-a")
    found = client._client.get(f"/automations/related-to/prefect.deployment.{owner}").json()
    return found[0] if found else None


def test_an_automation_that_was_switched_off_stays_off_whatever_we_change(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    names = deploy(client, wanted(), tmp_path)
    before = automation(client, names)
    client._client.patch(f"/automations/{before['id']}", json={"enabled": False}).raise_for_status()
    names = deploy(client, wanted("elsewhere"), tmp_path)
    after = automation(client, names)
    assert (after["id"], after["enabled"]) == (before["id"], False)
    assert after["actions"][0]["parameters"] == {"contract": "elsewhere"}
    client._client.delete(f"/automations/{before['id']}").raise_for_status()
    assert automation(client, deploy(client, wanted("again"), tmp_path)) is None, "deleted"


def test_what_was_deleted_stays_so_until_somebody_asks_for_it(
    client: SyncPrefectClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = deploy(client, wanted(), tmp_path)
    lost = next(one for one, name in names.items() if name == "edited-a")
    client._client.delete(f"/deployments/{lost}").raise_for_status()
    for _ in range(2):
        assert list(deploy(client, wanted(), tmp_path).values()) == ["edited-b"]
        assert "deleted on the page, and stays so: edited-a" in capsys.readouterr().out
    with pytest.raises(UserError, match="no deployment 'edited-b' was deleted") as refused:
        deploy(client, wanted(), tmp_path, ["edited-b"])
    assert refused.value.fix == "deleted are: edited-a"
    assert len(deploy(client, wanted(), tmp_path, ["edited-a"])) == 2
    assert len(deploy(client, wanted(), tmp_path)) == 2
    for one in deploy(client, wanted(), tmp_path):
        client._client.delete(f"/deployments/{one}")
    assert len(deploy(client, wanted(), tmp_path)) == 2, "a new database, as far as one can tell"


def test_a_damaged_record_turns_nothing_on(
    client: SyncPrefectClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = deploy(client, wanted(), tmp_path)
    for one in names:
        client.pause_deployment(one)
    kept = automation(client, names)
    client._client.delete(f"/automations/{kept['id']}").raise_for_status()
    text = (tmp_path / RECORD).read_text()
    for damaged in (text.replace('"seen"', '"sEEn"'), "{", "[]"):
        (tmp_path / RECORD).write_text(damaged)
        names = deploy(client, wanted("other"), tmp_path)
        assert "is damaged" in capsys.readouterr().out
        assert [client.read_deployment(one).paused for one in names] == [True, True]
        assert automation(client, names) is None
        assert deploy(client, wanted("other"), tmp_path) == names, "readable again"
        assert "damaged" not in capsys.readouterr().out
