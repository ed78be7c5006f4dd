"""The model that intransigence is measured from: one that learned an increment alone.

Intransigence: Chaudhry et al., 2018, https://arxiv.org/abs/1801.10112, with a deviation (see `tasks/evaluation/comparison/continual.py`).
The model is scored and no more: it is never deployed, and no rule asks about it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flows.growing.effective import effective, with_ratio
from flows.progress.watch import Watch
from schemas.errors import ExitCode, UserError
from schemas.spec.run import RunSpec
from tasks.data.prepare import prepare, tokenize
from tasks.evaluation.scoring.score_model import assemble_scores, score_model
from tasks.evaluation.suites.items import Suite
from tasks.storage.workers import ShardMap
from tasks.training.models.base_model import provide_base
from tasks.training.train import train
from tasks.training.training_inputs import training_inputs


def wants_reference(spec: RunSpec) -> bool:
    """Whether a second model is asked for; before the first promotion the candidate itself learns its increment alone."""
    asked = spec.increments is not None and spec.increments.reference
    return asked and spec.increment is not None and spec.increment.parent is not None


def score_alone(watch: Watch, spec: RunSpec, *given: Any) -> float | None:
    """`learn_alone`, or None with a note where it fails: what no rule asks about must not prevent a verdict.

    Raises:
        UserError: the process was asked to stop.
    """
    try:
        score = learn_alone(watch, spec, *given)
    except UserError as error:
        if error.exit_code == ExitCode.TERMINATED:
            raise
        watch.note(f"no model learned the increment alone, its intransigence stays unknown: {error.what}")
        return None
    watch.note(f"on this increment, a model that learned nothing else: {score:.3f} nats per token")
    return score


def learn_alone(
    watch: Watch,
    spec: RunSpec,
    state: Path,
    suites: Sequence[Suite],
    call: Callable[..., Any],
    map_shards: ShardMap,
) -> float:
    """Train the original base on this increment alone, and return its loss on the documents the candidate was scored on.

    `spec`: the one that the candidate was trained by; where a budget was given, its ratio is taken, not chosen again.
    """
    alone = effective(alone_spec(spec), state, None, watch)
    prepared = call(prepare, state, alone, map_shards=map_shards, note=watch.note)
    base = call(provide_base, state, alone, prepared, None)
    tokenized = call(tokenize, state, alone, prepared, base.folder, map_shards=map_shards, note=watch.note)
    inputs = training_inputs(alone, base, prepared, tokenized)
    trained = call(train, state, alone, inputs, on_metrics=watch.trained)
    own = [suite for suite in suites if suite.kind == "domain"]
    scored = call(score_model, state, alone, own, trained.folder / "model", on_progress=watch.scored)
    scores = assemble_scores(own, {"candidate": scored}, tokenized.special.vocab_size)
    return scores.value(scores.suites[0], "candidate")


def alone_spec(spec: RunSpec) -> RunSpec:
    """The same run as if no increment had come before it: from the original base, without their rows as replay.

    Text that the champion wrote is left out: the original base writes its own. Which of its rows are new does not change. On Prefect's page it has artifacts of its own, by its name.
    """
    increment = spec.increment
    assert increment is not None
    if not spec.has_general:
        spec = with_ratio(spec, 0.0)
    first = increment.model_copy(update={"parent": None, "past": (), "remembered": ()})
    return spec.model_copy(
        update={
            "name": f"{spec.name}-alone", "base": increment.original, "base_from": None, "increment": first,
            "replay": tuple(source for source in spec.replay if source is not spec.own_text),
        }
    )  # fmt: skip
