"""SIGTERM, Ctrl-C and a closed terminal: a word on standard error, everything unwound, a documented exit code.

The first one raises in the main thread, so that whatever is open is closed (a server, locks, half-written folders); the second
ends the process where it stands, and its children with it (`die_with`). Training takes them over while it lasts: it finishes
its step and writes a checkpoint first (`tasks/training/loop/progress.py`).
"""

import atexit
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from schemas.errors import ExitCode

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TOLD = {signal.SIGINT: "Ctrl-C", signal.SIGHUP: "SIGHUP (the terminal was closed)"}

Handler = Callable[[int, FrameType | None], Any]


class Asked(SystemExit):
    """This process was asked to end. No `Exception`: nothing on the way may take it for a failure and go on."""

    def __init__(self, number: int):
        super().__init__(exit_code(number))
        self.number = number


def exit_code(number: int) -> int:
    """130 after Ctrl-C; 143 after SIGTERM and a closed terminal."""
    return int(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)


def told(number: int) -> str:
    """The signal in words: SIGTERM, Ctrl-C, SIGHUP (the terminal was closed)."""
    return TOLD.get(signal.Signals(number), signal.Signals(number).name)


def take_signals(handler: Handler) -> dict[int, Any]:
    """Let `handler` take what asks for an end; return who took it before. What is ignored (`nohup`) stays ignored."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in STOPPING}
    taken = {number: held for number, held in before.items() if held != signal.SIG_IGN}
    for number in taken:
        signal.signal(number, handler)
    return taken


def end_when_asked() -> None:
    """From now on a signal ends this process as described above."""
    asked = False

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal asked
        leave_lost_terminal()
        if asked:
            say(f"{told(number)} again: stopped at once")
            os._exit(exit_code(number))
        asked = True
        raise Asked(number)

    take_signals(end)
    atexit.register(_ignore_signals)  # registered first, so it comes last


def _ignore_signals() -> None:
    """Take no signal in the last moment: the interpreter gives up its handlers, and would die of one with another code."""
    for number in STOPPING:
        with suppress(ValueError):  # not in the main thread
            signal.signal(number, signal.SIG_IGN)


def say(line: str) -> None:
    """Write a line to standard error, whatever became of it; safe in a signal handler."""
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def leave_lost_terminal() -> None:
    """Write nowhere from now on if our terminal is gone: each line would fail, and end what is still to be saved."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
