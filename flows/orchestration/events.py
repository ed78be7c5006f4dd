"""Events for Prefect's automations. Names and resources are stable: people build on them.

Every event is about the resource `rootstock.model.<name>`; one about a run is related to `rootstock.run.<run id>` (role
`run`). `rootstock.verdict` after every fresh decision, with the label `rootstock.verdict`: promote, reject or inconclusive.
`rootstock.promoted` when a model is put in use, with the label `rootstock.forced`: true or false. `rootstock.data.arrived`
when there is something new to learn, with the label `rootstock.spec`: the specification's path.
"""

from pathlib import Path

from flows.growing.due import find_due, require_increments
from flows.run.journey import Outcome
from schemas.errors import NoNewData
from schemas.spec.run import RunSpec

VERDICT, PROMOTED, ARRIVED = "rootstock.verdict", "rootstock.promoted", "rootstock.data.arrived"


def announce_verdict(spec: RunSpec, outcome: Outcome) -> None:
    """Tell a fresh decision, and the promotion if it put a model in use."""
    if not outcome.fresh:
        return
    verdict = outcome.decision.verdict
    _emit(VERDICT, spec.name, {"rootstock.verdict": verdict}, outcome.run,
          {"sentence": outcome.decision.sentence, "next": outcome.decision.next_action})  # fmt: skip
    if verdict == "promote" and spec.promotion.approval == "automatic":
        announce_promotion(spec.name, outcome.run, forced=False)


def announce_promotion(name: str, run: str, forced: bool) -> None:
    """Tell that a model was put in use."""
    _emit(PROMOTED, name, {"rootstock.forced": str(forced).lower()}, run, {})


def announce_data(spec: RunSpec, file: str, state: Path) -> str | None:
    """Tell that there is something new to learn; return what, or None if there is nothing.

    Raises:
        UserError: the specification does not grow.
    """
    require_increments(spec, file)
    try:
        now = find_due(spec, state)
    except NoNewData:
        return None
    assert now.increment is not None
    files = [name for source in now.increment.new for name in source.files]
    told = f"increment {now.increment.number} of {spec.name}: {len(files)} new files"
    _emit(ARRIVED, spec.name, {"rootstock.spec": file}, None, {"files": files[:50], "number": len(files)})
    return told


def _emit(event: str, name: str, labels: dict[str, str], run: str | None, payload: dict[str, object]) -> None:
    from prefect.events import emit_event

    related = (
        []
        if run is None
        else [{"prefect.resource.id": f"rootstock.run.{run}", "prefect.resource.role": "run"}]
    )
    resource = {"prefect.resource.id": f"rootstock.model.{name}", "prefect.resource.name": name, **labels}
    emit_event(event=event, resource=resource, related=related, payload=payload)
