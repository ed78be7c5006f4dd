"""Read files once per content: a step a file, whatever source or role it is read for. Many small files share steps."""

import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from schemas.results.artifacts import RowCounts
from schemas.spec.records import RECORDS, RecordKind
from schemas.spec.sources import Source
from tasks.data.read.entity_schemes import with_schemes
from tasks.data.read.instruction_layouts import with_layouts
from tasks.data.read.shards import Shard, plan_shards
from tasks.data.validate.validate_shard import ReadRows, validate_shards
from tasks.storage.code import code_version
from tasks.storage.hashing import sha256_file
from tasks.storage.steps import Step, StepPlan, hold, run_step
from tasks.storage.workers import ShardMap, fitting

NOT_READ = {"path", "files", "contract", "weight", "task"}
"""Keys of a source that do not change how a file of it is read."""
MOST_STEPS = 128
"""So many files of a source have a step each; of more, small ones share."""
SMALL_BYTES = 2**20
AT_ONCE = 128
"""Steps whose shards are mapped together: enough for many workers; what was read before a kill is kept."""


def hash_files(files: Sequence[str]) -> dict[str, str]:
    """sha256 of each file.

    Raises:
        UserError: a file cannot be read.
    """
    hashes = {}
    for file in files:
        try:
            hashes[file] = sha256_file(Path(file))
        except OSError as error:
            fix = "check its permissions and the disk"
            raise UserError(f"cannot read the file: {error.strerror}", file, fix) from None
    return hashes


def share_steps(sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The files in their order, those together that share a step; `sizes` in bytes.

    Of more than MOST_STEPS files, small neighbours share one. Where it ends is told by a hash of a file's name, so that
    one file more or less changes the step that it falls into, and no other.
    """
    import xxhash

    every = 1
    while len(sizes) > MOST_STEPS * every:
        every *= 2
    shared: list[tuple[str, ...]] = []
    held: tuple[str, ...] = ()
    for file, size in sizes.items():
        small = size < SMALL_BYTES
        if held and not small:
            shared.append(held)
            held = ()
        held = (*held, file)
        if not small or xxhash.xxh3_64_intdigest(file.encode()) % every == 0:
            shared.append(held)
            held = ()
    return [*shared, held] if held else shared


def read_files(
    root: Path,
    source: Source,
    files: Sequence[str],
    map_shards: ShardMap,
    record: RecordKind = "text",
    labels: tuple[str, ...] | None = None,
) -> tuple[dict[str, str], list[Step]]:
    """Read and validate files of a source; return the sha256 of each, and the steps that hold their rows, in their order.

    Raises:
        UserError: a file cannot be read in its format, or changed while it was read.
    """
    before = {file: _state_of(file) for file in files}
    hashes = hash_files(files)
    settings = [source.model_dump(mode="json", exclude=NOT_READ), record, labels]
    code = code_version(__name__)
    plans = [
        StepPlan(root, "read", {file: hashes[file] for file in shared}, settings, code)
        for shared in share_steps({file: state[1] if state else 0 for file, state in before.items()})
    ]

    def read(missing: Sequence[StepPlan]) -> None:
        shards = [plan_shards(source, list(p.inputs), record=record, labels=labels) for p in missing]
        size = sum(state[1] for p in missing for file in p.inputs if (state := before[file]))
        _read(missing, shards, fitting(map_shards, size), before)

    return hashes, run_missing(root, plans, read)


def run_missing(
    root: Path, plans: Sequence[StepPlan], work: Callable[[Sequence[StepPlan]], None]
) -> list[Step]:
    """The finished steps of all plans, doing `work` for those that are not, AT_ONCE at a time, in scratch folders.

    One process at a time does so in a state folder: scratch folders are named like steps, and two runs may share some.
    """
    found = [plan.finished() for plan in plans]
    if not all(found):
        with hold(root, f"steps-{plans[0].name}"):
            missing = [plan for plan in plans if plan.finished() is None]
            for start in range(0, len(missing), AT_ONCE):
                some = missing[start : start + AT_ONCE]
                try:
                    for plan in some:
                        shutil.rmtree(plan.scratch, ignore_errors=True)  # left by a killed process
                        plan.scratch.mkdir(parents=True)
                    work(some)
                finally:
                    for plan in some:
                        shutil.rmtree(plan.scratch, ignore_errors=True)
        found = [plan.finished() for plan in plans]
    assert all(found)
    return [step for step in found if step is not None]


def _read(
    plans: Sequence[StepPlan],
    shards: Sequence[Sequence[Shard]],
    map_shards: ShardMap,
    before: Mapping[str, Any],
) -> None:
    """Do several steps: all their shards are mapped together, then each folder is put in place."""
    told, layouts = with_layouts([shard for of_step in shards for shard in of_step])
    ready = iter(with_schemes(told, map_shards))
    jobs = []
    for plan, of_step in zip(plans, shards, strict=True):
        own = [next(ready) for _ in of_step]
        jobs += [(own, plan)] if len(plan.inputs) > 1 else [([shard], plan) for shard in own]
    results = map_shards(read_job, [(own, plan.scratch) for own, plan in jobs])
    changed = [file for plan in plans for file in plan.inputs if _state_of(file) != before[file]]
    if changed:
        fix = "run the same command again when nothing writes to the file"
        raise UserError("the file changed while it was being read", ", ".join(changed[:3]), fix)
    for plan in plans:
        made = [(own, result) for (own, owner), result in zip(jobs, results, strict=True) if owner is plan]
        run_step(plan, functools.partial(_finish, plan, made, layouts))


def read_job(job: tuple[list[Shard], Path]) -> ReadRows:
    """In a worker: read some shards into the scratch folder of their step."""
    shards, folder = job
    return validate_shards(shards, folder)


def _finish(
    plan: StepPlan, made: Sequence[tuple[list[Shard], ReadRows]], layouts: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """Put what workers wrote into the step's folder; its facts."""
    for file in sorted(plan.scratch.iterdir()):
        file.rename(folder / file.name)
    counts = {file: RowCounts(file=file) for file in plan.inputs}
    for _, result in made:
        for count in result.counts:
            counts[count.file] += count
    parts = [part for _, result in made for part in result.parts]
    shards = [shard for own, _ in made for shard in own]
    return {
        "parts": parts,
        "part_rows": [_num_rows(folder / part) for part in parts],
        "quarantine": sorted(file.name for file in folder.glob("quarantine-*.jsonl")),
        "counts": [count.model_dump(mode="json") for count in counts.values()],
        "layouts": {file: layouts[file] for file in plan.inputs if file in layouts},
        "schemes": {s.file: s.scheme for s in shards if RECORDS[s.record].has_scheme},
    }


def _num_rows(part: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(part).num_rows)


def _state_of(file: str) -> tuple[int, int, int] | None:
    """What a file system says of a file's content: equal before and after means unchanged."""
    try:
        stat = Path(file).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
