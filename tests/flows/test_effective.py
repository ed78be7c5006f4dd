"""One specification a run: what Rootstock works out is put in once, and every command follows the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.comparing.cells import run_processes
from flows.growing.effective import effective, laid_out, with_ratio
from flows.growing.reference import alone_spec
from flows.progress.watch import Silent
from flows.replay.realign import worth_asking
from schemas.results.artifacts import RuleOutcome
from schemas.results.replay_choice import ReplayChoice
from schemas.results.watermark import Watermark
from schemas.spec.increments import Increment, PickedSource
from schemas.spec.run import RunSpec
from tasks.data.prepare import read_sources
from tasks.release.increments.resolve import resolve
from tasks.release.run.run_folder import RunFolder
from tests.corpora import make_spec, source, write_rows
from tests.in_process import rootstock_here
from tests.tiny_base import make_base, prose

WRITES = {"kind": "self_replay", "tokens": 1500, "max_new_tokens": 30, "min_tokens": 8}
BASE = Path(__file__).parents[2] / "assets" / "base"
MEASURES = {"kind": "ewc", "general_tokens": 200}
PROXIES = {"ratios": [0, 0.2, 0.4, 0.5], "further_ratios": [], "lengths": [0.5, 1.0]}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No file of general text to replay: the base writes its own."""
    folder = tmp_path_factory.mktemp("effective")
    write_rows(folder / "domain.jsonl", [line[:150] for line in prose("en_*")])
    write_rows(folder / "general.jsonl", [line[i : i + 60] for line in prose("zh_*") for i in (0, 60, 120)])
    return folder


def spec_of(files: Path, **changes: Any) -> RunSpec:
    values: dict[str, Any] = {
        "base": str(BASE),
        "domain": [source("domain.jsonl")],
        "evaluation": {"domain_holdout": 0.2, "general": [source("general.jsonl")], "max_tokens": 2000},
        "mixture": {"replay_ratio": 0.25},
        "method": {"kind": "lora", "r": 2},
        "training": {"steps": 4, "learning_rate": 1e-3},
        "promotion": {"max_forgetting": 9.0},
        "remedies": [WRITES, MEASURES],
    }
    return make_spec(**values | changes)


def write_spec(files: Path, name: str, **changes: Any) -> str:
    text = spec_of(files, name=name, **changes).model_dump_json(exclude_unset=True)
    (files / f"{name}.yaml").write_text(text)
    return f"{name}.yaml"


def follow(files: Path, name: str, **changes: Any) -> tuple[str, Path]:
    """Run a specification to its verdict; its file, and the run's folder."""
    file = write_spec(files, name, **changes)
    done = rootstock_here("run", file, "--no-prefect", cwd=files)
    assert done.code in (0, 10, 11), done.err
    [run] = (files / ".rootstock" / "runs").glob(f"{name}-*")
    return file, run


def facts_of(files: Path, run: Path, step: str) -> dict[str, Any]:
    key = json.loads((run / "lineage.json").read_bytes())["steps"][step]
    manifest = files / ".rootstock" / "data" / f"{step}-{key[:20]}" / "manifest.json"
    facts: dict[str, Any] = json.loads(manifest.read_bytes())["facts"]
    return facts


@pytest.mark.slow
def test_every_command_follows_a_specification_whose_base_writes_its_own_replay(files: Path) -> None:
    file, run = follow(files, "own")
    facts = facts_of(files, run, "train")["remedies"]
    [text] = [f for f in json.loads((run / "ledger.json").read_bytes())["files"] if f["role"] == "replay"]
    assert facts["self_replay"]["kept"] == text["read"] > 0
    lineage = json.loads((run / "lineage.json").read_bytes())
    assert text["file"] in lineage["data"], "the decision is bound to the text that the base wrote"
    assert "general_text.odcs.yaml" in lineage["contracts"]
    assert text["file"] in (run / "report.html").read_text(encoding="utf-8"), (
        "the report shows what was followed"
    )
    assert text["file"] not in (run / "spec.yaml").read_text(encoding="utf-8"), "this is what was asked"

    steps = sorted((files / ".rootstock" / "data").iterdir())
    again = rootstock_here("run", file, "--no-prefect", cwd=files)
    assert again.out.startswith("nothing to do"), again.err
    planned = rootstock_here("plan", file, "--json", cwd=files)
    assert planned.code == 0, planned.err
    assert json.loads(planned.out)["run"] == run.name
    assert json.loads(planned.out)["replay tokens"] == facts_of(files, run, "plan")["report"]["replay_tokens"]
    scored = rootstock_here("evaluate", run.name, file, "--json", cwd=files)
    assert scored.code == 0, scored.err
    assert sorted((files / ".rootstock" / "data").iterdir()) == steps, (
        "all of it was there: they are the same steps"
    )
    own = {
        suite["name"]: len(suite["items"])
        for suite in json.loads((run / "scores.json").read_bytes())["suites"]
    }
    assert {row["suite"]: row["documents"] for row in json.loads(scored.out)} == own
    left = rootstock_here("export", run.name, "--merge", "--to", "out", cwd=files)
    assert left.code == 0, left.err
    assert "on the 2 suites of its run the largest difference" in left.out
    twin = shutil.copytree(run / "model", files / "twin")
    (weights,) = twin.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-4] ^= 1  # the least bit of a number: another model, hardly
    weights.write_bytes(content)
    both = [
        "combine",
        run.name,
        str(twin),
        "--to",
        "both",
        "--spec",
        file,
        "--json",
    ]
    combined = rootstock_here(*both, cwd=files)
    assert combined.code == 0, combined.err
    assert [row["model"] for row in json.loads(combined.out)["scores"]][-1] == "combination"
    told = rootstock_here("trace", f"{text['file']}:1", "--json", cwd=files)
    assert [row["fate"] for row in json.loads(told.out)] == ["accepted"], told.err


@pytest.mark.slow
def test_a_budget_is_kept_on_text_that_the_base_writes(files: Path) -> None:
    budget = {"forgetting_budget": 5.0, "proxies": PROXIES}
    training = {"steps": 8, "learning_rate": 3e-3}
    file, run = follow(files, "budget", mixture=budget, training=training)
    choice = ReplayChoice.model_validate_json((run / "replay_choice.json").read_bytes())
    assert facts_of(files, run, "plan")["report"]["requested_ratio"] == choice.replay_ratio
    written = list((files / ".rootstock" / "data").glob("self-replay-*"))
    assert len(written) == 1, "proxies have other seeds, and train on the run's own text"
    for command in (["plan", file], ["evaluate", run.name, file], ["choose-replay", file]):
        done = rootstock_here(*command, cwd=files)
        assert done.code == 0, (command, done.err)
    left = rootstock_here("export", run.name, "--merge", "--to", "out-budget", cwd=files)
    assert "on the 2 suites of its run" in left.out, left.err
    assert list((files / ".rootstock" / "data").glob("self-replay-*")) == written


@pytest.mark.slow
def test_a_cell_of_a_comparison_trains_with_text_that_the_base_writes(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    state = Path(".rootstock")
    [trained] = run_processes(1, print)([("own", spec_of(files, name="cell"))], state, state / "compare")
    assert trained.scores is not None
    assert trained.replay_tokens > 0


def test_it_is_made_once_and_nothing_is_taken_out(files: Path, tmp_path: Path) -> None:
    asked = spec_of(files, mixture={"forgetting_budget": 5.0})
    spec = effective(asked, tmp_path, None, Silent())
    assert spec.own_text is not None
    assert spec.own_text.kept == len(Path(spec.own_text.path).read_text(encoding="utf-8").splitlines())
    assert effective(spec, tmp_path, None, Silent()) is spec
    laid = with_ratio(spec, 0.4)
    assert (laid.mixture.replay_ratio, laid.mixture.forgetting_budget) == (0.4, 5.0)
    assert laid_out(laid) is laid
    assert laid_out(spec).mixture.replay_ratio == 0
    failed = RuleOutcome(
        rule="forgetting", suite="general", against="base", estimate=1, low=1, high=1, threshold=0, outcome="fail",
        reason="", clusters=9,
    )  # fmt: skip
    assert worth_asking(spec, [failed]), "the probe has this text too"
    with pytest.raises(AssertionError, match="not the effective specification"):
        read_sources(asked)


def test_a_model_that_learns_an_increment_alone_has_text_of_its_own_base(files: Path, tmp_path: Path) -> None:
    spec = effective(spec_of(files), tmp_path, None, Silent())
    new = (PickedSource(path="domain.jsonl", contract="domain_text", files=("domain.jsonl",)),)
    increment = Increment(
        number=2, original=str(make_base(tmp_path / "original", seed=4)), parent="run", new=new
    )
    alone = alone_spec(spec.model_copy(update={"increment": increment}))
    assert alone.own_text is None
    text = effective(alone, tmp_path, None, Silent()).own_text
    assert text is not None
    assert spec.own_text is not None
    assert text.path != spec.own_text.path


def test_a_first_increment_keeps_its_ratio_where_the_base_writes_its_replay(files: Path) -> None:
    spec = spec_of(files, increments={}, mixture={"replay_ratio": 0.3}, remedies=[WRITES])
    due = resolve(spec, Watermark(name="test"), None, [{"domain.jsonl": "0"}])
    assert due.mixture.replay_ratio == 0.3


def test_the_contract_of_the_text_names_the_run_and_one_that_is_not_there_is_refused(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    contract = tmp_path / "own.odcs.yaml"
    told = (Path(__file__).parents[2] / "data_contracts" / "general_text.odcs.yaml").read_text()
    remedy = {**WRITES, "contract": str(contract)}
    names = []
    for text in (told, told + "# another byte\n"):
        contract.write_text(text)
        names.append(RunFolder.open(tmp_path / "state", spec_of(files, remedies=[remedy])).id)
    assert names[0] != names[1]
    file = write_spec(files, "missing", remedies=[{**WRITES, "contract": "nosuch"}])
    done = rootstock_here("run", file, cwd=files)
    assert done.code == 2
    assert "there is no contract 'nosuch'" in done.err


def test_a_file_that_appears_while_a_run_reads_is_named_and_no_defect(files: Path, tmp_path: Path) -> None:
    from schemas.errors import UserError
    from tests.corpora import prepare_rows

    write_rows(tmp_path / "new" / "a.jsonl", ["one two three", "four five six"] * 5)
    spec = spec_of(
        files, domain=[source(tmp_path / "new" / "*.jsonl")], remedies=[],
        mixture={"replay_ratio": 0}, evaluation={"domain_holdout": 0.2, "general": [source(files / "general.jsonl")]},
    )  # fmt: skip
    run = RunFolder.open(tmp_path / "state", spec)
    write_rows(tmp_path / "new" / "b.jsonl", ["seven eight nine"] * 5)
    with pytest.raises(UserError) as error:
        run.write_data(prepare_rows(tmp_path / "state", spec))
    assert error.value.where.endswith("b.jsonl")


def test_text_that_the_base_writes_is_weighed_against_a_file_by_their_sizes(files: Path) -> None:
    mixture = {"replay_ratio": 0.3, "temperature": 2.0}
    spec_of(files, replay=[source("general.jsonl")], mixture=mixture, remedies=[WRITES])
    with pytest.raises(ValueError, match="name two or more"):
        spec_of(files, mixture=mixture, remedies=[WRITES])
