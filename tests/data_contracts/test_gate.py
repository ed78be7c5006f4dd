import gc
import itertools
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data_contracts import gate
from data_contracts.contract import Contract, load_contract
from data_contracts.expectations import expectation
from data_contracts.gate import breaks_at_most, gate_parquets, gate_shard, gate_shards, join_small, merge
from schemas.errors import UserError
from schemas.results.artifacts import GateReport, RuleResult

CLEAN = (
    "The root takes up water and the leaf gives it back.",
    "根吸水，叶还水；一年又一年。",
    "Ça pousse — très bien.",
)
BAD = ("\ufffd\ufffdle texte", "abc\x1bdef", "version https://git-lfs.github.com/spec/v1", "<html><body>x", "http://a.b/c", "", None)  # fmt: skip


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract("domain_text")


def frame_of(texts: list[str | None], file: str = "a.jsonl", first_line: int = 1) -> pd.DataFrame:
    lines = range(first_line, first_line + len(texts))
    return pd.DataFrame({"file": file, "line": list(lines), "text": pd.Series(texts, dtype="str")})


def expectations_of(contract: Contract) -> list[dict[str, Any]]:
    return [expectation(rule) for rule in contract.rules]


def report_of(contract: Contract, texts: list[str | None]) -> GateReport:
    return merge(contract, "data", [gate_shard(contract, frame_of(texts))])


def rule_of(report: GateReport, rule: str) -> RuleResult:
    return next(result for result in report.rules if result.rule == rule)


def random_frame(seed: int, num_rows: int) -> pd.DataFrame:
    draw = random.Random(seed)
    bad_ratio = draw.choice([0.0, 0.004, 0.05, 0.6])
    texts = [draw.choice(BAD if draw.random() < bad_ratio else CLEAN) for _ in range(num_rows)]
    frame = frame_of(texts)
    frame["file"] = [f"{'ab'[row * 2 // max(1, num_rows)]}.txt" for row in range(num_rows)]
    return frame


@pytest.mark.parametrize("seed", range(6))
def test_gating_seven_uneven_shards_and_merging_equals_gating_once(contract: Contract, seed: int) -> None:
    frame = random_frame(seed, num_rows=random.Random(seed).choice([0, 12, 19, 20, 400, 900]))
    draw = random.Random(seed + 100)
    cuts = [0, *sorted(draw.randint(0, len(frame)) for _ in range(6)), len(frame)]
    shards = [frame.iloc[a:b] for a, b in itertools.pairwise(cuts)]

    merged = merge(contract, "data", [gate_shard(contract, shard) for shard in shards])

    assert len(shards) == 7
    assert merged == merge(contract, "data", [gate_shard(contract, frame)])


@pytest.mark.parametrize("seed", [1, 4])
def test_merged_verdicts_are_those_of_great_expectations_on_the_whole_frame(
    contract: Contract, seed: int
) -> None:
    import great_expectations as gx

    frame = random_frame(seed, num_rows=500)
    halves = [gate_shard(contract, frame.iloc[:123]), gate_shard(contract, frame.iloc[123:])]
    merged = {rule.rule: rule.success for rule in merge(contract, "data", halves).rules}

    asset = gx.get_context(mode="ephemeral").data_sources.add_pandas("p").add_dataframe_asset("a")
    batch = asset.add_batch_definition_whole_dataframe("b").get_batch({"dataframe": frame})
    found = batch.validate(gx.ExpectationSuite(name="s", expectations=expectations_of(contract)))

    assert merged == {result.expectation_config.meta["rule"]: result.success for result in found.results}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("text_decoded", "caf\ufffd is a drink"),
        ("text_no_control", "red \x1b[31m text"),
        ("text_no_control", "don\x92t, says cp1252"),
        ("text_not_lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00"),
        ("text_not_html", "<!DOCTYPE HTML><title>x</title>"),
        ("text_not_html", "text <SCRIPT src=x>"),
        ("text_not_only_links", "https://a.example/b\n www.c.example/?d=e"),
        ("text_not_short", "p. 7"),
        ("text_not_huge", "x" * 1_000_001),
        ("text.required", None),
    ],
)
def test_a_bad_row_breaks_its_rule_and_is_named_by_its_place(
    contract: Contract, rule: str, text: str | None
) -> None:
    result = rule_of(report_of(contract, [CLEAN[0], text, CLEAN[1]]), rule)
    assert (result.unexpected, result.places, result.success) == (1, ("a.jsonl:2",), False)


@pytest.mark.parametrize("name", ["domain_text", "general_text"])
@pytest.mark.parametrize(
    "text",
    [
        "她说：好吧。",
        "https://a.example 是他们的主页。",
        "www.a.example为其主页",
        "How now, brown cow?",
        "a < b and <html5> is not a tag",
        "tab\tand\r\nnew line\fand page",
        "नमस्ते दुनिया",
        "مرحبا بالعالم",
        "def f(x):\n    return x",
        "🌱🌿🌳🌲🌴",
        "　　段首空格也是正文。",
    ],
)
def test_clean_text_of_any_script_breaks_no_rule_about_text(name: str, text: str) -> None:
    report = report_of(load_contract(name), [text] * 20)
    assert [rule.rule for rule in report.rules if not rule.success] == []


def test_a_ratio_is_met_exactly_at_its_bound(contract: Contract) -> None:
    at_bound = [*[CLEAN[0]] * 297, *["\ufffd is bad"] * 3]
    assert rule_of(report_of(contract, at_bound), "text_decoded").success
    assert not rule_of(report_of(contract, at_bound[1:]), "text_decoded").success


@pytest.mark.parametrize("allowed", [0.01, 0.07, 0.29, 0.3, 0.57, 0.58])
def test_a_ratio_is_read_as_the_decimal_it_is_written_as(allowed: float) -> None:
    at_bound = round(allowed * 100)
    assert breaks_at_most(at_bound, 100, allowed)
    assert not breaks_at_most(at_bound + 1, 100, allowed)


def test_a_missing_text_breaks_required_and_is_checked_by_no_other_rule(contract: Contract) -> None:
    report = report_of(contract, [CLEAN[0], None, "\ufffd is bad"])
    required, decoded = rule_of(report, "text.required"), rule_of(report, "text_decoded")
    assert (required.checked, required.unexpected) == (3, 1)
    assert (decoded.checked, decoded.unexpected) == (2, 1)


def test_a_row_count_is_decided_on_the_dataset_not_on_a_shard(contract: Contract) -> None:
    shards = [gate_shard(contract, frame_of([CLEAN[0]] * 10)) for _ in range(2)]
    assert merge(contract, "data", shards).passed
    alone = merge(contract, "data", shards[:1])
    assert not alone.passed
    assert rule_of(alone, "rows_count").observed == 10


def test_a_broken_warning_does_not_fail_the_gate(contract: Contract) -> None:
    report = report_of(contract, [*[CLEAN[0]] * 20, *["https://a.example/b"] * 20])
    assert not rule_of(report, "text_not_only_links").success
    assert report.passed


def test_no_shard_at_all_is_zero_rows(contract: Contract) -> None:
    report = merge(contract, "data", [])
    assert (report.rows, report.passed) == (0, False)


def test_only_the_first_twenty_places_are_kept_in_reading_order(contract: Contract) -> None:
    shards = [gate_shard(contract, frame_of(["bad \ufffd"] * 15, file=f)) for f in ("b.txt", "a.txt")]
    places = rule_of(merge(contract, "data", shards), "text_decoded").places
    assert places == tuple([f"b.txt:{n}" for n in range(1, 16)] + [f"a.txt:{n}" for n in range(1, 6)])


def test_places_survive_a_frame_whose_index_is_not_a_range(contract: Contract) -> None:
    frame = frame_of([CLEAN[0], "bad \ufffd", CLEAN[0], None, "worse \ufffd"]).iloc[::-1]
    shard = merge(contract, "data", [gate_shard(contract, frame)])
    assert rule_of(shard, "text_decoded").places == ("a.jsonl:5", "a.jsonl:2")


def test_no_text_of_a_row_is_in_the_report(contract: Contract) -> None:
    secret = "patient-Zhang-4711"
    report = report_of(contract, [f"{secret} \ufffd \x1b <html>", secret[:3], None, f"http://{secret}"])
    assert sum(rule.unexpected for rule in report.rules) >= 5
    assert secret[:7] not in report.model_dump_json()


def test_every_rule_of_one_type_on_one_column_is_run(contract: Contract) -> None:
    shard = gate_shard(contract, frame_of([CLEAN[0]] * 3))
    assert [rule.rule for rule in shard.rules] == [rule.id for rule in contract.rules]


def test_a_part_is_gated_like_its_frame(contract: Contract, tmp_path: Path) -> None:
    frame = random_frame(3, 200).assign(group=None, digest=b"0" * 16)
    frame["file"] = frame["file"].astype("category")
    frame.to_parquet(tmp_path / "part.parquet")
    (gated,) = pickle.loads(pickle.dumps(gate_parquets))("domain_text", [tmp_path / "part.parquet"])
    assert gated == gate_shard(contract, frame)
    assert gated.rows == 200


@pytest.mark.parametrize(
    ("texts", "passes"),
    [
        ({}, 1),
        ({3: ["bad \ufffd", CLEAN[0]]}, 7),
        ({0: [None], 5: [CLEAN[0], None, "bad \ufffd" * 30]}, None),
    ],
)
def test_small_shards_gated_at_once_are_each_as_gated_alone(
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
    texts: dict[int, list[str | None]],
    passes: int | None,
) -> None:
    frames = [frame_of(texts.get(n, [CLEAN[0]] * (n + 1)), file=f"{n}.txt") for n in range(8)]
    alone = [gate_shard(contract, frame) for frame in frames]
    counted: list[int] = []
    real = gate._validate
    monkeypatch.setattr(gate, "_validate", lambda rules, rows: counted.append(len(rows)) or real(rules, rows))
    assert gate_shards(contract, frames) == alone
    assert passes in (None, len(counted))
    together = gate_shard(contract, gate._together(contract, frames))
    assert merge(contract, "data", [together]) == merge(contract, "data", alone)


def test_neighbours_are_joined_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "TOGETHER_BYTES", 10)
    sizes = [3, 7, 1, 40, 2, 2]
    assert [sizes[some] for some in join_small(sizes)] == [[3, 7], [1], [40], [2, 2]]
    assert list(join_small([])) == []


def test_a_column_the_data_does_not_have_is_all_missing(tmp_path: Path) -> None:
    file = tmp_path / "grouped.odcs.yaml"
    text = load_contract("domain_text").file.read_text()
    file.write_text(
        text.replace(
            "customProperties:",
            "      - {name: group, logicalType: string, required: true}\ncustomProperties:",
        )
    )
    grouped = load_contract(file)
    without, frame = frame_of([CLEAN[0]] * 20), frame_of([CLEAN[0]] * 20).assign(group="g")
    report = merge(grouped, "data", [gate_shard(grouped, without), gate_shard(grouped, frame)])
    assert rule_of(report, "group.required").unexpected == 20


def test_a_rule_that_cannot_run_is_an_error_not_a_pass(contract: Contract) -> None:
    broken = contract.rules[-1].model_copy(update={"kwargs": {"column": "text", "regex": "(?<=a)+*"}})
    with pytest.raises(UserError) as caught:
        gate_shard(contract.model_copy(update={"rules": (broken,)}), frame_of([CLEAN[0]]))
    assert caught.value.what == f"the rule '{broken.id}' cannot be evaluated on this data"
    assert caught.value.where == broken.place
    assert "kwargs" in caught.value.fix


def test_a_process_holds_at_most_one_shard(contract: Contract) -> None:
    for _ in range(3):
        gate_shard(contract, frame_of([CLEAN[0]] * 7919))
    gc.collect()
    assert sum(isinstance(thing, pd.DataFrame) and len(thing) == 7919 for thing in gc.get_objects()) <= 1


def test_a_contract_compiles_to_the_same_bytes_in_any_process(contract: Contract) -> None:
    code = "import json, data_contracts.contract as c, data_contracts.expectations as e; print(json.dumps([e.expectation(rule) for rule in c.load_contract('domain_text').rules]), end='')"  # fmt: skip
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "7"})  # fmt: skip
    assert other.stdout == json.dumps(expectations_of(contract))


def test_the_compiled_suite_loads_into_great_expectations(contract: Contract) -> None:
    import great_expectations as gx

    suite = gx.ExpectationSuite(name=contract.name, expectations=expectations_of(contract))
    assert len(suite.expectations) == len(contract.rules)
    assert {str(e.severity.value) for e in suite.expectations} == {"critical", "warning", "info"}
