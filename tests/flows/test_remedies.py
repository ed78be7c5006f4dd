"""A whole run with several remedies at once: from files to scores, without a file of general text to replay."""

from pathlib import Path

import pytest

from flows.growing.effective import effective
from flows.progress.watch import Silent
from flows.run.journey import measure
from tests.corpora import make_spec, source, write_rows
from tests.tiny_base import prose

REMEDIES = [
    {"kind": "self_replay", "tokens": 1500, "max_new_tokens": 30, "min_tokens": 8},
    {"kind": "ewc", "general_tokens": 300},
    {"kind": "distillation", "top_k": 4},
    {"kind": "ema", "decay": 0.5},
    {"kind": "weight_averaging", "points": 3, "development_tokens": 200},
]


@pytest.mark.slow
def test_remedies_compose_in_a_whole_run_and_the_same_run_is_there_already(tmp_path: Path) -> None:
    base = Path(__file__).parents[2] / "assets" / "base"
    write_rows(tmp_path / "domain.jsonl", [line[:200] for line in prose("en_*")])
    write_rows(tmp_path / "general.jsonl", [line[:200] for line in prose("zh_*")[:20]])
    asked = make_spec(
        base=str(base),
        domain=[source(tmp_path / "domain.jsonl")],
        mixture={"replay_ratio": 0.2},
        evaluation={"domain_holdout": 0.1, "general": [source(tmp_path / "general.jsonl")]},
        training={"steps": 3, "learning_rate": 1e-3},
        remedies=REMEDIES,
    )
    spec = effective(asked, tmp_path / "state", None, Silent())
    measured = measure(spec, tmp_path / "state", Silent())
    facts = measured.trained.facts["remedies"]
    assert list(facts) == [remedy["kind"] for remedy in REMEDIES]
    assert facts["self_replay"]["kept"] > 0
    assert measured.tokenized.mixture.achieved_ratio == pytest.approx(0.2, abs=0.01)
    (own,) = [file for file in measured.prepared.ledger.files if file.role == "replay"]
    assert own.read == facts["self_replay"]["kept"]
    assert facts["weight_averaging"]["alpha"] in (0.0, 0.5, 1.0)
    assert measured.scores.suites
    again = measure(spec, tmp_path / "state", Silent())
    assert again.trained.folder == measured.trained.folder
