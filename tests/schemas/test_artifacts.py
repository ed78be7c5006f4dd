"""What steps hand over cannot contradict itself."""

import math

import pytest
from pydantic import ValidationError

from schemas.errors import LedgerImbalance
from schemas.results.artifacts import (
    Bindings,
    Decision,
    FileLedger,
    ItemScore,
    Ledger,
    RuleOutcome,
    StepMetrics,
    SuiteScores,
)

PLACES = ("accepted", "quarantined", "duplicate", "leaked", "held_out")


def ledger(**counts) -> FileLedger:
    counts = {
        "read": 15,
        "accepted": 5,
        "quarantined": 4,
        "duplicate": 3,
        "leaked": 2,
        "held_out": 1,
    } | counts
    reasons = counts.pop("reasons", {"malformed_json": 3, "empty_text": 1})
    return FileLedger(file="a.jsonl", role="domain", source=0, reasons=reasons, **counts)


def test_a_ledger_in_which_every_row_has_one_place_balances():
    whole = Ledger(files=(ledger(), ledger()))
    assert whole.require_balance() is whole
    assert whole.total.read == whole.total.placed == 30
    assert whole.total.leaked == 4


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_row_lost_or_invented_in_any_place_is_an_imbalance(place, by):
    counts = {place: getattr(ledger(), place) + by}
    with pytest.raises(LedgerImbalance, match=r"a\.jsonl: read 15 rows but placed 1[46]"):
        Ledger(files=(ledger(), ledger(**counts))).require_balance()


def test_quarantined_rows_without_a_reason_are_an_imbalance():
    with pytest.raises(LedgerImbalance, match="4 quarantined"):
        Ledger(files=(ledger(reasons={"malformed_json": 3}),)).require_balance()


def rule(outcome: str) -> RuleOutcome:
    return RuleOutcome(
        rule="gain", suite="domain", against="base", estimate=0.1, low=0.0, high=0.2, threshold=0.02,
        outcome=outcome, reason="r", clusters=5,
    )  # fmt: skip


def decide(verdict: str, *outcomes: str) -> Decision:
    return Decision(
        verdict=verdict,
        sentence="s",
        rules=tuple(map(rule, outcomes)),
        next_action="n",
        bindings=Bindings(spec="a", data="b", scores="c", weights="d", base="e"),
    )


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (("pass", "pass"), "promote"),
        (("pass", "undecided"), "inconclusive"),
        (("undecided", "fail"), "reject"),
        (("fail", "pass"), "reject"),
    ],
)
def test_a_verdict_follows_from_the_rules_and_no_other_can_be_written(outcomes, verdict):
    assert decide(verdict, *outcomes).verdict == verdict
    for other in {"promote", "reject", "inconclusive"} - {verdict}:
        with pytest.raises(ValidationError, match="does not follow"):
            decide(other, *outcomes)


def test_a_suite_is_scored_per_token_not_per_document():
    items = (
        ItemScore(id="a:1", group="g", tokens=1, bytes=4, nats={"base": 5.0}),
        ItemScore(id="a:2", group="g", tokens=9, bytes=16, nats={"base": 9.0}),
    )
    suite = SuiteScores(name="s", kind="general", floor=3.0, items=items)
    assert suite.nats_per_token("base") == pytest.approx(1.4)
    assert suite.bits_per_byte("base") == pytest.approx(14 / math.log(2) / 20)


def test_metrics_that_are_not_finite_survive_their_file():
    line = StepMetrics(
        step=1, loss=math.inf, learning_rate=0.1, grad_norm=math.nan, tokens_per_second=1, peak_memory_bytes=1,
        seconds=1,
    )  # fmt: skip
    again = StepMetrics.model_validate_json(line.model_dump_json())
    assert again.loss == math.inf
    assert math.isnan(again.grad_norm)


def test_artifacts_know_all_their_keys():
    with pytest.raises(ValidationError, match="extra"):
        FileLedger.model_validate_json('{"file": "a", "role": "domain", "source": 0, "lost": 3}')
    assert Ledger.model_validate_json(Ledger(files=(ledger(),)).model_dump_json()) == Ledger(
        files=(ledger(),)
    )
