"""A model folder with a fault is refused in three lines, or answers as it did: never an internal error, never in silence."""

import shutil
from pathlib import Path

import pytest

from tests.damages import (
    ADAPTER_REFUSED,
    BASE_HARMLESS,
    BASE_REFUSED,
    Damage,
)
from tests.in_process import Said, require_refusal, rootstock_here
from tests.tiny_base import make_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """Somebody's LoRA adapter, saved by PEFT itself, with the base's tokenizer."""
    from peft import LoraConfig, get_peft_model

    from tasks.training.models import load_plain

    folder = tmp_path_factory.mktemp("peft") / "adapter"
    tuned = get_peft_model(
        load_plain(base), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    return folder


def damaged(good: Path, tmp_path: Path, damage: Damage) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    damage(folder)
    return folder


def answer(folder: Path) -> Said:
    return rootstock_here("generate", str(folder), "The old river", "--max-new-tokens", "3", "--seed", "4")


@pytest.mark.parametrize("what", BASE_REFUSED)
def test_a_damaged_base_is_refused(what: str, base: Path, tmp_path: Path) -> None:
    told = require_refusal(answer(damaged(base, tmp_path, BASE_REFUSED[what])))
    assert "rootstock-model-" not in told, "a place that only we know"


@pytest.mark.parametrize("what", ADAPTER_REFUSED)
def test_a_damaged_adapter_is_refused(what: str, adapter: Path, tmp_path: Path) -> None:
    require_refusal(answer(damaged(adapter, tmp_path, ADAPTER_REFUSED[what])))


@pytest.mark.parametrize("what", BASE_HARMLESS)
def test_what_is_not_read_changes_nothing(what: str, base: Path, tmp_path: Path) -> None:
    wanted = answer(base)
    assert wanted.code == 0, wanted.err
    assert answer(damaged(base, tmp_path, BASE_HARMLESS[what])) == wanted
