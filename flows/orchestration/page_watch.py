"""What a run reports while it goes on, for Prefect's page: log lines and progress bars."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger

from flows.progress.watch import Silent, Watch
from schemas.results.artifacts import StepMetrics
from schemas.visible import printable, visible
from tasks.page import Bar, artifact_key

SECONDS_BETWEEN_LOG_LINES = 30.0


class PageWatch(Silent):
    """Pass everything on to another watch, and show it on the page as well."""

    def __init__(self, name: str, console: Watch):
        super().__init__()
        self.name, self.console = name, console
        self.bar: Bar | None = None
        self.logged = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._log(name)
        self.bar, self.logged = None, 0.0
        with super().stage(name), self.console.stage(name):
            yield
        if self.bar is not None:
            self.bar.close()

    def note(self, text: str) -> None:
        self._log(text)
        self.console.note(text)

    def trained(self, metrics: StepMetrics, steps: int) -> None:
        self.console.trained(metrics, steps)
        left = (steps - metrics.step) / max(metrics.step, 1) * metrics.seconds
        self._progress(
            "training", metrics.step, steps,
            f"step {metrics.step:,} of {steps:,}, loss {metrics.loss:.3f},"
            f" {metrics.tokens_per_second:,.0f} tokens/s, {left:,.0f} s left",
        )  # fmt: skip

    def scored(self, done: int, total: int) -> None:
        self.console.scored(done, total)
        self._progress("scoring", done, total, f"scored {done:,} of {total:,} tokens")

    def _progress(self, what: str, done: int, total: int, text: str) -> None:
        if self.bar is None:
            self.bar = Bar(artifact_key(self.name, what))
        self.bar.show(done, total, text)
        if time.monotonic() - self.logged > SECONDS_BETWEEN_LOG_LINES or done == total:
            self.logged = time.monotonic()
            self._log(text)

    def _log(self, text: str) -> None:
        logger: logging.Logger | logging.LoggerAdapter[Any] = get_run_logger()
        logger.info(printable(visible(text)))
