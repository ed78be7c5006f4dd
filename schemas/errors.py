"""Errors people read: what happened, where, and how to mend it; and the exit codes of the command line."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from schemas.environment import unexpanded
from schemas.visible import visible


class ExitCode(IntEnum):
    """Stable exit codes of the command line."""

    PROMOTE = 0
    CONTRACT_FAILED = 1
    BAD_SPECIFICATION = 2
    TRAINING_FAILED = 3
    REJECT = 10
    INCONCLUSIVE = 11
    DEFECT = 70
    """A mistake of ours: Python's own exit code 1 would read as a broken contract."""
    MACHINE_FAILED = 74
    """The disk is full, a folder may not be written, a worker was killed."""
    INTERRUPTED = 130
    NOBODY_READS = 141
    """Standard output was closed before its end, as `| head` does."""
    TERMINATED = 143


class UserError(Exception):
    """A mistake the user can mend. Printed as three lines; names places, never the content of data."""

    exit_code = ExitCode.BAD_SPECIFICATION

    def __init__(self, what: str, where: str, fix: str):
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        what, where, fix = (visible(unexpanded(part)) for part in (self.what, self.where, self.fix))
        return f"{what}\n  where: {where}\n  fix: {fix}"


class UserErrors(UserError):
    """Every mistake of one file, found in one reading."""

    def __init__(self, errors: Sequence[UserError]):
        first = errors[0]
        super().__init__(first.what, first.where, first.fix)
        self.errors = list(errors)

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross from a worker process whole: by default pickle would call this class with the first error's texts."""
        return type(self), (self.errors,)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class ContractFailed(UserError):
    """Data broke its contract: nothing was trained."""

    exit_code = ExitCode.CONTRACT_FAILED
    reports: tuple[Any, ...] = ()
    """The GateReport of every dataset, those that passed too."""


class TrainingFailed(UserError):
    """Training could not go on; the last complete checkpoint is kept."""

    exit_code = ExitCode.TRAINING_FAILED


class MachineFailed(UserError):
    """The machine could not do what was asked; what is finished is kept."""

    exit_code = ExitCode.MACHINE_FAILED


class WorkerKilled(MachineFailed):
    """A worker process was killed from outside: the same work may well succeed at the next attempt."""


class NoNewData(UserError):
    """An increment has nothing to learn: a quick success, not a mistake."""

    exit_code = ExitCode.PROMOTE


class LedgerImbalance(Exception):
    """Rows were lost or invented: a defect of ours, so the run stops."""
