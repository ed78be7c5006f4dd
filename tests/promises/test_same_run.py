"""A finished run through every verb: what they print, what they refuse, and that nothing is done twice."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Done, environment, rootstock
from tests.promises.conftest import Project, make_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Project:
    """A project whose specification has been run to its verdict."""
    project = make_project(tmp_path_factory.mktemp("finished"), tiny_base)
    done = rootstock("run", "spec.yaml", "--no-prefect", "--json", cwd=project.folder)
    assert done.code == 0, done.err
    (project.folder / "outcome.json").write_text(done.out)
    return project


def outcome(project: Project) -> Any:
    return json.loads((project.folder / "outcome.json").read_text())


def call(project: Project, *arguments: str) -> Done:
    return rootstock(*arguments, cwd=project.folder)


def steps(project: Project) -> set[str]:
    return {path.name for path in (project.folder / ".rootstock/data").iterdir()}


def one_error(done: Done, code: int = 2) -> tuple[str, str, str]:
    """The only error of a command, which printed nothing else."""
    assert done.code == code, done.err
    assert done.out == ""
    [error] = done.errors
    return error


def test_the_verdict_is_one_json_object_and_alone_on_standard_output(finished: Project) -> None:
    told = outcome(finished)
    assert told["verdict"] == "promote"
    assert (finished.folder / told["folder"] / "report.html").is_file()
    assert {rule["outcome"] for rule in told["rules"]} == {"pass"}


@pytest.mark.parametrize("mode", [["--no-prefect"], []])
def test_the_same_run_again_trains_nothing_and_imports_neither_torch_nor_prefect(
    finished: Project, mode: list[str]
) -> None:
    before = steps(finished)
    done = rootstock("run", "spec.yaml", *mode, cwd=finished.folder, cold=True)
    assert done.code == 0, done.err
    assert (
        done.out.splitlines()[0] == "nothing to do: this run is finished (same data, specification and code)"
    )
    assert done.out.splitlines()[-1] == "verdict: promote"
    assert done.heavy & {"torch", "transformers", "peft", "prefect", "great_expectations", "mlflow"} == set()
    assert steps(finished) == before


def test_other_thresholds_train_nothing_new(finished: Project) -> None:
    """Exit 10 and 11: the very same weights against other promises."""
    gain = next(rule["estimate"] for rule in outcome(finished)["rules"] if rule["rule"] == "gain")
    before = steps(finished)
    for threshold, verdict, code in ((gain + 0.5, "reject", 10), (gain, "inconclusive", 11)):
        done = call(
            finished,
            "run",
            "spec.yaml",
            "--no-prefect",
            "--set",
            "name=other",
            "--set",
            f"promotion.min_gain={threshold}",
        )
        assert done.code == code, done.err
        assert done.out.splitlines()[-1] == f"verdict: {verdict}"
        assert [line for line in done.out.splitlines() if line.startswith("next: ")]
    assert steps(finished) == before
    rows = call(finished, "history", "other", "--json").json()
    assert [(row["verdict"], row["aliases"]) for row in rows] == [("inconclusive", ""), ("reject", "")]
    what, _, fix = one_error(call(finished, "promote", rows[1]["run"]))
    assert what.startswith("this run cannot be promoted: its verdict is 'reject'")
    assert fix


def test_broken_data_exits_1_before_anything_is_trained(finished: Project) -> None:
    (finished.folder / "short.jsonl").write_text('{"text": "x"}\n' * 30 + '{"text": "a sentence"}\n')
    before = {name for name in steps(finished) if name.startswith("train-")}
    done = call(finished, "run", "spec.yaml", "--no-prefect", "--set", "domain.0.path=short.jsonl")
    assert done.code == 1
    what, where, fix = done.err.rstrip().split("\n")[-3:]
    assert "text_not_short (at least 5 characters" in what
    assert "broken by 30 of 31 rows" in what
    assert where.startswith("  where: short.jsonl:1, short.jsonl:2")
    assert fix.endswith("rootstock check domain_text --data short.jsonl")
    assert {name for name in steps(finished) if name.startswith("train-")} == before


def test_a_base_that_holds_no_numbers_is_told(finished: Project, tiny_base: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = finished.folder / "broken"
    shutil.copytree(tiny_base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    done = call(finished, "run", "spec.yaml", "--no-prefect", "--set", "base=broken")
    assert done.code == 2
    assert "lm_head.weight are not finite" in done.err.splitlines()[-3]


def test_a_base_with_damaged_weights_is_told(finished: Project, tiny_base: Path) -> None:
    torn = finished.folder / "torn"
    shutil.copytree(tiny_base, torn)
    whole = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    done = call(finished, "run", "spec.yaml", "--no-prefect", "--set", "base=torn")
    assert done.code == 2
    what, where, _ = done.err.rstrip().split("\n")[-3:]
    assert what.startswith("error: cannot read the weights: ")
    assert where.endswith("torn/model.safetensors")


def test_history_names_the_champion(finished: Project) -> None:
    [row] = call(finished, "history", "tiny", "--json").json()
    assert (row["version"], row["run"], row["verdict"], row["aliases"]) == (
        1,
        outcome(finished)["run"],
        "promote",
        "champion",
    )
    assert one_error(call(finished, "history", "nosuch"))[0] == "no model named 'nosuch' is registered"
    assert one_error(call(finished, "history", "tiny", "--state", "empty"))[2].startswith(
        "nothing is registered yet"
    )


def test_promote_and_rollback_tell_what_they_cannot_do(finished: Project) -> None:
    again = call(finished, "promote", outcome(finished)["run"])
    assert again.code == 0
    assert again.out == f"champion of tiny: version 1 ({outcome(finished)['run']})\n"
    what, _, fix = one_error(call(finished, "promote", "tiny-0"))
    assert what == "there is no run 'tiny-0'"
    assert outcome(finished)["run"] in fix
    assert (
        one_error(call(finished, "rollback", "tiny"))[0] == "'tiny' has no previous champion to roll back to"
    )
    assert one_error(call(finished, "rollback", "nosuch"))[0] == "no model named 'nosuch' is registered"


def test_a_changed_model_cannot_be_promoted(finished: Project, tmp_path: Path) -> None:
    state = tmp_path / "copy"
    shutil.copytree(finished.folder / ".rootstock", state)
    run = outcome(finished)["run"]
    with (state / "runs" / run / "scores.json").open("a") as out:
        out.write(" ")
    what, where, _ = one_error(call(finished, "promote", run, "--state", str(state)))
    assert what == "this run cannot be promoted: scores.json is not the one the decision was made on"
    assert "scores.json" in where


def test_trace_follows_a_row_to_its_steps(finished: Project) -> None:
    told = []
    for line in (1, 2):
        rows = {row["run"]: row for row in call(finished, "trace", f"domain-0.jsonl:{line}", "--json").json()}
        told.append(rows[outcome(finished)["run"]])
        assert "tiny version 1 (champion)" in told[-1]["models"]
    assert all(row["fate"] in ("accepted", "held out", "duplicate") for row in told)
    assert any(row["steps"] for row in told if row["fate"] == "accepted")
    assert (
        one_error(call(finished, "trace", "domain-0.jsonl"))[0]
        == "'domain-0.jsonl' is not the place of a row"
    )
    assert (
        one_error(call(finished, "trace", "nosuch.jsonl:1"))[0] == "no finished run has read nosuch.jsonl:1"
    )


def test_generate_continues_a_prompt_by_run_name_or_folder(finished: Project) -> None:
    answers = {
        name: call(finished, "generate", name, "The", "--max-new-tokens", "12").out
        for name in (outcome(finished)["run"], "tiny", f"{outcome(finished)['folder']}/model")
    }
    assert len(set(answers.values())) == 1
    assert next(iter(answers.values())).startswith("The")


def test_generate_tells_what_it_cannot_do(finished: Project) -> None:
    what, _, fix = one_error(call(finished, "generate", "nosuch", "The"))
    assert what == "there is no run, promoted model or folder 'nosuch'"
    assert outcome(finished)["run"] in fix
    assert (
        one_error(call(finished, "generate", "./no/such", "The"))[0] == "there is no model folder ./no/such"
    )
    assert one_error(call(finished, "generate", "$NO_SUCH/m", "The"))[2] == "run: export NO_SUCH=..."
    done = call(finished, "generate", "tiny", "The", "--temperature", "-1")
    assert done.code == 2
    assert "temperature" in done.err


def test_evaluate_scores_a_model_on_the_suites(finished: Project, tiny_base: Path) -> None:
    done = call(finished, "evaluate", str(tiny_base), "spec.yaml", "--json")
    assert done.code == 0, done.err
    rows = {row["suite"]: row for row in done.json()}
    gain = next(rule for rule in outcome(finished)["rules"] if rule["rule"] == "gain")
    champion = {row["suite"]: row for row in call(finished, "evaluate", "tiny", "spec.yaml", "--json").json()}
    difference = rows["domain"]["nats per token"] - champion["domain"]["nats per token"]
    assert difference == pytest.approx(gain["estimate"], abs=1e-6)
    assert one_error(call(finished, "evaluate", "nosuch", "spec.yaml"))[0].startswith(
        "there is no run, promoted model"
    )


def test_plan_tells_rows_steps_and_time(finished: Project) -> None:
    plan = call(finished, "plan", "spec.yaml", "--json").json()
    assert plan["steps"] > 10
    assert plan["parameters"] == plan["parameters trained"]
    assert plan["run"] == outcome(finished)["run"]


def test_export_copies_and_refuses_to_overwrite(finished: Project) -> None:
    done = call(finished, "export", outcome(finished)["run"], "--to", "exported")
    assert done.code == 0, done.err
    assert (finished.folder / "exported/model.safetensors").is_file()
    assert one_error(call(finished, "export", "tiny", "--to", "exported"))[0] == "exported exists already"
    what, _, fix = one_error(call(finished, "export", "tiny", "--to", "merged", "--merge"))
    assert (what, fix) == ("there is nothing to merge: the model is full weights", "leave out --merge")
    assert (
        one_error(call(finished, "export", "no/such", "--to", "elsewhere"))[0]
        == "there is no model to export in no/such"
    )


def test_what_needs_no_run_answers_in_json(finished: Project) -> None:
    assert {row["kind"] for row in call(finished, "methods", "--json").json()} >= {"full", "lora"}
    assert call(finished, "schema").json()["title"] == "RunSpec"
    assert {row["what"] for row in call(finished, "doctor", "--json").json()} >= {
        "python",
        "torch",
        "device",
        "memory",
    }


def test_a_state_that_is_a_file_is_told(finished: Project) -> None:
    what, where, fix = one_error(call(finished, "run", "spec.yaml", "--no-prefect", "--state", "spec.yaml"))
    assert what == "this is a file, and no state folder"
    assert "spec.yaml" in where
    assert "name a folder with --state" in fix


def test_two_processes_with_the_same_run_do_it_once(project: Project) -> None:
    command = [sys.executable, "-m", "flows.cli.main", "run", "spec.yaml", "--no-prefect"]
    both = [
        subprocess.Popen(
            command,
            cwd=project.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=900) for process in both]
    assert [process.returncode for process in both] == [0, 0], [err for _, err in told]
    assert sum(out.startswith("nothing to do") for out, _ in told) == 1
    assert sum("another process is at this very run: waiting for it" in err for _, err in told) == 1
    [row] = call(project, "history", "tiny", "--json").json()
    assert (row["version"], row["aliases"]) == (1, "champion")
