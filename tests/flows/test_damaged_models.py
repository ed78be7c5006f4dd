"""A model folder with a fault is refused in three lines, or answers as it did: never an internal error, never in silence."""

import shutil
from pathlib import Path

import pytest

from tests.damages import (
    ADAPTER_REFUSED,
    BASE_HARMLESS,
    BASE_REFUSED,
    GIVES_UP,
    METHOD_REFUSED,
    Damage,
    edit,
)
from tests.in_process import Said, require_refusal, rootstock_here
from tests.tiny import put_on_base, write_tiny
from tests.tiny_base import make_base
from tests.tuned_folder import make_tuned


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """Somebody's LoRA adapter, saved by PEFT itself, with the base's tokenizer."""
    from peft import LoraConfig, get_peft_model

    from tasks.training.models.weights import load_plain

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
    folder = damaged(base, tmp_path, BASE_REFUSED[what])
    told = require_refusal(answer(folder))
    assert not (folder / "ran").exists(), "a pickle was opened"
    assert "rootstock-model-" not in told, "a place that only we know"


def test_a_tokenizer_that_gives_up_on_a_text_is_told(base: Path, spec: Path, tmp_path: Path) -> None:
    folder = damaged(base, tmp_path, edit("tokenizer.json", pre_tokenizer=GIVES_UP))
    told = require_refusal(rootstock_here("generate", str(folder), "x" * 40, "--max-new-tokens", "2"))
    assert "the tokenizer cannot encode a text" in told
    with (spec.parent / "domain.txt").open("a") as file:
        file.write("x" * 60 + "\n")
    given = ("--set", f"base={folder}", "--state", str(tmp_path / "state"), "--no-prefect")
    assert "the tokenizer cannot encode a text" in require_refusal(rootstock_here("run", str(spec), *given))


@pytest.mark.parametrize("what", ADAPTER_REFUSED)
def test_a_damaged_adapter_is_refused(what: str, adapter: Path, tmp_path: Path) -> None:
    folder = damaged(adapter, tmp_path, ADAPTER_REFUSED[what])
    require_refusal(answer(folder))
    assert not (folder / "ran").exists(), "a pickle was opened"


@pytest.mark.parametrize("what", METHOD_REFUSED)
def test_a_damaged_model_of_ours_is_refused(what: str, sparse: Path, tmp_path: Path) -> None:
    require_refusal(answer(damaged(sparse, tmp_path, METHOD_REFUSED[what])))


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return make_tuned(base, tmp_path_factory.mktemp("ours") / "sparse", "sparse", 1)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A specification of a few steps on short texts; its base is given by --set."""
    return put_on_base(write_tiny(tmp_path_factory.mktemp("tiny")), "based.yaml", "base: nowhere")


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    sorted(
        {*BASE_REFUSED}
        - {
            "dtype of nothing",
            "epsilon no number",  # scoring says so, with exit 3
            "eos in words",
            "frame odd",
            "frame a list",
            "added tokens a list",
            "special tokens a list",
        }
    ),
)
def test_no_run_and_no_scores_come_of_a_damaged_base(
    what: str, base: Path, spec: Path, tmp_path: Path
) -> None:
    folder = damaged(base, tmp_path, BASE_REFUSED[what])
    given = (str(spec), "--set", f"base={folder}", "--state", str(spec.parent / "state"))
    require_refusal(rootstock_here("evaluate", str(folder), *given[:1], "--set", f"base={base}", *given[3:]))
    require_refusal(rootstock_here("run", *given, "--no-prefect"))
    assert not (folder / "ran").exists(), "a pickle was opened"


@pytest.mark.parametrize("what", BASE_HARMLESS)
def test_what_is_not_read_changes_nothing(what: str, base: Path, tmp_path: Path) -> None:
    wanted = answer(base)
    assert wanted.code == 0, wanted.err
    assert answer(damaged(base, tmp_path, BASE_HARMLESS[what])) == wanted
