"""Load the libraries of a run while something else is waited for: they take longer to import than a small run takes.

The caller only waits meanwhile, and imports nothing: two threads that import parts of one library may each find the
other's unfinished.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Stopped(BaseException):
    """Nobody needs the libraries any more. No `Exception`: no library may take it for a missing module and go on."""


@contextmanager
def loading_ahead() -> Iterator[None]:
    """Import in a thread what a run will want; the block ends when all is there.

    If the block is left by an exception (Ctrl-C, a server that does not start), the thread ends with its next import: one
    that the interpreter ends in the middle of a library's start may take the process down with it.

    Raises:
        ImportError: and whatever else the import of a library raises.
    """
    stop = threading.Event()
    raised: list[BaseException] = []

    def load() -> None:
        gate = _Gate(threading.get_ident(), stop)
        sys.meta_path.insert(0, gate)
        try:
            _import_all()
        except BaseException as error:
            raised.append(error)
        finally:
            sys.meta_path.remove(gate)

    thread = threading.Thread(target=load, name="loading-ahead", daemon=True)
    thread.start()
    try:
        yield
        thread.join()
    finally:
        stop.set()
        thread.join()
    for error in raised:
        raise error


class _Gate:
    """Asked first for every module; lets a thread's imports through until they are not wanted any more."""

    def __init__(self, thread: int, stop: threading.Event):
        self.thread, self.stop = thread, stop

    def find_spec(self, _name: str, _path: object = None, _target: object = None) -> Any:
        """No module is here.

        Raises:
            _Stopped: see the class.
        """
        if self.stop.is_set() and threading.get_ident() == self.thread:
            raise _Stopped
        return None


def _import_all() -> None:
    from data_contracts.gate import load_library

    load_library()
    from tasks.training.models.quiet import load_libraries

    load_libraries()
