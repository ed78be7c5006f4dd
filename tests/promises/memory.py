"""The stages on data in a process of its own: `python -m tests.promises.memory SPEC STATE` prints the peak of each."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def main(spec_file: str, state: str) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # without workers: all memory is here
    from data_contracts import gate
    from data_contracts.contract import list_contracts
    from flows.run.check import check
    from schemas.reading.load import load_spec
    from tasks.data.prepare import prepare, tokenize
    from tasks.data.validate import parquet_parts as parts
    from tasks.evaluation.suites.build import build_suites
    from tasks.training.models.weights import find_model

    # so that a small file has many, and as few of them are gated at once as of large ones (half a part's bytes)
    parts.PART_ROWS, parts.GROUP_ROWS, gate.TOGETHER_BYTES = 5_000, 5_000, 2**18
    spec = load_spec(Path(spec_file), (), list_contracts())
    assert isinstance(spec.base, str)
    base = find_model(spec.base)
    peaks: dict[str, int] = {}
    with _measured("check", peaks):
        check("general_text", [spec.replay[0].path])
    with _measured("prepare", peaks):
        prepared = prepare(Path(state), spec)
    with _measured("tokenize", peaks):
        tokenized = tokenize(Path(state), spec, prepared, base)
    with _measured("suites", peaks):
        suites = build_suites(spec, prepared, tokenized)
    assert all(sum(item.labels for item in suite.items) <= spec.evaluation.max_tokens for suite in suites)
    print(json.dumps(peaks))


@contextmanager
def _measured(stage: str, peaks: dict[str, int]) -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    yield
    # not getrusage: across exec it keeps the peak of the process that started this one
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
    peaks[stage] = peak * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
