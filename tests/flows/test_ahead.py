"""Libraries are loaded while something else is waited for; what stops them shows, and who leaves is not kept waiting."""

import importlib
import sys
import threading
from pathlib import Path

import pytest

from flows.serving import ahead
from flows.serving.ahead import loading_ahead


def test_what_is_wanted_is_there_when_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, done = threading.Event(), []

    def load() -> None:
        begun.wait(10)
        done.append(threading.current_thread() is not threading.main_thread())

    monkeypatch.setattr(ahead, "_import_all", load)
    with loading_ahead():
        assert not done
        begun.set()
    assert done == [True]


def test_a_library_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_import_all", lambda: importlib.import_module("no_such_library"))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"), loading_ahead():
        pass


def test_who_is_stopped_waits_for_one_import_not_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(200):
        (tmp_path / f"slow_{number}.py").write_text("import time\ntime.sleep(0.05)\n")
    loaded: list[int] = []

    def load() -> None:
        for number in range(200):
            try:
                importlib.import_module(f"slow_{number}")
            except Exception:
                continue  # as a library does without what it finds missing
            loaded.append(number)

    monkeypatch.setattr(ahead, "_import_all", load)
    finders = list(sys.meta_path)
    with pytest.raises(KeyboardInterrupt), loading_ahead():
        raise KeyboardInterrupt
    assert len(loaded) < 100
    assert sys.meta_path == finders
    assert "loading-ahead" not in [thread.name for thread in threading.enumerate()]
