"""Increments from files to verdict, on the bundled base: each learns what is new, and a decision moves the watermark."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from data_contracts.contract import list_contracts
from flows.cli.main import app
from flows.cli.models import find_run_model
from flows.growing.due import due
from flows.progress.watch import Silent
from flows.run.journey import Outcome, follow
from schemas.errors import MachineFailed, NoNewData, UserError
from schemas.reading.load import load_spec
from schemas.reading.yaml_reader import read_yaml
from schemas.results.scores import Scores
from schemas.spec.run import RunSpec
from tasks.release.increments.watermark import load_watermark, scores_file, watermark_file
from tasks.release.promotion import promotion
from tasks.release.promotion.rebuild import repair
from tasks.release.registry import versions as registry
from tasks.release.run.run_folder import dump_yaml
from tests.corpora import here
from tests.tiny_base import prose

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TRADES = ("graft scion rootstock", "keel mast rudder", "ledger debit credit", "loom warp weft")


def rows(trade: str, number: int) -> list[str]:
    """Different sentences of one made-up trade."""
    a, b, c = trade.split()
    return [
        f"The {a} number {i} meets the {b} of house {i * 7 % 97} while the {c} waits for hour {i * 3 % 23}."
        for i in range(number)
    ]


def write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def growing(folder: Path, **keys: Any) -> RunSpec:
    write(folder / "general.txt", prose("en_nature*")[:60])
    return RunSpec.model_validate(
        {
            "name": "trades",
            "base": str(ROOT / "assets" / "base"),
            "domain": [{"path": str(folder / "new" / "*.txt"), "contract": "general_text"}],
            "replay": [
                {"path": str(ROOT / "assets/general/replay/en_letters.txt"), "contract": "general_text"}
            ],
            "mixture": {"replay_ratio": 0.4},
            "training": {"steps": 6, "sequence_length": 64, "batch_tokens": 512, "learning_rate": 2e-3},
            "evaluation": {
                "domain_holdout": 0.2,
                "general": [{"path": str(folder / "general.txt"), "contract": "general_text"}],
                "max_tokens": 1500,
            },
            "promotion": {"min_gain": 0, "max_forgetting": 5},
            "increments": {},
            **keys,
        }
    )


def once(spec: RunSpec, state: Path) -> Outcome:
    with due(spec, state) as now:
        return follow(now, state, Silent(), map_shards=here)


@dataclass(frozen=True)
class Grown:
    """Three increments: the third is one file more, and twenty lines more in the first file."""

    folder: Path
    outcomes: list[Outcome]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def rules(self, number: int) -> set[tuple[str, str, str]]:
        decision = self.outcomes[number - 1].decision
        return {(rule.rule, rule.suite, rule.against) for rule in decision.rules}

    def read(self, number: int, file: str) -> Any:
        return json.loads((self.outcomes[number - 1].folder / file).read_bytes())


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    folder = tmp_path_factory.mktemp("increments")
    spec = growing(folder)
    outcomes = []
    for number in range(3):
        write(folder / "new" / f"{number}.txt", rows(TRADES[number], 80))
        if number == 2:
            write(folder / "new" / "0.txt", rows(TRADES[0], 100))
        outcomes.append(once(spec, folder / "state"))
    return Grown(folder, outcomes)


@pytest.fixture
def copied(grown: Grown, tmp_path: Path) -> Path:
    """The state after the three increments, for a test that changes it."""
    return Path(shutil.copytree(grown.state, tmp_path / "state"))


def test_clean_frees_steps_and_what_is_in_use_works_on(grown: Grown, copied: Path) -> None:
    champion = registry.champion(copied, "trades")
    assert champion is not None
    data, options = copied / "data", ["--state", str(copied)]
    (data / ".train-0123.work" / "checkpoints").mkdir(parents=True)
    before = {folder.name for folder in data.iterdir()}

    def command(*arguments: str) -> Any:
        done = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
        assert done.exit_code == 0, done.stdout
        return done.stdout

    assert json.loads(command("clean", "--json"))[-1]["folders"] == 0, "all of it is recent"
    told = json.loads(command("clean", "--days", "0", "--json"))
    assert {folder.name for folder in data.iterdir()} == before, "only said"
    assert {"train", "score", "what was not finished"} <= {row["what"] for row in told}
    with running(copied), pytest.raises(UserError, match="a run is going on"):
        command("clean", "--days", "0", "--yes")
    assert json.loads(command("clean", "--days", "0", "--yes", "--json")) == told
    left = {folder.name for folder in data.iterdir()}
    assert len(before) - len(left) == told[-1]["folders"] > 5
    finished = json.loads((copied / "runs" / champion.run_id / "lineage.json").read_bytes())
    for name, key in finished["steps"].items():
        assert any(key[:20] in folder for folder in left), f"{name} of the champion stays"
    assert registry.champion(copied, "trades") == champion
    with pytest.raises(NoNewData):
        once(growing(grown.folder), copied)
    assert command("generate", "trades", "The graft", "--max-new-tokens", "4")
    assert command("export", "trades", "--to", str(copied / "out"))
    assert command("history", "trades", "--json")
    assert champion.run_id in command("trace", f"{grown.folder}/new/{2}.txt:3", "--json")
    assert json.loads(command("clean", "--days", "0", "--json"))[-1]["folders"] == 0


@contextmanager
def running(state: Path) -> Iterator[None]:
    """A process that uses a state folder's steps."""
    program = "import sys; from pathlib import Path; from tasks.storage.steps import use; use(Path(sys.argv[1])); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(state)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        yield
        process.communicate("\n")


def test_a_lost_registry_stops_an_increment_and_once_repaired_it_starts_from_the_champion(
    grown: Grown, copied: Path
) -> None:
    spec = growing(grown.folder, domain=[
        {"path": str(grown.folder / "new" / "*.txt"), "contract": "general_text"},
        {"path": str(copied / "more.txt"), "contract": "general_text"},
    ])  # fmt: skip
    write(copied / "more.txt", rows(TRADES[3], 80))
    champion = registry.champion(copied, "trades")
    assert champion is not None
    (copied / "registry.db").write_bytes(b"")
    with pytest.raises(MachineFailed) as caught:
        once(spec, copied)
    assert caught.value.fix.endswith(f"rootstock doctor --repair --state {copied}")
    assert repair(copied, print, really=True)
    assert registry.champion(copied, "trades") == champion
    with due(spec, copied) as now:
        assert now.increment is not None
        assert now.increment.parent == champion.run_id
        assert now.base_from == "champion"


def test_each_increment_learns_what_is_new_and_becomes_champion(grown: Grown) -> None:
    assert [outcome.decision.verdict for outcome in grown.outcomes] == ["promote"] * 3
    records = load_watermark(grown.state, "trades").records
    assert [record.run for record in records] == [outcome.run for outcome in grown.outcomes]
    assert [record.parent for record in records] == [None, grown.outcomes[0].run, grown.outcomes[1].run]
    assert [[Path(file).name for file in record.files] for record in records] == [
        ["0.txt"],
        ["1.txt"],
        ["0.txt", "2.txt"],
    ]
    assert [record.num_rows for record in records] == [80, 80, 100]
    champion = registry.champion(grown.state, "trades")
    assert champion is not None
    assert champion.run_id == grown.outcomes[2].run


def test_a_candidate_starts_from_the_champion_before_it(grown: Grown) -> None:
    for number in (2, 3):
        weights = grown.outcomes[number - 2].decision.bindings.weights
        assert grown.outcomes[number - 1].decision.bindings.base == weights


def test_the_verdict_asks_about_earlier_increments_and_against_the_original_base(grown: Grown) -> None:
    assert grown.rules(1) == {
        ("gain", "domain", "base"),
        ("forgetting", "general", "base"),
        ("absolute", "domain", "floor"),
    }
    assert grown.rules(3) == {
        ("gain", "domain", "champion"),
        *(("forgetting", suite, who) for suite in ("general", "increment-1", "increment-2") for who in ("base", "champion")),
    }  # fmt: skip
    bases = [
        next(
            s
            for s in Scores.model_validate(grown.read(number, "scores.json")).suites
            if s.name == "increment-1"
        ).value("base", "nats per token")
        for number in (2, 3)
    ]
    assert bases[0] == pytest.approx(bases[1], abs=1e-6)


def test_a_large_general_suite_is_read_on_where_the_run_before_left_off(grown: Grown) -> None:
    scores = [Scores.model_validate(grown.read(number, "scores.json")) for number in (1, 2, 3)]
    (of,) = {one.parts["general"][1] for one in scores}
    assert of > 1
    assert [one.parts for one in scores] == [{"general": (turn % of + 1, of)} for turn in range(3)]
    read = [
        {item.id for suite in one.suites if suite.name == "general" for item in suite.items} for one in scores
    ]
    assert read[0]
    assert not read[0] & read[1]


def test_an_increment_is_scored_on_the_very_same_rows_ever_after(grown: Grown) -> None:
    """Its own file has grown meanwhile."""
    one, two, three = (record.suites for record in load_watermark(grown.state, "trades").records)
    assert one["increment-1"] == two["increment-1"] == three["increment-1"]
    assert two["increment-2"] == three["increment-2"]
    assert len({three[f"increment-{number}"] for number in (1, 2, 3)}) == 3


def test_of_a_changed_file_the_consumed_rows_are_replayed_and_the_others_are_new(grown: Grown) -> None:
    counts = {
        (file["role"], Path(file["file"]).name): (file["accepted"] + file["held_out"], file["duplicate"])
        for file in grown.read(3, "ledger.json")["files"]
    }
    assert counts["domain", "0.txt"] == (20, 80)
    assert counts["replay", "0.txt"] == (80, 20)
    assert counts["replay", "1.txt"] == (80, 0)


def test_nothing_new_is_a_quick_success_without_torch_and_prefect(grown: Grown, tmp_path: Path) -> None:
    spec = tmp_path / "grown.yaml"
    spec.write_text(dump_yaml(growing(grown.folder).model_dump(mode="json", exclude_none=True)))
    program = (
        "import atexit, sys; from flows.cli.main import main;"
        f"sys.argv = ['rootstock', 'run', {str(spec)!r}, '--state', {str(grown.state)!r}];"
        "atexit.register(lambda: print('torch' in sys.modules, 'prefect' in sys.modules)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "no new data: all 3 files were decided on before", "verdict: none", "False False",
    ]  # fmt: skip


def test_an_increment_that_was_decided_is_not_released_again(grown: Grown, copied: Path) -> None:
    """Its specification, run by hand after its file has grown, is another run."""
    old = RunSpec.model_validate(read_yaml(grown.outcomes[0].folder / "spec.yaml").value)
    with pytest.raises(UserError, match="increment 1 of 'trades' was decided already"):
        follow(old, copied, Silent(), map_shards=here)
    champion = registry.champion(copied, "trades")
    assert champion is not None
    assert champion.run_id == grown.outcomes[2].run
    assert len(load_watermark(copied, "trades").records) == 3


def test_files_with_other_content_but_no_new_row_are_no_new_data(
    grown: Grown, copied: Path, tmp_path: Path
) -> None:
    new = Path(shutil.copytree(grown.folder / "new", tmp_path / "new"))
    write(new / "joined.txt", [*rows(TRADES[0], 30), *rows(TRADES[1], 30)])
    before = watermark_file(copied, "trades").read_bytes()
    with pytest.raises(NoNewData, match="no row to train on that is new"):
        once(growing(tmp_path), copied)
    assert watermark_file(copied, "trades").read_bytes() == before


def test_too_little_to_score_waits_for_more(tmp_path: Path) -> None:
    spec = growing(tmp_path)
    few = spec.evaluation.model_copy(update={"domain_holdout": 0.03})
    spec, state = spec.model_copy(update={"evaluation": few}), tmp_path / "state"
    write(tmp_path / "new" / "a.txt", rows(TRADES[0], 90))
    once(spec, state)
    before = watermark_file(state, "trades").read_bytes()
    write(tmp_path / "new" / "b.txt", rows("awl bradawl gimlet", 10))
    with pytest.raises(NoNewData, match="too little to set any aside for scoring"):
        once(spec, state)
    assert watermark_file(state, "trades").read_bytes() == before
    write(tmp_path / "new" / "c.txt", rows("chisel mallet plane", 90))
    assert once(spec, state).decision.rules, "the rows are learnt with what came later"
    assert {Path(file).name for file in load_watermark(state, "trades").records[-1].files} == {
        "b.txt",
        "c.txt",
    }


def test_after_a_rollback_the_next_increment_starts_from_the_restored_champion(
    grown: Grown, copied: Path, tmp_path: Path
) -> None:
    shutil.copytree(grown.folder / "new", tmp_path / "new")
    spec = growing(tmp_path)
    restored = promotion.rollback(copied, "trades")
    assert restored.run_id == grown.outcomes[1].run
    with pytest.raises(NoNewData):  # what was rolled back stays consumed
        once(spec, copied)
    write(tmp_path / "new" / "3.txt", rows(TRADES[3], 80))
    outcome = once(spec, copied)
    assert outcome.decision.bindings.base == restored.weights_sha256
    record = load_watermark(copied, "trades").records[-1]
    assert (record.number, record.parent) == (4, restored.run_id)
    assert set(record.scores) == {"general", "increment-1", "increment-2", "increment-4"}
    ledger = json.loads((outcome.folder / "ledger.json").read_bytes())["files"]
    assert "2.txt" not in {Path(file["file"]).name for file in ledger}, "the model in use has not learned it"


def test_a_rejected_increment_is_consumed_and_an_inconclusive_one_waits_for_more(
    grown: Grown, copied: Path, tmp_path: Path
) -> None:
    shutil.copytree(grown.folder / "new", tmp_path / "new")
    write(tmp_path / "new" / "3.txt", rows(TRADES[3], 80))
    before = registry.champion(copied, "trades")
    unclear = growing(tmp_path, promotion={"min_gain": 0.0, "max_forgetting": 5, "confidence": 1 - 1e-12})
    assert once(unclear, copied).decision.verdict == "inconclusive"
    assert len(load_watermark(copied, "trades").records) == 3
    strict = growing(tmp_path, promotion={"min_gain": 3})
    assert once(strict, copied).decision.verdict == "reject"
    assert [record.verdict for record in load_watermark(copied, "trades").records] == ["promote"] * 3 + [
        "reject"
    ]
    assert registry.champion(copied, "trades") == before
    with pytest.raises(NoNewData):
        once(growing(tmp_path), copied)


def test_the_scores_over_increments_are_kept_and_shown_and_follow_a_rollback(
    grown: Grown, copied: Path
) -> None:
    kept = json.loads(scores_file(copied, "trades").read_bytes())
    records = load_watermark(copied, "trades").records
    assert kept["runs"] == [record.run for record in records]
    assert kept["scores"][2] == [records[2].scores[f"increment-{number}"] for number in (1, 2, 3)]
    assert kept["scores"][0][1] == records[1].before["increment-2"], "what it knew of it before it learned it"
    report = (grown.outcomes[2].folder / "report.html").read_text(encoding="utf-8")
    assert 'id="increments"' in report
    assert f"{kept['scores'][2][0]:.3f}" in report
    promotion.rollback(copied, "trades")
    assert json.loads(scores_file(copied, "trades").read_bytes())["runs"] == kept["runs"][:2]


def break_file(file: Path, damage: str) -> None:
    """Flip a bit, empty it, or take it away."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    if damage != "deleted":
        file.write_bytes(b"" if damage == "emptied" else content)


@pytest.mark.parametrize("damage", ["deleted", "emptied", "flipped"])
def test_a_list_of_increments_that_is_lost_is_written_anew_and_nothing_is_learned_twice(
    grown: Grown, copied: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_watermark(copied, "trades")
    break_file(watermark_file(copied, "trades"), damage)
    with pytest.raises(NoNewData):
        once(growing(grown.folder), copied)
    assert load_watermark(copied, "trades") == before
    assert f"{str(watermark_file(copied, 'trades'))!r} is " in capsys.readouterr().err


def test_lists_of_rows_come_back_from_their_runs(grown: Grown, copied: Path, tmp_path: Path) -> None:
    shutil.copytree(grown.folder / "new", tmp_path / "new")
    write(tmp_path / "new" / "3.txt", rows(TRADES[3], 80))
    lists = sorted((copied / "increments" / "rows").iterdir())
    before = [file.read_bytes() for file in lists]
    for file, damage in zip(lists, ("deleted", "emptied", "flipped"), strict=True):
        break_file(file, damage)
    outcome = once(growing(tmp_path), copied)
    assert [file.read_bytes() for file in lists] == before
    assert load_watermark(copied, "trades").records[-1].run == outcome.run


def test_the_run_of_an_increment_that_was_damaged_is_found_and_done_again(grown: Grown, copied: Path) -> None:
    """It started from the champion before it, and is the champion itself by now."""
    last = grown.outcomes[2]
    run = copied / "runs" / last.run
    for name in ("model/model.safetensors", "scores.json"):
        break_file(run / name, "flipped")
    with pytest.raises(UserError, match="is not as its run left it") as error:
        find_run_model(copied, "trades")
    assert error.value.fix.startswith(f"run: rootstock run {run / 'spec.yaml'} --state {copied} ")
    spec = load_spec(run / "spec.yaml", [], list_contracts())
    again = follow(spec, copied, Silent(), map_shards=here)
    assert (again.run, again.fresh) == (last.run, True)
    assert again.decision == last.decision
    assert follow(spec, copied, Silent(), map_shards=here).fresh is False
    champion = registry.champion(copied, "trades")
    assert champion is not None
    assert champion.run_id == last.run
    assert [record.run for record in load_watermark(copied, "trades").records] == [
        o.run for o in grown.outcomes
    ]
