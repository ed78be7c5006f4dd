"""The data stage as a whole: contracts and ledger before anything is trained."""

import pytest

from schemas.errors import ContractFailed
from tasks.data.prepare import prepare, tokenize
from tests.corpora import here, make_spec, source, write_rows
from tests.tiny_base import prose

pytestmark = pytest.mark.slow  # Great Expectations takes seconds to import


@pytest.fixture
def files(tmp_path):
    write_rows(tmp_path / "domain.jsonl", prose("en_*")[:60])
    write_rows(tmp_path / "replay.jsonl", prose("zh_*")[:30])
    write_rows(tmp_path / "general.jsonl", prose("zh_*")[30:45])
    return tmp_path


def spec_of(files, ratio: float, **keys):
    return make_spec(
        domain=[source(files / "domain.jsonl")],
        replay=[source(files / "replay.jsonl")],
        mixture={"replay_ratio": ratio},
        evaluation={"domain_holdout": 0.2, "general": [source(files / "general.jsonl")]},
        **keys,
    )


def test_the_stage_hands_over_gates_ledger_tokens_and_plan(files, tokenizer_folder, tmp_path):
    said: list[str] = []
    spec = spec_of(files, 0.3, training={"steps": 4})
    prepared = prepare(tmp_path / "s", spec, here, said.append)
    assert [(s.label, g.passed) for s, g in zip(prepared.sources, prepared.gates, strict=True)] == [
        ("domain-0", True), ("replay-0", True), ("general_suite-0", True)
    ]  # fmt: skip
    assert prepared.ledger.require_balance().total.read == 105
    tokenized = tokenize(tmp_path / "s", spec, prepared, tokenizer_folder, here, said.append)
    assert tokenized.steps.keys() == {"domain-0", "replay-0", "general_suite-0"}
    assert tokenized.mixture.steps == 4
    assert tokenized.tokens.replay_trained > 0
    assert len(tokenized.training_tokens(prepared)) == 2
    assert sum("kept" in line for line in said) == 3


def test_replay_is_left_out_at_ratio_0(files, tmp_path):
    prepared = prepare(tmp_path / "s", spec_of(files, 0.0), here)
    assert [s.label for s in prepared.sources] == ["domain-0", "general_suite-0"]


def test_a_broken_contract_stops_before_the_split(files, tmp_path):
    write_rows(files / "replay.jsonl", ["too short a file", "of two rows"])
    with pytest.raises(ContractFailed, match="rows_count"):
        prepare(tmp_path / "s", spec_of(files, 0.3), here)
    assert not list((tmp_path / "s/data").glob("divide-*"))
