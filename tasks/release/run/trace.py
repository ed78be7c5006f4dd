"""Follow one row: what each run did with it, which optimizer steps trained it, and which models saw it."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from schemas.errors import UserError
from schemas.results.artifacts import Manifest
from tasks.data.split.divide import Fate
from tasks.data.tokens.token_files import token_file
from tasks.release.record.mend import how_to_mend
from tasks.release.record.run_record import RunRecord, read_record
from tasks.release.registry import versions as registry
from tasks.storage.intact import Damage, find_damage
from tasks.storage.reading import parse_json, read_stored
from tasks.storage.steps import MADE_OF, Step, open_step


def trace_row(state: Path, row: str) -> list[dict[str, Any]]:
    """One line per run that read the row.

    Raises:
        UserError: `row` is not FILE:LINE, or no run read such a row.
    """
    file, _, line = row.rpartition(":")
    if not file or not re.fullmatch("[0-9]{1,15}", line):
        raise UserError(
            f"'{row}' is not the place of a row", "trace", "write FILE:LINE, such as data/a.jsonl:17"
        )
    found = []
    for folder in sorted((state / "runs").glob("*")):
        record, lineage = read_record(folder), folder / "lineage.json"
        if not os.path.lexists(lineage) and not isinstance(record, RunRecord):
            continue
        run = _read_lineage(lineage, record)
        files = [
            name for name in run["data"] if name == file or os.path.realpath(name) == os.path.realpath(file)
        ]
        for name in files:
            found += _in_run(state, run, name, int(line))
    if not found:
        raise UserError(
            f"no finished run has read {row}",
            str(state / "runs"),
            "check file name and line (`ledger.json` lists the files)",
        )
    return found


def _read_lineage(file: Path, record: RunRecord | Damage | None) -> dict[str, Any]:
    """What a run was made of, if that is what it left.

    Raises:
        UserError: the file is damaged.
    """
    named = [one for one in record.files if one.path == file.name] if isinstance(record, RunRecord) else []
    damage = record if isinstance(record, Damage) else find_damage(file.parent, named, besides=None)
    try:
        lineage = parse_json(read_stored(file))
        whole = isinstance(lineage["run"], str) and all(
            isinstance(lineage[k], dict) for k in ("data", "steps")
        )
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        damage = damage or Damage(file, "is not a lineage that this program wrote")
    if damage is not None:
        what = f"which rows {file.parent.name} has read cannot be told: {damage.file.name} {damage.what}"
        raise UserError(what, str(damage.file), how_to_mend(file.parent))
    return dict(lineage)


def _in_run(state: Path, run: dict[str, Any], file: str, line: int) -> list[dict[str, Any]]:
    steps = run["steps"]
    removed = [folder for folder in _folders(state, steps) if not folder.exists()]
    if removed:
        unknown = f"not known: the step {removed[0].name} was removed"
        return [{"run": run["run"], "role": "", "fate": unknown, "steps": "", "models": _models(state, run)}]
    traces = []
    for label in [key.removeprefix("validate ") for key in steps if key.startswith("validate ")]:
        folder = _folder(state, "validate", steps[f"validate {label}"])
        if file not in _manifest(folder).inputs:
            continue
        trace = {
            "run": run["run"],
            "role": label,
            "fate": "not a row",
            "steps": "",
            "models": _models(state, run),
        }
        _manifest(_folder(state, "divide", steps["divide"]))
        for quarantine in folder.glob("quarantine-*.jsonl"):
            for text in read_stored(quarantine).decode().splitlines():
                row = parse_json(text)
                if row["file"] == file and row["line"] == line:
                    trace["fate"] = f"quarantined: {row['code']}"
        for step in _manifest(folder).facts[MADE_OF]:
            _manifest(folder.parent / step)
        for number, part in enumerate(_manifest(folder).facts["parts"]):
            index = _row_index(folder.parent / part, file, line)
            if index is not None:
                fate = Fate(
                    np.load(_folder(state, "divide", steps["divide"]) / f"{label}-{number:05d}.npy")[index]
                )
                trace["fate"] = fate.name.lower().replace("_", " ")
                if fate is Fate.ACCEPTED and label.split("-")[0] in ("domain", "replay"):
                    trace["steps"] = (
                        ", ".join(map(str, _trained_in(state, steps, label, number, index)))
                        or "none (cut off)"
                    )
        traces.append(trace)
    return traces


def _folders(state: Path, steps: dict[str, str]) -> Iterator[Path]:
    """The folders of a run's steps on its data, and of the steps of files that they put together."""
    for name, key in steps.items():
        if name != "train":
            folder = _folder(state, name.split()[0], key)
            yield folder
            if folder.exists():
                yield from (folder.parent / step for step in _manifest(folder).facts.get(MADE_OF, ()))


def _folder(state: Path, name: str, key: str) -> Path:
    return state / "data" / f"{name}-{key[:20]}"


def _manifest(folder: Path) -> Manifest:
    """What a step left, if its folder still holds it.

    Raises:
        UserError: a file of the step is damaged.
    """
    step = open_step(folder.parents[1], folder.name, thorough=False)
    if isinstance(step, Step):
        return step.manifest
    what = f"the step {folder.name} is damaged: {step}"
    raise UserError(
        what, str(step.file), f"run: rm -r {shlex.quote(str(folder))} (a run that needs it makes it anew)"
    )


def _row_index(part: Path, file: str, line: int) -> int | None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(part, columns=["file", "line"])
    hits = pc.and_(pc.equal(table["line"], line), pc.equal(table["file"].cast("string"), file))
    index = pc.index(hits, True).as_py()
    return index if index >= 0 else None


def _trained_in(state: Path, steps: dict[str, str], label: str, part: int, row: int) -> list[int]:
    """Optimizer steps (from 1) whose sequences hold a piece of the row."""
    plan = _folder(state, "plan", steps["plan"])
    manifest = _manifest(plan)
    sources = [key for key in manifest.inputs if key != "divided"]
    tokens = _folder(state, "tokenize", steps[f"tokenize {label}"])
    file = token_file(Step(tokens, _manifest(tokens)), part, "offsets")
    _manifest(file.parent)
    offsets = np.load(file)
    pieces, sequences = np.load(plan / "pieces.npy", mmap_mode="r"), np.load(plan / "sequences.npy")
    start, stop = offsets[row], offsets[row + 1]
    hits = (
        (pieces["source"] == sources.index(label))
        & (pieces["part"] == part)
        & (pieces["start"] >= start)
        & (pieces["start"] < stop)
    )
    found = np.searchsorted(sequences, np.flatnonzero(hits), side="right") - 1
    per_step = manifest.facts["report"]["sequences_per_step"]
    return sorted({int(sequence) // per_step + 1 for sequence in found})


def _models(state: Path, run: dict[str, Any]) -> str:
    name = run["run"].rsplit("-", 1)[0]
    try:
        known = registry.history(state, name)
    except UserError:  # killed before its release: nothing of this name is registered
        return ""
    versions = [h for h in known if h.run_id == run["run"]]
    return "; ".join(
        f"{name} version {h.version}{' (' + ', '.join(h.aliases) + ')' if h.aliases else ''}"
        for h in versions
    )
