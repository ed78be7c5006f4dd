"""What people see while a run goes on: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from flows.progress.terminal import console, tell
from schemas.results.artifacts import StepMetrics
from schemas.visible import printable, visible


class Watch(Protocol):
    """Where a run reports to. Every method may be called from the run's own thread only."""

    seconds: dict[str, float]

    def stage(self, name: str) -> Any: ...
    def note(self, text: str) -> None: ...
    def trained(self, metrics: StepMetrics, steps: int) -> None: ...
    def scored(self, done: int, total: int) -> None: ...


class Silent:
    """Measure the stages and print nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def note(self, text: str) -> None: ...
    def trained(self, metrics: StepMetrics, steps: int) -> None: ...
    def scored(self, done: int, total: int) -> None: ...


class Console(Silent):
    """Stages, notes and progress on standard error; standard output is left to results."""

    def __init__(self) -> None:
        super().__init__()
        self.out = console(stderr=True, soft_wrap=True)
        self.live: Any = None
        self.bar: Any = None
        self.last_line = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.out.print(visible(name), style="bold")
        with super().stage(name):
            try:
                yield
            finally:
                self._close()
        self.out.print(f"  {self.seconds[name]:.1f} s", style="dim")

    def note(self, text: str) -> None:
        self.out.print(printable(f"  {visible(text)}"))

    def trained(self, metrics: StepMetrics, steps: int) -> None:
        left = (steps - metrics.step) / max(metrics.step, 1) * metrics.seconds
        memory = metrics.peak_memory_bytes / 2**30
        text = (
            f"step {metrics.step}/{steps}  loss {metrics.loss:.3f}  {metrics.tokens_per_second:,.0f} tokens/s"
            f"  {memory:.1f} GiB  {left:.0f} s left"
        )
        self._progress(metrics.step, steps, text)

    def scored(self, done: int, total: int) -> None:
        self._progress(done, total, f"scored {done:,}/{total:,} tokens")

    def _progress(self, done: int, total: int, text: str) -> None:
        if self.out.is_terminal:
            if self.live is None:
                from rich.progress import BarColumn, Progress, TextColumn

                self.live = Progress(
                    TextColumn(" "),
                    BarColumn(30),
                    TextColumn("{task.description}", markup=False),
                    console=self.out,
                    transient=True,
                )
                self.live.start()
                self.bar = self.live.add_task(text, total=total)
            self.live.update(self.bar, completed=done, description=text)
        elif time.monotonic() - self.last_line > 5 or done == total:
            self.last_line = time.monotonic()
            tell(f"  {text}")

    def _close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None
