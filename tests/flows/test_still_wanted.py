"""Before anything is put in use, a run asks whether it is still wanted; nobody to ask is no yes."""

import pytest
from prefect import flow, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling, Paused

from flows.serving.server import free_port
from schemas.errors import MachineFailed, TrainingFailed
from tasks import still_wanted
from tasks.still_wanted import require_wanted

pytestmark = pytest.mark.usefixtures("prefect_api")

STATES = {"cancelling": Cancelling(), "paused": Paused()}


@flow
def releases(becomes: str | None = None) -> str:
    with get_client(sync_client=True) as client:
        if becomes is not None:
            client.set_flow_run_state(runtime.flow_run.id, STATES[becomes], force=True)
    try:
        require_wanted()
    except TrainingFailed as error:
        return error.what
    return "put in use"


def test_only_a_run_that_still_runs_puts_something_in_use() -> None:
    assert releases() == "put in use"
    refused = "this run was stopped on Prefect's page ({}): nothing was put in use"
    assert releases("cancelling") == refused.format("cancelling")
    assert releases("paused") == refused.format("paused")


def test_without_an_answer_nothing_is_put_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still_wanted, "SECONDS_TO_ASK", 0.1)
    monkeypatch.setattr(still_wanted, "SECONDS_BETWEEN", 0.2)

    nobody = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setattr(still_wanted, "get_client", lambda **_: SyncPrefectClient(nobody))

    @flow
    def alone() -> str:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), pytest.raises(MachineFailed) as caught:
            require_wanted()
        assert "start the server again" in caught.value.fix
        return "nothing"

    assert alone() == "nothing"
