"""The journey of one specification from its files to its verdict, in plain Python.

Prefect adds names, retries and pages to it by passing its own `call`; the order of things is written here once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from flows.growing.effective import effective, with_ratio
from flows.growing.reference import score_alone, wants_reference
from flows.progress.notes import ledger_line, mixture_line, scores_line
from flows.progress.watch import Watch
from flows.replay.choose_replay import choose_ratio, require_ratio
from flows.replay.realign import ask, worth_asking
from schemas.results.artifacts import Bindings, Decision
from schemas.results.counts import Latency
from schemas.results.replay_choice import ReplayChoice
from schemas.results.scores import Scores, Who
from schemas.spec.base_model import FromScratch
from schemas.spec.run import RunSpec
from tasks.data.labels.model_head import knows_labels
from tasks.data.prepare import Prepared, Tokenized, prepare, tokenize
from tasks.evaluation.scoring.head_scores import assemble_head_scores
from tasks.evaluation.scoring.latency import measure_latency
from tasks.evaluation.scoring.score_model import assemble_scores, score_model
from tasks.evaluation.suites.build import build_suites
from tasks.evaluation.suites.items import Suite
from tasks.evaluation.verdict.floor import refuse_ceiling, refuse_floor
from tasks.evaluation.verdict.verdict import decide, judge, require_suites
from tasks.release.run.run_folder import RunFolder, RunResult
from tasks.storage.steps import Step
from tasks.storage.workers import ShardMap, map_in_processes, one_pool, rest
from tasks.training.attach import require_method
from tasks.training.device import find_device
from tasks.training.models.base_model import BaseModel, provide_base
from tasks.training.models.weights import find_model
from tasks.training.train import train
from tasks.training.training_inputs import training_inputs

Result = TypeVar("Result")
Call = Callable[..., Any]


def call_plainly(function: Callable[..., Result], *arguments: Any, **settings: Any) -> Result:
    """Run a stage as the plain function it is."""
    return function(*arguments, **settings)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    run: str
    folder: Path
    decision: Decision
    fresh: bool
    """False if the run had been finished before and nothing was done."""


def follow(
    spec: RunSpec,
    state: Path,
    watch: Watch,
    call: Call = call_plainly,
    map_shards: ShardMap = map_in_processes,
) -> Outcome:
    """Follow one specification to its verdict; a finished run is returned as it is, a killed one goes on.

    Raises:
        UserError: see the stages; exit codes are in the error's class.
    """
    run = RunFolder.open(state, spec)
    if (decision := run.finished()) is not None:
        return Outcome(run.id, run.folder, decision, fresh=False)
    with run.held(watch.note):
        if (decision := run.finished()) is not None:
            return Outcome(run.id, run.folder, decision, fresh=False)
        return Outcome(run.id, run.folder, _travel(run, watch, call, map_shards), fresh=True)


def _travel(run: RunFolder, watch: Watch, call: Call, map_shards: ShardMap) -> Decision:
    run.start()
    run = run.following(effective(run.spec, run.state, run.champion_folder, watch))

    def write_data(prepared: Prepared) -> None:
        run.write_data(prepared)
        watch.note(ledger_line(prepared.ledger.total))

    measured = measure(
        run.spec,
        run.state,
        watch,
        call,
        map_shards,
        run.champion_folder,
        write_data,
        run.write_choice,
        run.turn,
    )
    run = run.following(measured.spec)
    rules = judge(measured.scores, run.spec.promotion)
    probe = None
    if worth_asking(run.spec, rules):
        with watch.stage("re-align: is what was forgotten gone?"):
            probe = ask(
                watch.note, run.spec, run.state, measured.base, measured.trained.folder / "model", measured.suites,
                measured.tokenized, rules, call, map_shards,
            )  # fmt: skip
    alone = None
    if wants_reference(run.spec):
        with watch.stage("train a model on this increment alone"):
            alone = score_alone(watch, run.spec, run.state, measured.suites, call, map_shards)
    with watch.stage("decide and report"):
        result = RunResult(
            run.spec, measured.prepared, measured.tokenized, measured.base, measured.trained, measured.scores,
            measured.latency, measured.choice, dict(watch.seconds), find_device().name, probe,
            alone,
        )  # fmt: skip
        decision: Decision = call(conclude, run, result)
    return decision


class Measured(NamedTuple):
    """A candidate and what it was measured on; nothing is decided or released."""

    spec: RunSpec
    """As it was followed, with the ratio that was chosen."""
    prepared: Prepared
    tokenized: Tokenized
    base: BaseModel
    trained: Step
    suites: list[Suite]
    scores: Scores
    latency: Latency
    choice: ReplayChoice | None
    """Of the replay ratio, where a budget was given."""


def measure(
    spec: RunSpec,
    state: Path,
    watch: Watch,
    call: Call = call_plainly,
    map_shards: ShardMap = map_in_processes,
    champion: Path | None = None,
    on_data: Callable[[Prepared], None] = lambda _: None,
    on_choice: Callable[[ReplayChoice], None] = lambda _: None,
    turn: int | None = None,
) -> Measured:
    """From files to the scores of a trained candidate, beside those of its base (and of a champion).

    `spec`: the effective one. `turn`: see `build_suites`.

    Raises:
        UserError: see the stages.
    """
    with one_pool(map_shards) as map_shards:
        with watch.stage("data: read, validate, check contracts, deduplicate, split"):
            prepared = call(prepare, state, spec, map_shards=map_shards, note=watch.note)
            on_data(prepared)
        choice = None
        if spec.mixture.replay_ratio is None:
            with watch.stage("choose the replay ratio"):
                rest(map_shards)
                first = call(provide_base, state, spec, prepared, champion)
                choice = choose_ratio(spec, state, prepared, first, watch, call, map_shards)
                on_choice(choice)
                spec = with_ratio(spec, require_ratio(choice))
        with watch.stage("tokenise and mix"):
            base: BaseModel = call(provide_base, state, spec, prepared, champion)
            tokenized = call(
                tokenize, state, spec, prepared, base.folder, map_shards=map_shards, note=watch.note
            )
            watch.note(mixture_line(tokenized.mixture))
            suites = build_suites(spec, prepared, tokenized, turn)
            require_suites(spec.promotion, [suite.name for suite in suites])
            for suite in suites:
                if suite.no_room:
                    watch.note(
                        f"suite {suite.name}: {suite.no_room:,} prompts leave no room for a response: not scored"
                    )
    with watch.stage("try the method on the base"):
        inputs = training_inputs(spec, base, prepared, tokenized)
        require_method(state, spec, inputs)
    with watch.stage("score the model as it is"):
        before = _score_before(spec, state, champion, base, tokenized, suites, call, watch)
        known = assemble(spec, suites, before, tokenized)
        watch.note(scores_line(known, "base"))
        if not isinstance(spec.base, FromScratch):
            refuse_floor(without_past(known, spec))
            refuse_ceiling(known, spec.promotion.min_gain)
    with watch.stage(f"train ({spec.method.kind})"):
        trained = call(train, state, spec, inputs, on_metrics=watch.trained)
    with watch.stage("score the candidate"):
        after = call(score_model, state, spec, suites, trained.folder / "model", on_progress=watch.scored)
        scores = assemble(spec, suites, {**before, "candidate": after}, tokenized)
        parts = {suite.name: suite.part for suite in suites if suite.part}
        scores = scores.model_copy(update={"parts": parts})
        watch.note(scores_line(scores, "candidate"))
    with watch.stage("time a forward pass"):
        vocabulary = tokenized.special.vocab_size
        latency = measure_latency(state, base.folder, trained.folder / "model", vocabulary)
        watch.note(f"{latency.tokens} tokens: base {latency.base:.1f} ms, candidate {latency.tuned:.1f} ms")
    return Measured(spec, prepared, tokenized, base, trained, suites, scores, latency, choice)


def conclude(
    run: RunFolder, result: RunResult, require_wanted: Callable[[], None] = lambda: None
) -> Decision:
    """Write everything the run leaves behind, release the model if it passed, and close the run.

    `require_wanted` is asked at the last moment before anything changes for others.
    """
    bindings: Bindings = run.write_evidence(result)
    decision = decide(result.scores, result.spec.promotion, bindings, result.realignment)
    decision = decision.model_copy(update={"next_action": run.fill_in(decision.next_action)})
    run.write_decision(decision)
    run.write_increment(result, decision)
    run.write_report(result, decision)
    require_wanted()
    run.release(decision)
    run.close()
    return decision


def assemble(spec: RunSpec, suites: list[Suite], steps: dict[Who, Any], tokenized: Tokenized) -> Scores:
    """Put the scores of all models side by side, item by item."""
    if spec.objective.new_head and tokenized.labels is not None:
        return assemble_head_scores(suites, steps, spec.objective, tokenized.labels)
    return assemble_scores(suites, steps, tokenized.special.vocab_size)


def _score_before(
    spec: RunSpec,
    state: Path,
    champion: Path | None,
    base: BaseModel,
    tokenized: Tokenized,
    suites: list[Suite],
    call: Call,
    watch: Watch,
) -> dict[Who, Any]:
    before: dict[Who, Any] = {}
    labels = tokenized.labels
    if labels is None or knows_labels(base.folder, spec.head_kind, labels.names):
        before["base"] = call(score_model, state, spec, suites, base.folder, on_progress=watch.scored)
    if spec.increment is not None and spec.base_from is not None:
        # losses must not add up over increments: the model they all began with is scored too
        before["champion"] = before["base"]
        original = find_model(spec.increment.original)
        before["base"] = call(score_model, state, spec, suites, original, on_progress=watch.scored)
    elif champion is not None and spec.base_from is None:
        before["champion"] = call(score_model, state, spec, suites, champion, on_progress=watch.scored)
    return before


def without_past(scores: Scores, spec: RunSpec) -> Scores:
    """The scores without the suites of earlier increments: of those the original base need not know anything."""
    past = spec.increment.suites if spec.increment else ()
    return scores.model_copy(update={"suites": tuple(s for s in scores.suites if s.name not in past)})
