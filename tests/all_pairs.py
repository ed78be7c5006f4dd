"""Every remedy x objective, method x objective and file of runs/ once through run, plan, evaluate, export and generate.

    python -m tests.all_pairs [PART OF A NAME ...]

Each case must end in a verdict, or be refused (exit 2) before any work; what follows a verdict must agree with the run.
Without a name, all of them: some minutes. The tests take a part of it (tests/flows/test_all_pairs.py).
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.training.methods.registry import METHODS
from tasks.training.remedies.registry import REMEDIES
from tests.command_line import ROOT, Done
from tests.corpora import make_spec, source, write_rows
from tests.in_process import rootstock_here
from tests.tiny_base import prose
from tests.tiny_encoder import make_encoder
from tests.toy_heads import labelled_rows, toy_spec, toy_texts, write_labelled
from tests.toy_sums import sums_spec, write_sums
from tests.toy_tasks import task_texts, tasks_spec
from tests.training.methods.small import SMALL as METHOD_SETTINGS
from tests.training.remedies.small import SMALL as REMEDY_SETTINGS

BASE = str(ROOT / "assets" / "base")
SHORT = {"epochs": None, "tokens": None, "steps": 2, "checkpoint_every": 1000}
VERDICTS = (0, 10, 11)
REFUSED = 2
WORK = ("train", "score", "fisher", "teacher", "base-loss", "general-loss", "forgetting-curve")
"""Steps that have begun where a refusal comes too late."""
OWN_TEXT = {"tokens": 1500, "max_new_tokens": 30, "min_tokens": 8, "min_distinct": 0.5}
ANSWERING = ("full", "lora", "prompt_tuning")
"""Methods whose answers are generated; with the loss as metric, all are tried."""


@dataclass(frozen=True)
class Case:
    """One specification."""

    name: str
    file: str
    sets: tuple[str, ...] = ()


def specifications(folder: Path) -> dict[str, dict[str, Any]]:
    """Two steps of each objective, with replay where it has a place; their files are written to `folder`."""
    write_rows(folder / "domain.jsonl", [line[:150] for line in prose("en_*")])
    write_rows(
        folder / "replay.jsonl", [line[i : i + 60] for line in prose("zh_*")[20:] for i in (0, 60, 120)]
    )
    write_rows(folder / "general.jsonl", [line[:200] for line in prose("zh_*")[:20]])
    language = make_spec(
        base=BASE, domain=[source(folder / "domain.jsonl")], replay=[source(folder / "replay.jsonl")],
        mixture={"replay_ratio": 0.25}, evaluation={"domain_holdout": 0.2, "general": [source(folder / "general.jsonl")]},
    ).model_dump(mode="json", exclude_unset=True)  # fmt: skip
    write_sums(folder)
    encoder = make_encoder(folder / "encoder", toy_texts() + task_texts())
    rows = [{**row, "text": f"{row['text']} - the end"} for row in labelled_rows(80, seed=9)]
    again = {"path": str(write_labelled(folder / "again.jsonl", rows)), "contract": "labeled_text"}
    replayed = {"replay": [again], "mixture": {"replay_ratio": 0.25}}
    few = {"evaluation": {"domain_holdout": 0.25, "max_tokens": 3000}}
    found = {
        "language_modeling": language,
        "instruction": sums_spec(folder, BASE, "loss"),
        "answers": sums_spec(folder, BASE, "exact_match", objective={"max_new_tokens": 4}),
        "text_classification": toy_spec(folder, "text_classification", encoder, **replayed, **few),
        "token_classification": toy_spec(folder, "token_classification", encoder, **few),
        "multi_task": tasks_spec(folder, encoder, ("trades", "names"), **few),
    }
    for name, values in found.items():
        values["name"] = name.replace("_", "-")
        values["training"] = {**values["training"], **SHORT}
    return found


def all_cases(folder: Path) -> dict[str, Case]:
    """Name -> case; the specifications are written to `folder`."""
    written = specifications(folder)
    found = {}
    for objective, values in written.items():
        for kind in METHODS if objective != "answers" else ANSWERING:
            name = f"{kind} x {objective}"
            found[name] = _write(folder, name, {**values, "method": _method(folder, kind)})
        for kind in REMEDIES:
            name = f"{kind} x {objective}"
            remedies = [{"kind": kind, **(OWN_TEXT if kind == "self_replay" else REMEDY_SETTINGS[kind])}]
            own = {"replay": []} if kind == "self_replay" and objective == "language_modeling" else {}
            found[name] = _write(
                folder, name, {**values, **own, "method": {"kind": "lora"}, "remedies": remedies}
            )
    return found


def _method(folder: Path, kind: str) -> dict[str, Any]:
    if kind == "adapter_fusion":
        return {"kind": kind, "adapters": [str(folder / "first" / "model"), str(folder / "second" / "model")]}
    return {"kind": kind, **(METHOD_SETTINGS[kind] or {})}


def _write(folder: Path, name: str, values: dict[str, Any]) -> Case:
    file = folder / f"{name.replace(' x ', '.')}.json"
    file.write_text(json.dumps(values, indent=1))
    return Case(name, str(file))


def bundled_cases(folder: Path) -> dict[str, Case]:
    """Every specification of runs/, on the bundled base and two steps; `folder` becomes a copy of what they read."""
    from pydoc_data.topics import topics

    for name in ("runs", "assets", "data_contracts"):
        (folder / name).symlink_to(ROOT / name)
    rows = [{"text": " ".join(text.split())[:300], "topic": name} for name, text in sorted(topics.items())]
    for name in (".rootstock/quickstart/python_reference", "data/domain/rows"):
        write_rows(folder / f"{name}.jsonl", rows[:60])
    texts = [line[:200] for line in prose("en_*")]
    write_rows(folder / "data/general/rows.jsonl", texts[:60])
    write_rows(folder / "data/general_heldout/rows.jsonl", texts[60:90])
    write_sums(folder)
    for name, file in (("metamath/train", "train"), ("gsm8k/test", "test")):
        write_rows(folder / f"data/{name}.jsonl", [json.loads(r) for r in (folder / f"{file}.jsonl").open()])
    (folder / "data/wikitext").mkdir()
    (folder / "data/wikitext/test.txt").write_text("\n".join(texts[60:90]), encoding="utf-8")
    short = [
        "epochs=null",
        "tokens=null",
        "steps=2",
        "sequence_length=128",
        "batch_tokens=512",
        "micro_batch_tokens=512",
    ]
    sets = [*(f"training.{text}" for text in short), "evaluation.max_tokens=3000"]
    more = {"gsm8k_qwen3": ["objective.template=plain", "objective.max_new_tokens=4"]}
    scratch = ["training.checkpoint_every=1000"]
    found = {}
    for file in sorted((ROOT / "runs").glob("*.yaml")):
        base = [] if file.stem == "base_model" else [f"base={BASE}"]
        given = (*sets, *base, *more.get(file.stem, scratch))
        found[f"runs/{file.name}"] = Case(f"runs/{file.name}", f"runs/{file.name}", given)
    return found


def try_case(case: Case, place: Path, state: str = ".rootstock") -> tuple[str, list[str]]:
    """How the case ended, and what was wrong."""
    faults: list[str] = []

    def call(*arguments: str, allowed: Sequence[int] = (0,)) -> Done:
        done = rootstock_here(*arguments, "--state", state, cwd=place)
        if done.code not in allowed:
            faults.append(
                f"{' '.join(arguments[:3])} ended with {done.code}: {' | '.join(done.err.splitlines()[-4:])}"
            )
        return done

    sets = [word for text in case.sets for word in ("--set", text)]
    before = _work(place / state)
    done = call("run", case.file, *sets, "--no-prefect", "--json", allowed=(*VERDICTS, REFUSED))
    if done.code == REFUSED:
        faults += [f"refused, but {name} was begun" for name in sorted(_work(place / state) - before)]
        if done.err.count("  fix: ") < 1:
            faults.append(f"refused without a remedy: {done.err[-300:]}")
        return f"refused: {next((e for e in done.err.splitlines() if e.startswith('error')), '')}", faults
    if faults:
        return "failed", faults
    told = json.loads(done.out)
    run = place / told["folder"]
    faults += list(_disagreements(call, case, sets, run, place / state))
    return told["verdict"], faults


def _work(state: Path) -> set[str]:
    """Work that was done or begun."""
    names = (path.name for path in (state / "data").glob("*"))
    return {name for name in names if name.lstrip(".").rsplit("-", 1)[0] in WORK}


def _disagreements(call: Any, case: Case, sets: list[str], run: Path, state: Path) -> Iterator[str]:
    """What plan, evaluate, export and generate do otherwise than the run did."""
    key = json.loads((run / "lineage.json").read_bytes())["steps"]["plan"]
    report = json.loads((state / "data" / f"plan-{key[:20]}" / "manifest.json").read_bytes())["facts"][
        "report"
    ]
    scores = {suite["name"]: suite for suite in json.loads((run / "scores.json").read_bytes())["suites"]}

    planned = call("plan", case.file, *sets, "--json")
    if planned.code == 0:
        facts = json.loads(planned.out)
        now = (facts["run"], facts["domain tokens"], facts["replay tokens"], facts["steps"])
        then = (run.name, report["domain_tokens"], report["replay_tokens"], report["steps"])
        if now != then:
            yield f"plan tells {now}, the run did {then}"
    evaluated = call("evaluate", run.name, case.file, *sets, "--json")
    if evaluated.code == 0:
        found = {row["suite"]: row["documents"] for row in json.loads(evaluated.out)}
        if found != {name: len(suite["items"]) for name, suite in scores.items()}:
            yield f"evaluate scores {found}"
    call("export", run.name, "--to", str(state / "out" / run.name))
    merged = call(
        "export", run.name, "--merge", "--to", str(state / "merged" / run.name), allowed=(0, REFUSED)
    )
    if merged.code == 0 and "suites of its run the largest difference" not in merged.out:
        yield f"export --merge compared nothing: {merged.out}"
    speaks = (
        (0,) if any(word in case.name for word in ("language", "instruction", "answers")) else (0, REFUSED)
    )
    call("generate", run.name, "The old", "--max-new-tokens", "3", allowed=speaks)


def train_adapters(folder: Path, cases: dict[str, Case], objective: str) -> None:
    """Two adapters for adapter_fusion, from other seeds; what fuses them names them by these links."""
    for name, seed in (("first", 1), ("second", 2)):
        link = folder / name
        link.unlink(missing_ok=True)
        file = cases[f"adapter_pfeiffer x {objective}"].file
        done = rootstock_here(
            "run", file, "--set", f"training.seed={seed}", "--no-prefect", "--json", cwd=folder
        )
        assert done.code in VERDICTS, done.err
        link.symlink_to(folder / json.loads(done.out)["folder"])


def main(*names: str) -> int:
    """Try all cases, or those with such a part in their name; how many have a fault."""
    failed = tried = 0
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as bundled:
        cases = all_cases(Path(place))
        places = dict.fromkeys(cases, Path(place)) | dict.fromkeys(
            more := bundled_cases(Path(bundled)), Path(bundled)
        )
        cases |= more
        for name, case in cases.items():
            if names and not any(part in name for part in names):
                continue
            if name.startswith("adapter_fusion"):
                train_adapters(Path(place), cases, name.split(" x ")[1])
            began = time.monotonic()
            ended, faults = try_case(case, places[name])
            failed, tried = failed + bool(faults), tried + 1
            print(f"{name}: {ended} ({time.monotonic() - began:.0f} s)", flush=True)
            for fault in faults:
                print(f"    FAULT {fault}", flush=True)
    print(f"{failed} of {tried} cases with a fault")
    return failed


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
