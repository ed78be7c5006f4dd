"""Before a rejection for forgetting: is what was forgotten gone, or does it come back with a few steps on general text?

Spurious forgetting (Zheng et al., 2025, https://arxiv.org/abs/2501.13453): a model that answers worse may have lost the
habit and not the knowledge. Candidate and base are trained for the same few steps on the same replay text (never the
suites); what then still separates them is gone. It explains a verdict, and never changes it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flows.progress.watch import Silent
from schemas.errors import ExitCode, UserError
from schemas.results.artifacts import RuleOutcome
from schemas.results.realignment import Realigned, Realignment
from schemas.spec.base_model import FromScratch
from schemas.spec.mixture import Mixture
from schemas.spec.run import RunSpec
from tasks.data.prepare import Tokenized, prepare, tokenize
from tasks.evaluation.scoring.score_model import assemble_scores, score_model
from tasks.evaluation.suites.items import Suite
from tasks.evaluation.verdict.improvement import improvement, negate
from tasks.storage.workers import ShardMap
from tasks.training.models.base_model import BaseModel
from tasks.training.train import train
from tasks.training.training_inputs import training_inputs


def worth_asking(spec: RunSpec, rules: Sequence[RuleOutcome]) -> bool:
    """Whether the run fails for forgetting, and the probe can be made: replay text, and a model that can be trained on."""
    return (
        any(rule.rule == "forgetting" and rule.outcome == "fail" for rule in rules)
        and spec.promotion.realign_steps > 0
        and bool(spec.replay)
        and spec.objective.learns_text
        and (spec.method.replaces_base or spec.method.merges)
        and not isinstance(spec.base, FromScratch)
    )


def ask(note: Callable[[str], None], *given: Any) -> Realignment | None:
    """`realign`, or None with a note where the probe cannot be made: what only explains a verdict must not prevent it.

    Raises:
        UserError: the process was asked to stop.
    """
    try:
        probe = realign(*given)
    except UserError as error:
        if error.exit_code == ExitCode.TERMINATED:
            raise
        note(f"the re-alignment cannot be made: {error.what}")
        return None
    note(probe.sentence)
    return probe


def realign(
    spec: RunSpec,
    state: Path,
    base: BaseModel,
    candidate: Path,
    suites: Sequence[Suite],
    tokenized: Tokenized,
    rules: Sequence[RuleOutcome],
    call: Callable[..., Any],
    map_shards: ShardMap,
) -> Realignment:
    """Train candidate and base for a few steps on replay text, and score the general suites again."""
    probe = probe_spec(spec)
    prepared = call(prepare, state, probe, map_shards=map_shards, note=Silent().note)
    plan = call(tokenize, state, probe, prepared, base.folder, map_shards=map_shards, note=Silent().note)
    general = [suite for suite in suites if suite.kind == "general"]
    scored: dict[Any, Any] = {}
    for who, folder in (("base", base.folder), ("candidate", candidate)):
        start = base if who == "base" else BaseModel(folder, base.name, str(folder))
        inputs = training_inputs(probe, start, prepared, plan)
        trained = call(train, state, probe, inputs, on_metrics=None)
        scored[who] = call(score_model, state, spec, general, trained.folder / "model", on_progress=None)
    scores = assemble_scores(general, scored, tokenized.special.vocab_size)
    # what the candidate was trained from: in an increment the base that is scored is the original one
    against = "champion" if spec.increment is not None and spec.base_from is not None else "base"
    before = {
        rule.suite: rule.estimate for rule in rules if rule.rule == "forgetting" and rule.against == against
    }
    found = []
    for suite in scores.suites:
        rise = negate(improvement(suite, scores.unit, "base", "candidate", spec.promotion.confidence))
        found.append(
            Realigned(
                suite=suite.name, before=before[suite.name], after=rise.estimate, low=rise.low, high=rise.high
            )
        )
    return Realignment(
        steps=spec.promotion.realign_steps, limit=spec.promotion.max_forgetting, suites=tuple(found)
    )


def probe_spec(spec: RunSpec) -> RunSpec:
    """The same run with the replay text as its domain, and a few steps; of another name, for Prefect's page."""
    training = spec.training.model_copy(
        update={"steps": spec.promotion.realign_steps, "tokens": None, "epochs": None, "documents": None}
    )
    return spec.model_copy(
        update={
            "name": f"{spec.name}-realigned", "domain": spec.replay, "replay": (), "mixture": Mixture(replay_ratio=0), "training": training,
            "increments": None, "increment": None, "remedies": (),
        }
    )  # fmt: skip
