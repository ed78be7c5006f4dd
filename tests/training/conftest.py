"""Tiny models on the CPU, and processes that already hold torch so that a kill test takes a second."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # bit-equal results are promised on the CPU

from schemas.spec.run import RunSpec
from tests.tiny_base import make_base
from tests.training.prepared import train_in_process

Start = Callable[..., multiprocessing.Process]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only slow down models this small."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State of the data stages, shared by all tests."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def start(root: Path) -> Start:
    """(spec, state, killed_at) -> a training process; a fork server imports the libraries once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.prepared", "tasks.training.loop.trainer", "peft"])

    def begin(spec: RunSpec, state: Path, killed_at: int | None = None) -> multiprocessing.Process:
        process = context.Process(
            target=train_in_process,
            args=(str(root), spec.model_dump_json(), str(state), killed_at),
            daemon=True,
        )
        process.start()
        return process

    return begin
