"""A tokenizer that is on every machine, and the data folder where there is one."""

import os
from pathlib import Path

import pytest

from tests.tiny_base import TINY, prose, whitespace


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of a model from scratch (no weights: importing torch takes seconds)."""
    from tasks.training.models.scratch import save_tokenizer, train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(
        train_tokenizer(lambda: iter([*prose(), *whitespace()]), TINY), folder, TINY.context_length
    )
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    root = os.environ.get("ROOTSTOCK_DATA")
    if not root:
        pytest.skip("ROOTSTOCK_DATA is not set: the real texts are not on this machine")
    return Path(root)
