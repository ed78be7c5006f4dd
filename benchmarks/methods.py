"""The quick start with every tuning method that a language model can have: one real run each, to its verdict.

    python -m benchmarks.methods [--only KIND ...]

Every method gets the same data, mixture, tokens and seed, and the quick start's one learning rate, which was chosen for full
tuning: this shows that each works and what it changes, not which is best (`rootstock compare` searches a rate for each,
and times them). A run that was stopped goes on, so times are not taken here.
Writes results/methods.json; `make docs` puts the table into docs/methods.md.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import measure
from tasks.training.methods.registry import METHODS

STATE = measure.ROOT / ".rootstock" / "methods"
RESULTS = measure.ROOT / "benchmarks" / "results" / "methods.json"
SPEC = "runs/quickstart.yaml"
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


def settings_of(kind: str) -> list[str]:
    """What a method needs beyond its defaults: AdapterFusion reads adapters of earlier runs."""
    if kind != "adapter_fusion":
        return []
    adapters = [str(run_folder("adapter_pfeiffer", seed) / "model") for seed in (17, 18)]
    return [f"method.adapters={json.dumps(adapters)}"]


def run(kind: str, seed: int = 17, sets: list[str] | None = None) -> dict[str, Any]:
    """One run of the quick start, in a process of its own; what the command line said and what it left."""
    command = [
        sys.executable, "-m", "flows.cli.main", "run", SPEC, "--no-prefect", "--json", "--state", str(STATE),
        "--set", f"method.kind={kind}", "--set", f"name=quickstart-{kind.replace('_', '-')}", "--set", f"training.seed={seed}",
        *(part for value in sets or [] for part in ("--set", value)),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 10, 11):
        lines = [
            line for line in done.stderr.splitlines() if line.startswith(("error:", "  where:", "  fix:"))
        ]
        if done.returncode != 2:
            raise SystemExit(f"{kind}: exit {done.returncode}\n{done.stderr[-2000:]}")
        return {"kind": kind, "refused": " ".join(line.strip() for line in lines)}
    outcome = json.loads(done.stdout)
    return {
        "kind": kind,
        **describe(Path(outcome["folder"]), outcome),
    }


def run_folder(kind: str, seed: int) -> Path:
    """The folder of a run that is done (again a no-op)."""
    name = f"quickstart-{kind.replace('_', '-')}"
    for folder in sorted((STATE / "runs").glob(f"{name}-*")):
        if f"seed: {seed}\n" in (folder / "spec.yaml").read_text() and (folder / "complete.json").is_file():
            return folder
    run(kind, seed)
    return run_folder(kind, seed)


def describe(folder: Path, outcome: dict[str, Any]) -> dict[str, Any]:
    """The rules of the verdict, the counts, and what training took."""
    from schemas.results.scores import Scores

    scores = Scores.model_validate_json((folder / "scores.json").read_bytes())
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    manifest = json.loads((folder / "lineage.json").read_bytes())["steps"]["train"]
    step = json.loads((STATE / "data" / f"train-{manifest[:20]}" / "manifest.json").read_bytes())
    return {
        "verdict": outcome["verdict"],
        "rules": outcome["rules"],
        "losses": {s.name: [s.value(who, scores.unit) for who in ("base", "candidate")] for s in scores.suites},
        "parameters": step["facts"]["parameters"],
        "method": step["facts"]["method"],
        "peak_memory_bytes": max(line["peak_memory_bytes"] for line in metrics),
    }  # fmt: skip


def main() -> None:
    """Run what is missing and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=list(METHODS), choices=list(METHODS))
    wanted = parser.parse_args().only
    subprocess.run([sys.executable, "assets/collect_python_reference.py"], cwd=measure.ROOT, check=True)
    known = json.loads(RESULTS.read_bytes())["methods"] if RESULTS.is_file() else {}
    machine = measure.describe_machine(LIBRARIES)
    for kind in wanted:
        if METHODS[kind].settings.needs_task_head:
            continue
        known[kind] = run(kind, sets=settings_of(kind))
        print(
            kind,
            known[kind].get("verdict") or known[kind].get("refused"),
            known[kind].get("losses"),
            flush=True,
        )
        ordered = {name: known[name] for name in METHODS if name in known}
        command = "python -m benchmarks.methods"
        RESULTS.write_text(
            json.dumps({"command": command, "machine": machine, "methods": ordered}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
