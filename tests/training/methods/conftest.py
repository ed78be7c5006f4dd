"""Bases for methods that need wider layers than the tiny one has, or biases."""

from pathlib import Path

import pytest

from tests.tiny_base import TINY, make_base
from tests.training.methods.tiny_models import tiny_gpt2

pytest.register_assert_rewrite("tests.training.methods.promises")


@pytest.fixture(scope="session")
def wide_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layer takes 64 inputs: a whole block of a 4-bit weight."""
    wide = TINY.model_copy(update={"hidden_size": 64, "intermediate_size": 64})
    return make_base(tmp_path_factory.mktemp("wide") / "model", wide)


@pytest.fixture(scope="session")
def biased_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every layer has biases."""
    folder = tmp_path_factory.mktemp("biased")
    return tiny_gpt2(make_base(folder / "llama"), folder / "model")
