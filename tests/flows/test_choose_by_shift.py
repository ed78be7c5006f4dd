"""A ratio chosen by the measured shift on the bundled base: nothing is trained for it, and what is unlike is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.choose_replay import choose_ratio, with_budget
from flows.journey import follow
from flows.plan import make_plan
from flows.shift_prior import facts_of_run, refuse_far, refuse_uncalibrated
from flows.watch import Silent
from schemas.errors import ExitCode, UserErrors
from schemas.replay_choice import ReplayChoice
from schemas.run import RunSpec
from tasks.data.prepare import prepare
from tasks.evaluation.items import Suite
from tasks.evaluation.shift import Shift
from tasks.evaluation.shift_prior import load_calibration
from tasks.training.models.base_model import provide_base
from tests.command_line import ROOT, rootstock
from tests.corpora import make_spec, source, write_rows
from tests.counted_calls import Calls
from tests.tiny_base import prose

INSIDE = {"learning_rate": 5e-4, "domain_tokens": 8000, "batch_tokens": 512, "parameters": 1_762_944}
FIX = "choose by proxies, which measure: mixture.choose_by: proxies, or --by proxies"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shift")
    shutil.copytree(ROOT / "assets" / "base", folder / "base")
    english = [line[start : start + 300] for line in prose("en_*") for start in range(0, len(line), 300)]
    write_rows(folder / "domain.jsonl", [line.upper() for line in english[:150]])
    write_rows(folder / "replay.jsonl", english[150:250])
    write_rows(folder / "general.jsonl", english[250:330])
    return folder


def spec_of(files: Path | None = None, **changes: Any) -> RunSpec:
    files = files or Path("there")
    values: dict[str, Any] = {
        "base": str(files / "base"),
        "domain": [source(files / "domain.jsonl")],
        "replay": [source(files / "replay.jsonl")],
        "evaluation": {
            "domain_holdout": 0.2,
            "general": [source(files / "general.jsonl")],
            "max_tokens": 3000,
        },
        "mixture": {"forgetting_budget": 5.0, "choose_by": "shift"},
        "promotion": {"max_forgetting": 9.0},
        "training": {"tokens": 7000, "sequence_length": 128, "batch_tokens": 512, "learning_rate": 5e-4},
        **changes,
    }
    return make_spec(**values)


def refused(spec: RunSpec, **facts: float) -> list[tuple[str, str, str]]:
    """What, where and fix of everything that the prior refuses of a run."""
    with pytest.raises(UserErrors) as caught:
        refuse_uncalibrated(spec, {**INSIDE, **facts}, load_calibration())
    assert caught.value.exit_code == ExitCode.BAD_SPECIFICATION
    return [(error.what, error.where, error.fix) for error in caught.value.errors]


def test_a_run_like_those_that_were_calibrated_on_is_not_refused():
    refuse_uncalibrated(spec_of(), INSIDE, load_calibration())


@pytest.mark.parametrize(
    ("fact", "where"),
    [
        ("learning_rate", "training.learning_rate"),
        ("domain_tokens", "training"),
        ("batch_tokens", "training.batch_tokens"),
        ("parameters", "base"),
    ],
)
@pytest.mark.parametrize("factor", [0.99, 1.01], ids=["below", "above"])
def test_what_lies_just_outside_of_the_calibration_is_refused_with_its_range(fact, where, factor):
    known = load_calibration().ranges[fact]
    edge = known.low if factor < 1 else known.high
    refuse_uncalibrated(spec_of(), {**INSIDE, fact: edge}, load_calibration())
    ((what, told, fix),) = refused(spec_of(), **{fact: factor * edge})
    assert (
        f"{factor * edge:,.4g}; the prior of the shift was calibrated from {known.low:,.4g} to {known.high:,.4g}"
        in what
    )
    assert (told, fix) == (where, FIX)


@pytest.mark.parametrize(
    ("changes", "what", "where"),
    [
        ({"method": {"kind": "lora", "r": 2, "alpha": 4}}, "method 'lora'", "method.kind"),
        ({"remedies": [{"kind": "ema"}]}, "remedies", "remedies"),
        ({"increments": {}}, "increments", "increments"),
        ({"base": None, "base_from": "champion"}, "a base that was tuned before", "base_from"),
        (
            {"mixture": {"forgetting_budget": 5.0, "choose_by": "shift", "importance": "towards_domain"}},
            "replay chosen by importance",
            "mixture.importance",
        ),
    ],
)
def test_what_the_calibration_never_trained_with_is_refused(changes, what, where):
    assert refused(spec_of(**changes)) == [
        (f"the prior of the shift was not calibrated with {what}", where, FIX)
    ]


def test_everything_that_is_unlike_is_told_at_once():
    method = {"kind": "lora", "r": 2, "alpha": 4}
    assert [where for _, where, _ in refused(spec_of(method=method), domain_tokens=9e9)] == [
        "method.kind",
        "training",
    ]


def test_a_shift_beyond_those_that_were_calibrated_on_is_refused():
    ranges = load_calibration().ranges
    suite = Suite("old", "general", (), "key")
    inside = Shift(ranges["loss_gap"].high, ranges["divergence"].low)
    refuse_far([(suite, inside)], load_calibration())
    with pytest.raises(UserErrors) as caught:
        refuse_far([(suite, Shift(inside.loss_gap + 0.1, 0.0))], load_calibration())
    assert [error.where for error in caught.value.errors] == ["domain, suite 'old'"] * 2
    assert "loss on the domain minus that on the suite is" in caught.value.errors[0].what
    assert caught.value.errors[0].fix == FIX


def test_the_mean_rate_counts_not_the_peak():
    half = facts_of_run(
        spec_of(training={"tokens": 51200, "batch_tokens": 512, "learning_rate": 1e-3}), (5, 51200), 1
    )
    assert half["learning_rate"] == pytest.approx(5e-4, rel=0.1), "a cosine's mean is half of its peak"


@pytest.mark.slow
def test_nothing_is_trained_and_the_choice_says_what_it_rests_on(files, tmp_path):
    spec, call = spec_of(files), Calls()
    prepared = prepare(tmp_path, spec)
    base = provide_base(tmp_path, spec, prepared, None)
    choice = choose_ratio(spec, tmp_path, prepared, base, Silent(), call)
    assert call.seen["train"] == 0
    assert call.seen["score_model"] == 2
    assert (choice.by, choice.curves, choice.calibration) == ("shift", (), load_calibration())
    (curve,) = choice.shift_curves
    assert curve.loss_gap > 0.5, "capitals are new to the base"
    assert curve.divergence > 0.1
    assert all(point.low <= point.estimate < point.high for point in curve.band)
    none = choose_ratio(with_budget(spec, 1e-6), tmp_path, prepared, base, Silent(), call)
    assert none.replay_ratio is None
    ratios = [
        choose_ratio(with_budget(spec, budget), tmp_path, prepared, base, Silent(), call).replay_ratio
        for budget in (curve.band[-1].high, curve.band[20].high, curve.band[0].high)
    ]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == 0


@pytest.mark.slow
def test_the_command_chooses_by_shift_only_where_it_is_asked_to(files, tmp_path):
    mixture = {"forgetting_budget": 5.0}
    file = tmp_path / "spec.yaml"
    file.write_text(json.dumps(spec_of(files, mixture=mixture).model_dump(mode="json", exclude_none=True)))
    state = ("--state", str(tmp_path / "state"))
    done = rootstock("choose-replay", str(file), "--by", "shift", *state, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "This is an experimental prior, not measured on this base" in done.out
    assert done.out.splitlines()[-1].startswith("replay ratio: ")
    assert not list((tmp_path / "state").glob("data/train-*"))
    (page,) = (tmp_path / "state").glob("choices/*/index.html")
    assert "Nothing was trained to draw this" in page.read_text()
    unlike = rootstock(
        "choose-replay",
        str(file),
        "--by",
        "shift",
        "--set",
        "training.learning_rate=0.1",
        *state,
        cwd=tmp_path,
    )
    assert unlike.code == 2
    assert "the mean learning rate over the schedule is" in unlike.err
    assert FIX in unlike.err


@pytest.mark.slow
def test_a_run_that_asks_for_the_shift_trains_once_and_records_the_prior(files, tmp_path):
    spec, call = spec_of(files), Calls()
    facts = make_plan(spec, tmp_path, Silent())
    assert facts["shift prior"].startswith(
        "no trainings: the base scores at most 20,000 tokens of the domain"
    )
    assert "proxies" not in facts
    outcome = follow(spec, tmp_path, Silent(), call)
    assert call.seen["train"] == 1
    choice = ReplayChoice.model_validate_json((outcome.folder / "replay_choice.json").read_bytes())
    assert choice.by == "shift"
    assert choice.calibration == load_calibration()
    assert choice.replay_ratio is not None
    assert "choose_by: shift" in (outcome.folder / "spec.yaml").read_text()
    assert "not measured on this base" in (outcome.folder / "report.html").read_text()
