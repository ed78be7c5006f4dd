"""What a method cannot do on the base at hand is refused before anything is scored, and changes nothing that is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch

import tasks.training.methods.lora as lora_file
from flows.comparing.cell import train_cell
from flows.progress.watch import Silent
from flows.run.journey import measure
from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.model.folder import model_sha256
from tasks.training.attach import require_method
from tasks.training.methods.registry import METHODS
from tasks.training.step import training_plan
from tasks.training.train import train
from tests.command_line import ROOT
from tests.corpora import make_spec, source, write_rows
from tests.counted_calls import Calls
from tests.tiny_base import make_base, prose
from tests.training.prepared import prepare_inputs, spec_of


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    text = "".join(prose("zh_*"))
    chinese = [text[start : start + 60] for start in range(0, len(text), 60)]
    write_rows(folder / "domain.jsonl", [line[:300] for line in prose("en_*")])
    write_rows(folder / "general.jsonl", chinese[:60])
    write_rows(folder / "replay.jsonl", chinese[60:])
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model")


def spec_with(files: Path, method: dict[str, Any], **changes: Any) -> RunSpec:
    values: dict[str, Any] = {
        "base": str(ROOT / "assets/base"),
        "domain": [source(files / "domain.jsonl")],
        "replay": [source(files / "replay.jsonl")],
        "mixture": {"replay_ratio": 0.2},
        "evaluation": {"domain_holdout": 0.1, "general": [source(files / "general.jsonl")]},
        "training": {"steps": 3, "sequence_length": 64, "batch_tokens": 256, "learning_rate": 0.01},
        "method": method,
    }
    return make_spec(**values | changes)


REFUSED = {
    "no biases": ({"kind": "bitfit"}, "LlamaForCausalLM has no biases", "method.kind"),
    "too few steps": ({"kind": "adalora", "final_ratio": 0.7}, "AdaLoRA cannot allocate ranks in 3 steps", "method.final_ratio"),
    "no room": ({"kind": "prompt_tuning", "virtual_tokens": 500}, "500 virtual tokens and texts of 64 are more than", "method.virtual_tokens"),
    "no such module": ({"kind": "lora", "target_modules": ["wq"]}, "method.target_modules: the model has no linear layer named wq", "method.target_modules"),
    "no such module, split": ({"kind": "lora", "init": "pissa", "target_modules": ["wq"]}, "method.target_modules: the model has no linear layer named wq", "method.target_modules"),
    "no such module, singular": ({"kind": "osf", "target_modules": ["wq"]}, "method.target_modules: the model has no linear layer named wq", "method.target_modules"),
    "no such module, masked": ({"kind": "fisher", "target_modules": ["wq"]}, "method.target_modules: the model has no linear layer named wq", "method.target_modules"),
    "too many layers": ({"kind": "selective", "layers": 500}, "500 layers are to train, but the model has", "method.layers"),
    "too many layers by gradient": ({"kind": "selective", "choose": "gradient", "layers": 500}, "500 layers are to train, but the model has", "method.layers"),
    "no such pattern": ({"kind": "selective", "choose": "patterns", "patterns": ["*.nothing"]}, "no parameter of the model matches *.nothing", "method.patterns"),
    "all adapters dropped": ({"kind": "adapter_drop", "drop_blocks": 500}, "blocks would lose their adapters", "method.drop_blocks"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_base_cannot_have_is_refused_before_anything_is_scored(files: Path, case: str) -> None:
    method, what, where = REFUSED[case]
    calls = Calls()
    with pytest.raises(UserError) as error:
        measure(spec_with(files, method), files / "state", Silent(), calls)
    assert what in error.value.what
    assert error.value.where == where
    assert error.value.fix
    assert calls.seen["tokenize"] == 1
    assert calls.seen["score_model"] == calls.seen["train"] == 0


def test_a_budget_refuses_before_its_proxies_are_scored(files: Path) -> None:
    spec = spec_with(
        files,
        {"kind": "adalora", "warmup_ratio": 0.0, "final_ratio": 0.95},
        training={"steps": 60, "sequence_length": 64, "batch_tokens": 256, "learning_rate": 0.01},
        mixture={
            "forgetting_budget": 0.05,
            "proxies": {"ratios": [0, 0.1, 0.3, 0.5], "further_ratios": [], "lengths": [0.2, 0.5]},
        },
    )
    calls = Calls()
    with pytest.raises(UserError, match="cannot allocate ranks in 12 steps"):
        measure(spec, files / "state", Silent(), calls)
    assert calls.seen["score_model"] == calls.seen["train"] == 0


def test_a_method_refused_in_a_comparison_costs_nothing_there(files: Path) -> None:
    for method, what in (
        ({"kind": "bitfit"}, "has no biases"),
        ({"kind": "adalora", "final_ratio": 0.7}, "cannot allocate ranks"),
    ):
        state = files / f"cell-{method['kind']}"
        result = train_cell(spec_with(files, method), state)
        assert result.refused is not None
        assert what in result.refused
        assert result.scores is None
        assert not list((state / "data").glob("score-*"))


@pytest.mark.parametrize("method", [{"kind": "full"}, {"kind": "lora"}, {"kind": "fisher", "samples": 3}])
def test_the_trial_changes_nothing_that_is_trained(
    base: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    spec = spec_of(tmp_path, base, method=method, training={"steps": 3})
    inputs = prepare_inputs(tmp_path, spec)
    random = torch.get_rng_state()
    require_method(tmp_path / "tried", spec, inputs)
    assert torch.equal(random, torch.get_rng_state())
    tried, plain = (train(tmp_path / name, spec, inputs) for name in ("tried", "plain"))
    assert model_sha256(tried.folder / "model") == model_sha256(plain.folder / "model")


def test_a_training_that_is_finished_or_has_begun_is_not_tried_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.training.attach as attach_file

    spec = spec_of(tmp_path, base, method={"kind": "lora"}, training={"steps": 2})
    inputs = prepare_inputs(tmp_path, spec)
    plan = training_plan(tmp_path, spec, inputs)
    train(tmp_path, spec, inputs)
    begun = training_plan(tmp_path / "begun", spec, inputs)
    begun.scratch.mkdir(parents=True)
    monkeypatch.setattr(attach_file, "attach", lambda *_, **__: pytest.fail("it was put on the base"))
    assert plan.finished() is not None
    require_method(tmp_path, spec, inputs)
    require_method(tmp_path / "begun", spec, inputs)


def test_the_trial_does_without_singular_values(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("singular values were computed")

    monkeypatch.setattr(torch.linalg, "svd", never)
    monkeypatch.setattr(torch.linalg, "qr", never)
    for method in ({"kind": "lora", "init": "pissa"}, {"kind": "lora", "init": "olora"}, {"kind": "osf"}):
        spec = spec_of(tmp_path, base, method=method, training={"steps": 2})
        require_method(tmp_path, spec, prepare_inputs(tmp_path, spec))
    assert METHODS["lora"].try_on is lora_file.try_on
