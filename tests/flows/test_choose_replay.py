"""A ratio chosen for a budget, end to end on the bundled tiny base: measured once, resumed after a kill, used by `run`."""

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save

from flows.choose_replay import choose_replay_flow
from flows.comparing.load import load_comparison
from flows.growing.effective import with_ratio
from flows.models.evaluate import evaluate_model
from flows.progress.watch import Silent
from flows.replay.choose_replay import choose_ratio, require_ratio, with_budget
from flows.replay.propose_replay import propose
from flows.replay.proxies import cost_of_proxies, lay_ground, list_proxies, proxy_spec
from flows.run.dry_run import make_plan
from flows.run.journey import follow
from schemas.errors import ExitCode, UserError
from schemas.results.replay_choice import ReplayChoice
from schemas.spec.mixture import Mixture
from schemas.spec.run import RunSpec
from tasks.data.prepare import prepare, tokenize
from tasks.evaluation.suites.build import build_development, build_suites
from tasks.training.models.base_model import provide_base
from tests.command_line import ROOT, rootstock
from tests.corpora import here, make_spec, source, write_rows
from tests.tiny import artifacts_of, ended
from tests.tiny_base import prose

pytestmark = pytest.mark.slow
RATIOS, LENGTHS = [0, 0.1, 0.3, 0.5], [0.25, 0.5]


class Calls:
    """Runs stages as plain functions, counts them, and dies before a training if it is told to."""

    def __init__(self, die_before_training: int | None = None) -> None:
        self.seen: Counter[str] = Counter()
        self.die = die_before_training

    def __call__(self, function: Any, *arguments: Any, **settings: Any) -> Any:
        self.seen[function.__name__] += 1
        if function.__name__ == "train" and self.seen["train"] == self.die:
            raise KeyboardInterrupt
        return function(*arguments, **settings)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choose")
    shutil.copytree(ROOT / "assets" / "base", folder / "base")
    write_rows(folder / "domain.jsonl", [line[:300] for line in prose("en_*")])
    chinese = "".join(prose("zh_*"))
    pieces = [chinese[start : start + 60] for start in range(0, len(chinese), 60)]
    write_rows(folder / "replay.jsonl", pieces[60:])
    write_rows(folder / "general.jsonl", pieces[:60])
    return folder


def spec_of(files: Path, **changes: Any) -> RunSpec:
    values: dict[str, Any] = {
        "base": str(files / "base"),
        "domain": [source(files / "domain.jsonl")],
        "replay": [source(files / "replay.jsonl")],
        "evaluation": {
            "domain_holdout": 0.2,
            "general": [source(files / "general.jsonl")],
            "max_tokens": 3000,
        },
        "mixture": {
            "forgetting_budget": 5.0,
            "proxies": {"ratios": RATIOS, "further_ratios": [], "lengths": LENGTHS},
        },
        "promotion": {"max_forgetting": 9.0},
        "training": {"steps": 8, "batch_tokens": 256, "learning_rate": 3e-3},
        **changes,
    }
    return make_spec(**values)


def choose(spec: RunSpec, state: Path, call: Calls) -> ReplayChoice:
    prepared = prepare(state, spec)
    return choose_ratio(spec, state, prepared, provide_base(state, spec, prepared, None), Silent(), call)


@pytest.fixture(scope="module")
def killed(files: Path) -> dict[Path, int]:
    """The state of a choice that died before its fourth training: folder of each training -> when it was written."""
    with pytest.raises(KeyboardInterrupt):
        choose(spec_of(files), files / "state", Calls(die_before_training=4))
    return {folder: folder.stat().st_mtime_ns for folder in (files / "state" / "data").glob("train-*")}


@pytest.fixture(scope="module")
def chosen(files: Path, killed: dict[Path, int]) -> tuple[RunSpec, Path, ReplayChoice, Calls]:
    """The choice that the same command then comes to."""
    spec, call = spec_of(files), Calls()
    return spec, files / "state", choose(spec, files / "state", call), call


def test_a_choice_that_was_killed_goes_on_with_what_it_had_trained(killed, chosen):
    _, state, _, _ = chosen
    assert len(killed) == 3
    assert {folder: folder.stat().st_mtime_ns for folder in killed} == killed
    assert len(list((state / "data").glob("train-*"))) == len(RATIOS) * len(LENGTHS)


def test_every_ratio_is_trained_at_every_length_of_domain_tokens_to_a_step_and_with_its_own_seed(chosen):
    spec, _, choice, call = chosen
    assert call.seen["train"] == len(RATIOS) * len(LENGTHS)
    (curve,) = choice.curves
    assert len(curve.points) == 8
    short, long = ([point.domain_tokens for point in curve.points[half]] for half in (slice(4), slice(4, 8)))
    for tokens in (short, long):  # the last step of each is filled
        assert max(tokens) - min(tokens) < spec.training.batch_tokens
    assert min(long) > max(short)
    for point, ratio in zip(curve.points, RATIOS * 2, strict=True):
        assert point.replay_ratio == pytest.approx(ratio, abs=1e-3)
        assert point.replay_tokens == pytest.approx(point.domain_tokens * ratio / (1 - ratio), abs=2)
    assert len({point.seed for point in curve.points} | {spec.training.seed}) == 9


def test_a_budget_above_all_forgetting_needs_no_replay_and_says_so(chosen):
    _, _, choice, _ = chosen
    assert choice.replay_ratio == 0
    assert choice.sentence.startswith("no replay is needed for a budget of 5")
    assert require_ratio(choice) == 0


def test_a_second_choice_trains_and_scores_nothing_also_for_another_budget(chosen):
    spec, state, choice, _ = chosen
    call = Calls()
    assert choose(spec, state, call) == choice
    other = choose(with_budget(spec, 4.0), state, call)
    assert call.seen["train"] == call.seen["score_model"] == 0
    assert other.curves == choice.curves
    assert other.budget == 4.0


def test_more_budget_never_chooses_more_replay(chosen):
    spec, state, choice, _ = chosen
    highs = [point.high for point in choice.curves[0].band]
    ratios = [
        choose(with_budget(spec, budget), state, Calls()).replay_ratio
        for budget in (highs[-1] + 1e-9, (highs[0] + highs[-1]) / 2, highs[0] + 1e-9)
    ]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == 0


def test_a_budget_that_no_ratio_keeps_is_refused_with_what_can_be_reached(chosen):
    spec, state, choice, _ = chosen
    least = choice.curves[0].band[-1].high
    refused = choose(with_budget(spec, max(least / 2, 1e-6)), state, Calls())
    assert refused.replay_ratio is None
    with pytest.raises(UserError) as error:
        require_ratio(refused)
    assert "no replay ratio up to 50% keeps forgetting within" in error.value.what
    assert f"bound {least:.3f}" in error.value.what
    assert "raise the budget above" in error.value.fix
    assert error.value.exit_code == ExitCode.BAD_SPECIFICATION


def test_higher_ratios_are_tried_only_while_the_budget_is_missed(chosen, files):
    spec, state, _, _ = chosen
    further = spec.mixture.proxies.model_copy(update={"further_ratios": (0.7,)})
    wider = spec.model_copy(update={"mixture": spec.mixture.model_copy(update={"proxies": further})})
    met, missed = Calls(), Calls()
    assert choose(wider, state, met).replay_ratio == 0
    assert met.seen["train"] == 0
    refused = choose(with_budget(wider, 1e-6), state, missed)
    assert missed.seen["train"] == 8 + 2, "of which eight are on disk already"
    assert refused.curves[0].band[-1].replay_ratio == 0.7


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"steps": 8, "batch_tokens": 256, "learning_rate": 4e-3}},
        {"training": {"steps": 8, "batch_tokens": 256, "learning_rate": 3e-3, "seed": 18}},
        {"method": {"kind": "lora", "r": 2, "alpha": 4}},
        {"domain_holdout": 0.3},
    ],
    ids=["learning rate", "seed", "method", "division"],
)
def test_what_decides_the_curve_is_in_its_name(chosen, files, change):
    spec, state, _, _ = chosen
    holdout = change.pop("domain_holdout", 0.2)
    evaluation = spec.model_dump(mode="json")["evaluation"] | {"domain_holdout": holdout}
    assert not is_known(spec_of(files, evaluation=evaluation, **change), state)


def is_known(spec: RunSpec, state: Path) -> bool:
    """Whether a choice finds its curve on the disk, so that it trains no proxy."""

    class Trains(Exception):
        pass

    def call(function: Any, *arguments: Any, **settings: Any) -> Any:
        if function.__name__ == "train":
            raise Trains
        return function(*arguments, **settings)

    try:
        choose(spec, state, call)  # type: ignore[arg-type]
    except Trains:
        return False
    return True


@contextlib.contextmanager
def changed(file: Path, content: bytes) -> Iterator[None]:
    """Another content under the same name, for a while."""
    before = file.read_bytes()
    assert before != content
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def test_the_weights_of_the_base_decide_the_curve_not_its_folders_name(chosen, files):
    spec, state, _, _ = chosen
    weights = files / "base" / "model.safetensors"
    tensors = load_file(weights)
    name = min(tensors)
    with changed(weights, save({**tensors, name: tensors[name] * 1.01}, metadata={"format": "pt"})):
        assert not is_known(spec, state)
    assert is_known(spec, state)


def test_the_text_of_the_domain_decides_the_curve_not_its_files_name_or_length(chosen, files):
    spec, state, _, _ = chosen
    file = files / "domain.jsonl"
    with changed(file, with_two_words_of_a_training_row_swapped(file, spec, state)):
        assert not is_known(spec, state)
    assert is_known(spec, state)


def with_two_words_of_a_training_row_swapped(file: Path, spec: RunSpec, state: Path) -> bytes:
    """The file with as many tokens to train on as before."""

    def whole() -> tuple[int, int]:
        prepared = prepare(state, spec)
        return lay_ground(
            spec, state, prepared, provide_base(state, spec, prepared, None), Calls(), here
        ).whole

    before = whole()
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines):
        words = json.loads(line)["text"].split(" ")
        words[2], words[3] = words[3], words[2]
        other = json.dumps({"text": " ".join(words)}, ensure_ascii=False) + "\n"
        text = "".join([*lines[:number], other, *lines[number + 1 :]]).encode()
        if other != line:
            with changed(file, text):
                if whole() == before:
                    return text
    raise AssertionError("no row could be changed")


def test_a_name_or_a_threshold_does_not_make_another_curve(chosen, files):
    _, state, choice, _ = chosen
    call = Calls()
    same = choose(
        spec_of(files, name="other", promotion={"max_forgetting": 8.0, "min_gain": 0.5}), state, call
    )
    assert same.curves == choice.curves
    assert call.seen["train"] == 0


def test_the_documents_of_the_choice_and_of_the_verdict_are_different(chosen):
    spec, state, _, _ = chosen
    prepared = prepare(state, spec)
    tokenized = tokenize(state, with_ratio(spec, 0.0), prepared, Path(spec.base))
    (development,) = build_development(spec, prepared, tokenized)
    verdict = next(s for s in build_suites(spec, prepared, tokenized) if s.kind == "general")
    without = spec.model_copy(update={"mixture": Mixture(replay_ratio=0.1)})
    whole = next(s for s in build_suites(without, prepared, tokenized) if s.kind == "general")
    apart = [{item.id for item in suite.items} for suite in (development, verdict)]
    assert not apart[0] & apart[1]
    assert len(apart[0]) >= 16
    assert {item.id for item in whole.items} >= apart[1]
    assert verdict.key != whole.key


def test_proxies_too_short_to_hold_replay_are_refused_before_anything_is_trained(files, tmp_path):
    proxies = {"ratios": [0, 0.001, 0.3, 0.5], "further_ratios": [], "lengths": LENGTHS}
    spec = spec_of(files, mixture={"forgetting_budget": 5.0, "proxies": proxies})
    call = Calls()
    with pytest.raises(UserError) as error:
        choose(spec, tmp_path, call)
    assert "are needed" in error.value.what
    assert error.value.where == "mixture.proxies"
    assert call.seen["train"] == 0


def test_a_proxy_is_the_run_only_shorter(chosen):
    spec, state, _, _ = chosen
    prepared = prepare(state, spec)
    ground = lay_ground(
        spec,
        state,
        prepared,
        provide_base(state, spec, prepared, None),
        Calls(),
        lambda f, i: [f(x) for x in i],
    )
    for proxy in list_proxies(ground, RATIOS):
        short = proxy_spec(spec, proxy)
        same = {"steps", "tokens", "seed"}
        assert short.training.model_dump(exclude=same) == spec.training.model_dump(exclude=same)
        assert short.model_dump(exclude={"training", "mixture"}) == spec.model_dump(
            exclude={"training", "mixture"}
        )
    assert ground.target_tokens([0, 0.5]).tolist() == [ground.whole[0], ground.whole[0] / 2], (
        "steps hold replay too"
    )
    assert "8 trainings" in cost_of_proxies(spec, ground.whole[0])


def test_a_comparison_with_a_budget_is_refused(files, tmp_path):
    (tmp_path / "spec.yaml").write_text(json.dumps(spec_of(files).model_dump(mode="json")))
    (tmp_path / "compare.yaml").write_text(
        json.dumps({
            "name": "small", "spec": str(tmp_path / "spec.yaml"), "methods": [{"kind": "full"}, {"kind": "lora"}],
            "learning_rates": [1e-3], "seeds": [1],
        })
    )  # fmt: skip
    with pytest.raises(UserError) as error:
        load_comparison(tmp_path / "compare.yaml")
    assert "trains every method on one mixture" in error.value.what


def test_a_run_with_a_budget_trains_at_the_chosen_ratio_and_shows_the_curve(chosen, files):
    spec, state, _, _ = chosen
    outcome = follow(spec, state, Silent())
    choice = ReplayChoice.model_validate_json((outcome.folder / "replay_choice.json").read_bytes())
    assert choice.replay_ratio == 0
    assert "forgetting_budget: 5" in (outcome.folder / "spec.yaml").read_text()
    assert "replay_ratio" not in (outcome.folder / "spec.yaml").read_text()
    report = (outcome.folder / "report.html").read_text()
    assert "Why this much replay" in report
    assert "chosen 0" in report
    assert "budget 5" in report
    scores = json.loads((outcome.folder / "scores.json").read_bytes())
    prepared = prepare(state, spec)
    tokenized = tokenize(state, with_ratio(spec, 0.0), prepared, Path(spec.base))
    (development,) = build_development(spec, prepared, tokenized)
    judged = {item["id"] for item in scores["suites"][1]["items"]}
    assert not judged & {item.id for item in development.items}
    assert not follow(spec, state, Silent()).fresh


def test_a_run_whose_budget_cannot_be_kept_stops_with_the_curve_in_its_folder(chosen):
    spec, state, _, _ = chosen
    with pytest.raises(UserError, match="no replay ratio up to"):
        follow(with_budget(spec, 1e-6), state, Silent())
    (file,) = [
        f
        for f in state.glob("runs/*/replay_choice.json")
        if '"budget": 1e-6' in f.read_text() or "1e-06" in f.read_text()
    ]
    assert ReplayChoice.model_validate_json(file.read_bytes()).replay_ratio is None
    assert not (file.parent / "decision.json").exists()


def test_the_chosen_ratio_is_the_one_that_is_laid_out(chosen, monkeypatch):
    spec, state, choice, _ = chosen
    highs = [point.high for point in choice.curves[0].band]
    budget = (highs[0] + highs[-1]) / 2
    outcome = follow(with_budget(spec, budget), state, Silent())
    chosen_now = ReplayChoice.model_validate_json((outcome.folder / "replay_choice.json").read_bytes())
    assert 0 < chosen_now.replay_ratio < 0.5
    plan = json.loads((outcome.folder / "lineage.json").read_bytes())["steps"]["plan"]
    report = json.loads((state / "data" / f"plan-{plan[:20]}" / "manifest.json").read_bytes())["facts"][
        "report"
    ]
    assert report["requested_ratio"] == chosen_now.replay_ratio
    assert report["achieved_ratio"] == pytest.approx(chosen_now.replay_ratio, abs=1e-3)


def test_a_model_can_be_scored_on_the_suites_of_a_specification_with_a_budget(chosen):
    spec, state, _, _ = chosen
    rows = evaluate_model(spec, state, spec.base, Silent())
    assert [row["kind"] for row in rows] == ["domain", "general"]


def test_the_verb_writes_the_choice_and_its_page(chosen):
    spec, state, choice, _ = chosen
    proposal = propose(spec, state, Silent(), Calls())
    assert proposal.choice == choice
    page = (proposal.folder / "index.html").read_text()
    assert "<svg" in page
    assert "://" not in page
    written = ReplayChoice.model_validate_json((proposal.folder / "replay_choice.json").read_bytes())
    assert written == choice


def test_the_command_prints_the_ratio_and_exits_2_if_there_is_none(chosen, files):
    spec, state, _, _ = chosen
    file = files / "spec.yaml"
    file.write_text(json.dumps(spec.model_dump(mode="json", exclude_none=True)))
    done = rootstock("choose-replay", str(file), "--state", str(state), cwd=files)
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "replay ratio: 0"
    as_json = rootstock("choose-replay", str(file), "--state", str(state), "--json", cwd=files).json()
    assert as_json["replay_ratio"] == 0
    none = rootstock("choose-replay", str(file), "--state", str(state), "--budget", "1e-6", cwd=files)
    assert none.code == 2
    assert "no replay ratio up to 50%" in none.err
    assert "error: " in none.err


def test_the_plan_tells_what_the_proxies_cost(chosen):
    spec, state, _, _ = chosen
    facts = make_plan(spec, state, Silent())
    assert facts["replay ratio"].startswith("chosen in the run, for a budget of 5")
    assert facts["proxies"].startswith("8 trainings of")


def test_the_flow_completes_with_the_choice_and_its_points_on_the_page(chosen, files, prefect_api):
    spec, state, choice, _ = chosen
    file = files / "flow.json"
    file.write_text(json.dumps(spec.model_dump(mode="json", exclude_none=True)))
    run = ended(choose_replay_flow(spec=str(file), state=str(state), return_state=True))
    assert run.state_type.value == "COMPLETED"
    assert run.state.message == choice.sentence
    assert artifacts_of(run.id)["test-replay"].data.count('"forgetting"') == 8
    refused = ended(choose_replay_flow(spec=str(file), state=str(state), budget=1e-6, return_state=True))
    assert refused.state_type.value == "FAILED"
    assert refused.state.message.startswith("no replay ratio up to 50%")
