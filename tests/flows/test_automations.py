"""Events, what fires on them, and the notifications: as Prefect's own schemas read them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.orchestration import events
from flows.serving.serve import OVERLAP, deployments
from schemas.errors import NoNewData, UserError
from schemas.reading.yaml_reader import read_yaml
from tests.corpora import make_spec

ROOT = Path(__file__).parents[2]


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    import prefect.events

    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(prefect.events, "emit_event", lambda **event: kept.append(event))
    return kept


def outcome(verdict: str, fresh: bool = True) -> Any:
    decision = SimpleNamespace(verdict=verdict, sentence="It is so.", next_action="Do this.")
    return SimpleNamespace(run="test-1", fresh=fresh, decision=decision)


def test_a_fresh_decision_and_a_promotion_are_told_with_stable_names(emitted: list[dict[str, Any]]) -> None:
    events.announce_verdict(make_spec(), outcome("promote"))
    verdict, promoted = emitted
    assert (verdict["event"], promoted["event"]) == ("rootstock.verdict", "rootstock.promoted")
    for event in emitted:
        assert event["resource"]["prefect.resource.id"] == "rootstock.model.test"
        assert event["related"] == [
            {"prefect.resource.id": "rootstock.run.test-1", "prefect.resource.role": "run"}
        ]
    assert verdict["resource"]["rootstock.verdict"] == "promote"
    assert verdict["payload"] == {"sentence": "It is so.", "next": "Do this."}
    assert promoted["resource"]["rootstock.forced"] == "false"


@pytest.mark.parametrize("verdict", ["reject", "inconclusive"])
def test_what_did_not_pass_is_no_promotion(emitted: list[dict[str, Any]], verdict: str) -> None:
    events.announce_verdict(make_spec(), outcome(verdict))
    assert [event["event"] for event in emitted] == ["rootstock.verdict"]


def test_what_waits_for_approval_is_not_promoted_yet_and_an_old_decision_is_no_news(
    emitted: list[dict[str, Any]],
) -> None:
    events.announce_verdict(make_spec(promotion={"approval": "manual"}), outcome("promote"))
    assert [event["event"] for event in emitted] == ["rootstock.verdict"]
    events.announce_verdict(make_spec(), outcome("promote", fresh=False))
    assert len(emitted) == 1


def test_new_data_is_told_once_there_is_some(
    emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = make_spec(increments={})

    def nothing(*_: Any) -> Any:
        raise NoNewData("", "", "")

    monkeypatch.setattr(events, "find_due", nothing)
    assert events.announce_data(spec, "a.yaml", tmp_path) is None
    new = SimpleNamespace(number=3, new=[SimpleNamespace(files=("a", "b"))])
    monkeypatch.setattr(events, "find_due", lambda *_: SimpleNamespace(increment=new))
    assert events.announce_data(spec, "a.yaml", tmp_path) == "increment 3 of test: 2 new files"
    (event,) = emitted
    assert (event["event"], event["resource"]["rootstock.spec"]) == ("rootstock.data.arrived", "a.yaml")
    with pytest.raises(UserError, match="only a specification with increments"):
        events.announce_data(make_spec(), "a.yaml", tmp_path)


def event(name: str, **labels: str) -> Any:
    from prefect.events.schemas.events import Event

    resource = {
        "prefect.resource.id": "rootstock.model.test",
        **{k.replace("_", "."): v for k, v in labels.items()},
    }
    return Event(event=name, resource=resource)


def test_new_data_starts_the_training_of_the_specification_that_has_it() -> None:
    (training,) = [d for d in deployments(Path(".rootstock")) if d.name == "continual-training-on-new-data"]
    (trigger,) = training.triggers
    assert trigger.expect == {events.ARRIVED}
    assert trigger.match.matches(event(events.ARRIVED).resource)
    assert OVERLAP[str(training.name)] == "queue"
    template = trigger.parameters["spec"]
    assert template["__prefect_kind"] == "jinja"
    import jinja2

    shown = jinja2.Template(template["template"]).render(
        event=event(events.ARRIVED, rootstock_spec="runs/a.yaml")
    )
    assert shown == "runs/a.yaml"


def test_the_notifications_are_automations_that_prefect_accepts() -> None:
    from prefect.events.schemas.automations import AutomationCore

    listed = read_yaml(ROOT / "automations.yaml").value["automations"]
    found = {item["name"]: AutomationCore.model_validate(item) for item in listed}
    verdicts = found["rootstock verdicts"].trigger
    assert verdicts.expect == {events.VERDICT}
    assert verdicts.match.matches(event(events.VERDICT, rootstock_verdict="reject").resource)
    assert not verdicts.match.matches(event(events.VERDICT, rootstock_verdict="promote").resource)
    assert found["rootstock promotions"].trigger.expect == {events.PROMOTED}
    assert len(found) == 4
