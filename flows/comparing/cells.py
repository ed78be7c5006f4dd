"""Trainings of a comparison: each in a process of its own that leaves a file, so a stopped comparison goes on where it was."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from pydantic import ValidationError

from flows.comparing.handed_back import read_error
from schemas.errors import ExitCode, MachineFailed, UserError
from schemas.results.comparison import Trained
from schemas.spec.run import RunSpec
from tasks.storage.atomic import write_atomic
from tasks.storage.children import die_with
from tasks.storage.reading import read_stored

Job = tuple[str, RunSpec]
"""What people know a training by, and all that it is."""
RunJobs = Callable[[Sequence[Job], Path, Path], list[Trained]]
"""(jobs, state folder, folder of the results) -> a result each, in their order."""


def result_file(folder: Path, state: Path, spec: RunSpec) -> Path:
    """Where a training's result lies; named by everything that decides it."""
    from tasks.release.run.run_folder import RunFolder

    return folder / "cells" / f"{RunFolder.open(state, spec).id}.json"


class Stopped(Exception):
    """A training was not begun, or was stopped, because another one failed or an end was asked for."""


class Trainings:
    """The processes of one comparison: the first failure stops those that run, and no other begins."""

    def __init__(self) -> None:
        self.failure: UserError | None = None
        """What went wrong first."""
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self, command: Sequence[str], log: Path) -> int:
        """Run one process to its end; what it says goes to `log`.

        In a group of its own: Ctrl-C on a terminal would reach it twice, and the second time it stops without a checkpoint.

        Raises:
            Stopped: none may begin any more.
        """
        with self._lock:
            if self._ended:
                raise Stopped
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, process_group=0,
                    preexec_fn=functools.partial(die_with, os.getpid()),
                )  # fmt: skip
            self._running.add(process)
        try:
            return process.wait()
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self, failure: UserError | None = None) -> None:
        """Begin no more, and ask those that run to end: a training writes a checkpoint first."""
        with self._lock:
            if not self._ended:
                self._ended, self.failure = True, failure
                for process in self._running:
                    process.terminate()


def run_processes(parallel: int, note: Callable[[str], None]) -> RunJobs:
    """Run jobs as processes, at most `parallel` at a time; those whose result is there are read."""

    def run(jobs: Sequence[Job], state: Path, folder: Path) -> list[Trained]:
        trainings = Trainings()
        with ThreadPoolExecutor(parallel) as pool:
            try:
                futures = [pool.submit(run_cell, job, state, folder, note, trainings) for job in jobs]
                wait(futures, return_when=FIRST_EXCEPTION)
            except BaseException:  # Ctrl-C, or another signal that was made an exception
                trainings.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            if trainings.failure is not None:
                raise trainings.failure
        return [future.result() for future in futures]

    return run


def run_cell(
    job: Job, state: Path, folder: Path, note: Callable[[str], None], trainings: Trainings
) -> Trained:
    """Do one job in a process of its own, unless it was done before.

    Raises:
        UserError: it failed, and not because of what is compared; the other trainings are stopped.
        Stopped: another one failed before.
    """
    name, spec = job
    file = result_file(folder, state, spec)
    try:
        result = _read(file) or _train(file, job, state, trainings)
    except Exception as failure:
        trainings.stop(failure if isinstance(failure, UserError) else None)
        raise
    note(told(name, result))
    return result


def _read(file: Path) -> Trained | None:
    """A result that is there and whole; what is damaged is made again, from steps that are finished."""
    try:
        return Trained.model_validate_json(read_stored(file))
    except (OSError, ValidationError):
        return None


def _train(file: Path, job: Job, state: Path, trainings: Trainings) -> Trained:
    name, spec = job
    job_file, left, log = file.with_suffix(".job"), file.with_suffix(".error"), file.with_suffix(".log")
    write_atomic(job_file, json.dumps({"spec": spec.model_dump(mode="json"), "state": str(state)}))
    left.unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "flows.comparing.cell", str(job_file), str(file), str(left)]
    try:
        code = trainings.run(command, log)
    finally:
        job_file.unlink()
    if code == 0 and (result := _read(file)) is not None:
        log.unlink()
        return result
    failure = read_error(left)
    if failure is None:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        fix = f"see {log}, then run the same command again: finished trainings are kept"
        raise MachineFailed(f"a training of the comparison died without a word ({how})", name, fix)
    left.unlink()
    if failure.exit_code == ExitCode.DEFECT:
        sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))  # its traceback
    raise failure


def told(name: str, result: Trained) -> str:
    """One line of progress."""
    if result.scores is None:
        return f"{name}: refused: {result.refused}"
    scores = result.scores
    changes = (
        f"{suite.name} {scores.value(suite, 'base'):.3f} -> {scores.value(suite, 'candidate'):.3f} {scores.unit_of(suite)}"
        for suite in scores.suites
    )
    return f"{name}: {', '.join(changes)}"
