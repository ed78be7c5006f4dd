"""Turn validated rows into token ids, in worker processes, once per (rows, tokenizer).

One path for training, scoring and serving: ids = [BOS if the tokenizer adds one] + text + [EOS]. For a head on an
encoder the tokenizer's own frame is used, such as [CLS] + text + [SEP]. Special tokens that occur inside a text are
ordinary text. Instructions: see `prompts`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.spec.records import RecordKind
from tasks.data.tokens.prompts import Frame, frame_work
from tasks.data.tokens.tagged_words import tokenize_words
from tasks.data.tokens.text import tokenize_part
from tasks.data.tokens.tokenizer import tokenizer_sha256
from tasks.data.validate.file_steps import run_missing
from tasks.data.validate.sources import PreparedSource
from tasks.storage.code import code_version
from tasks.storage.steps import MADE_OF, Step, StepPlan, run_step
from tasks.storage.workers import ShardMap, fitting, map_in_processes


def tokenize_source(
    root: Path,
    source: PreparedSource,
    tokenizer_folder: Path,
    map_shards: ShardMap = map_in_processes,
    record: RecordKind = "text",
    frame: Frame | None = None,
) -> Step:
    """Tokenise every validated row of a source, each file once (whatever its fate: a new split tokenises nothing).

    Tagged words are encoded one by one, so that each id belongs to one word. Prompts of instructions stand in a frame.
    """
    sha256, version = tokenizer_sha256(tokenizer_folder), code_version(__name__)
    settings = [record, None if frame is None else asdict(frame)]
    plans = [
        StepPlan(root, "encode", {"rows": key, "tokenizer": sha256}, settings, version)
        for key, _ in source.steps
    ]
    parts = {plan.key: own for plan, (_, own) in zip(plans, source.steps, strict=True)}

    def encode(missing: Sequence[StepPlan]) -> None:
        jobs = [(plan, str(part)) for plan in missing for part in parts[plan.key]]
        scratch = missing[0].scratch
        work_one = _work(record, tokenizer_folder, scratch, frame)
        size = sum(Path(part).stat().st_size for _, part in jobs)
        numbered = [(part, number) for number, (_, part) in enumerate(jobs)]
        counts = fitting(map_shards, size)(work_one, numbered)
        written = _by_number(scratch)
        for plan in missing:
            numbers = [number for number, (owner, _) in enumerate(jobs) if owner is plan]
            files = [written[number] for number in numbers]
            tokens = sum(counts[number] for number in numbers)
            run_step(plan, functools.partial(_put_in_place, files, tokens))

    steps = run_missing(root, plans, encode)
    merged = StepPlan(
        root=root,
        name="tokenize",
        inputs={"rows": source.validated.key, "tokenizer": sha256},
        settings=[step.key for step in steps],
        code=version,
    )
    return run_step(merged, functools.partial(_merge, steps))


def _work(
    record: RecordKind, tokenizer_folder: Path, out: Path, frame: Frame | None
) -> Callable[[tuple[str, int]], int]:
    """What workers do with (part, number): write its `tokens-N.bin` and what belongs to it, and count its tokens."""
    folder, to = str(tokenizer_folder), str(out)
    if record == "tagged_tokens":
        return functools.partial(tokenize_words, tokenizer_folder=folder, out=to)
    if record == "instruction":
        assert frame is not None
        return frame_work(tokenizer_folder, out, frame)
    return functools.partial(tokenize_part, tokenizer_folder=folder, out=to, framed=record == "labeled_text")


def _by_number(folder: Path) -> dict[int, list[Path]]:
    """The files that were written of each part."""
    found: dict[int, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        found.setdefault(int(file.stem.rpartition("-")[2]), []).append(file)
    return found


def _put_in_place(files: Sequence[Sequence[Path]], tokens: int, folder: Path) -> dict[str, Any]:
    """Move what was written of some parts into a step's folder, numbered from 0."""
    for number, of_part in enumerate(files):
        for file in of_part:
            file.rename(folder / f"{file.stem.rpartition('-')[0]}-{number:05d}{file.suffix}")
    return {"tokens": tokens, "parts": len(files)}


def _merge(steps: Sequence[Step], _folder: Path) -> dict[str, Any]:
    """The tokens of a source: those of its files, which stay where they are."""
    return {
        "tokens": sum(step.facts["tokens"] for step in steps),
        MADE_OF: [step.folder.name for step in steps],
        "parts": [
            (place, number) for place, step in enumerate(steps) for number in range(step.facts["parts"])
        ],
    }
