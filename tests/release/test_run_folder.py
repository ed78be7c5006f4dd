"""The same run finds itself again, anything changed is another run, and what was promoted meanwhile does not matter."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_contracts.contract import load_contract
from schemas.errors import LedgerImbalance, UserError
from schemas.reading.yaml_reader import read_yaml
from schemas.results.artifacts import FileLedger, Ledger, Lineage, Manifest, Scores
from schemas.results.counts import Latency
from schemas.spec.run import RunSpec
from tasks.data.plan.plan import plan_training
from tasks.data.prepare import Prepared, Tokenized
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.release.promotion.promotion import promote
from tasks.release.run.run_folder import RunFolder, RunResult, dump_yaml
from tasks.storage.hashing import sha256_file
from tasks.storage.steps import Step
from tasks.training.models.base_model import BaseModel
from tests.corpora import here, make_spec, prepare_rows, source, write_rows
from tests.release.conftest import MakeRun, decision_of
from tests.tiny_base import TINY, prose


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a real tokenizer; nothing here looks into its weights."""
    from tasks.training.models.scratch import save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("base")
    save_tokenizer(train_tokenizer(lambda: iter(prose()[::3]), TINY), folder, TINY.context_length)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def spec(tmp_path: Path, base: Path) -> RunSpec:
    write_rows(tmp_path / "domain.jsonl", prose("en_*")[:40])
    write_rows(tmp_path / "general.jsonl", prose("zh_*")[:12])
    contract = shutil.copy(load_contract("general_text").file, tmp_path / "mine.odcs.yaml")
    return make_spec(
        name="medical",
        base=str(base),
        domain=[source(tmp_path / "domain.jsonl", contract=str(contract))],
        evaluation={"domain_holdout": 0.3, "general": [source(tmp_path / "general.jsonl")]},
        training={"steps": 2},
    )


def test_the_same_specification_and_data_are_the_same_run(state: Path, spec: RunSpec) -> None:
    assert RunFolder.open(state, spec) == RunFolder.open(state, RunSpec.model_validate(spec.model_dump()))
    assert RunFolder.open(state, spec).id.startswith("medical-")


def test_anything_changed_is_another_run(state: Path, spec: RunSpec, base: Path, tmp_path: Path) -> None:
    ids = [RunFolder.open(state, spec).id]
    ids.append(
        RunFolder.open(
            state, spec.model_copy(update={"method": spec.method.model_copy(update={"kind": "x"})})
        ).id
    )
    for name in ("domain.jsonl", "general.jsonl"):
        file = tmp_path / name
        file.write_text(
            file.read_text(encoding="utf-8").replace("。", "!", 1).replace(".", "!", 1), encoding="utf-8"
        )
        ids.append(RunFolder.open(state, spec).id)
    contract = tmp_path / "mine.odcs.yaml"
    contract.write_text(
        contract.read_text().replace("mustBeGreaterOrEqualTo: 10", "mustBeGreaterOrEqualTo: 11")
    )
    ids.append(RunFolder.open(state, spec).id)
    moved = shutil.copytree(base, tmp_path / "base")
    (moved / "model.safetensors").write_bytes(b"weightz")
    ids.append(RunFolder.open(state, spec.model_copy(update={"base": str(moved)})).id)
    assert len(set(ids)) == len(ids)


def test_base_from_champion_follows_the_champions_weights(
    state: Path, spec: RunSpec, make_run: MakeRun
) -> None:
    following = spec.model_copy(update={"base": None, "base_from": "champion"})
    with pytest.raises(UserError, match="there is no champion of 'medical' yet") as error:
        RunFolder.open(state, following)
    assert error.value.fix.startswith("start the first run with `base:")
    promote(state, make_run("first"))
    first = RunFolder.open(state, following).id
    assert RunFolder.open(state, following).id == first
    promote(state, make_run("second"))
    assert RunFolder.open(state, following).id != first


def test_the_specification_can_be_run_again_from_the_folder(state: Path, spec: RunSpec) -> None:
    run = RunFolder.open(state, spec)
    run.start()
    assert RunSpec.model_validate(read_yaml(run.folder / "spec.yaml").value) == spec


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1e3",
        "0x1",
        "2024-01-01",
        "null",
        "a: b",
        "#x",
        "",
        " x ",
        "中文",
        "line\nline",
        "'",
        '"',
        "~",
        "=",
        1e-5,
        0.1,
    ],
)
def test_yaml_written_is_yaml_read(value: object) -> None:
    from schemas.reading.yaml_reader import parse_yaml

    assert parse_yaml(dump_yaml({"a": value}), "s").value == {"a": value}


LATENCY = Latency(base=1.0, tuned=2.0, merged=None)


@pytest.fixture
def result(spec: RunSpec, state: Path, base: Path, tmp_path: Path) -> RunResult:
    """A run up to its evidence: the data stages are real, the trained model is a few files."""
    prepared = prepare_rows(state, spec)
    special = special_ids(base)
    steps = {s.label: tokenize_source(state, s, base, here) for s in prepared.sources}
    plan = plan_training(state, spec, prepared.training, [steps["domain-0"]], prepared.divided, special)
    folder = state / "data" / "train-made-up"
    shutil.copytree(base, folder / "model")
    (folder / "metrics.jsonl").write_text("")
    trained = Step(folder, Manifest(step="train", key="k", inputs={}, files=(), facts={}))
    tokenized = Tokenized(special, steps, plan)
    return RunResult(
        spec,
        prepared,
        tokenized,
        BaseModel(base, "b", "b"),
        trained,
        Scores(suites=()),
        LATENCY,
        None,
        {},
        "cpu",
    )


def test_the_evidence_is_whole_and_its_hashes_are_those_of_the_files(
    state: Path, spec: RunSpec, result: RunResult, base: Path, tmp_path: Path
) -> None:
    run = RunFolder.open(state, spec)
    run.start()
    run.write_data(result.prepared)
    assert json.loads((run.folder / "ledger.json").read_bytes())["tokens"] is None
    bindings = run.write_evidence(result)
    lineage = Lineage.model_validate_json((run.folder / "lineage.json").read_bytes())
    assert lineage.data == {
        str(tmp_path / n): sha256_file(tmp_path / n) for n in ("domain.jsonl", "general.jsonl")
    }
    assert bindings.spec == lineage.spec == sha256_file(run.folder / "spec.yaml")
    assert bindings.scores == sha256_file(run.folder / "scores.json")
    assert bindings.weights == bindings.base  # the made-up training left the base as it was
    assert lineage.steps["plan"] == result.tokenized.plan.key
    ledger = Ledger.model_validate_json((run.folder / "ledger.json").read_bytes())
    assert ledger.tokens == result.tokenized.tokens
    assert run.write_evidence(result) == bindings  # as after a kill


def test_a_file_edited_in_the_run_does_not_change_the_finished_step(
    state: Path, spec: RunSpec, result: RunResult
) -> None:
    run = RunFolder.open(state, spec)
    run.start()
    run.write_evidence(result)
    for file in (run.folder / "model").iterdir():
        with file.open("r+b") as out:
            out.write(b"X")
        assert (result.trained.folder / "model" / file.name).read_bytes()[:1] != b"X", file.name


def test_a_ledger_that_does_not_balance_stops_the_evidence(
    state: Path, spec: RunSpec, result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.open(state, spec)
    run.start()
    lost = Ledger(files=(FileLedger(file="f", role="domain", source=0, read=2, accepted=1),))
    monkeypatch.setattr(Prepared, "ledger", property(lambda self: lost))
    with pytest.raises(LedgerImbalance):
        run.write_evidence(result)
    assert not (run.folder / "lineage.json").exists()


RETURN_FINISHED = """
import sys
from pathlib import Path
from flows.run.journey import follow
from flows.progress.watch import Silent
from schemas.spec.run import RunSpec
spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
outcome = follow(spec, Path(sys.argv[2]), Silent())
heavy = {"torch", "transformers", "peft", "great_expectations", "prefect", "mlflow", "pandas"} & sys.modules.keys()
print(outcome.decision.verdict, outcome.fresh, sorted(heavy))
"""


def test_a_finished_run_is_returned_without_importing_anything_heavy(
    state: Path, spec: RunSpec, make_run: MakeRun, tmp_path: Path
) -> None:
    run = RunFolder.open(state, spec)
    assert run.finished() is None
    folder = make_run(run.id)
    (folder / "decision.json").write_text(decision_of(folder, "pass").model_dump_json())
    assert run.finished() is None, "a run without its last file is not finished"
    run.close()
    assert run.finished() is not None
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    said = subprocess.run(
        [sys.executable, "-c", RETURN_FINISHED, str(tmp_path / "spec.json"), str(state)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=True,
    )  # fmt: skip
    assert said.stdout == "promote False []\n"
