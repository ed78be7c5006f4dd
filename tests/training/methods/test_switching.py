"""Several tuned models on one base compute exactly what each computes alone, in whatever order they are used."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from schemas.errors import UserError
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_base, load_tuned
from tasks.training.models.several import load_several
from tests.tiny_base import make_base
from tests.training.methods.small import BIASED, SMALL, WIDE
from tests.training.methods.tiny_models import logits
from tests.tuned_folder import make_tuned

ALONE = {"full", "lisa"}
"""Whole weights."""
ELSEWHERE = {"head_only", "adapter_fusion"}
"""Nothing to train in a language model; made of earlier trainings (see its own test here)."""
SWITCHED = sorted(METHODS.keys() - ALONE - ELSEWHERE)

OTHER: dict[str, dict] = {
    "lora": {"r": 2, "alpha": 8, "target_modules": ["q_proj"]},
    "adapter": {"size": 3},
    "adapter_drop": {"size": 4, "drop_blocks": 0},
    "selective": {"layers": 1, "choose": "first"},
    "prompt_tuning": {"virtual_tokens": 3},
    "p_tuning_v2": {"virtual_tokens": 2},
    "sparse": {"trainable_ratio": 0.05},
}
"""kind -> settings of the second training, where other ones are worth a look."""


@pytest.fixture
def trained_on(request, base, wide_base, biased_base):
    """The tiny base that suits the kind under test."""
    kind = request.node.callspec.params["kind"]
    return wide_base if kind in WIDE else biased_base if kind in BIASED else base


def two(kind: str, base: Path, folder: Path) -> dict[str, Path]:
    settings = SMALL[kind]
    return {
        "legal.v2": make_tuned(base, folder / "legal", kind, 1, settings),
        "news": make_tuned(base, folder / "news", kind, 2, OTHER.get(kind, settings)),
    }


def base_logits(kind: str, base: Path) -> torch.Tensor:
    entry = METHODS[kind]
    settings = entry.base_settings(entry.settings(**SMALL[kind])) if entry.base_settings else None
    return logits(load_base(base, None, settings))


@pytest.mark.parametrize("kind", SWITCHED)
def test_each_computes_what_it_computes_alone_in_any_order(trained_on, tmp_path, kind):
    folders = two(kind, trained_on, tmp_path)
    alone = {name: logits(load_tuned(folder).model) for name, folder in folders.items()}
    alone[None] = base_logits(kind, trained_on)
    assert not torch.equal(alone["legal.v2"], alone["news"])
    assert not any(torch.equal(alone[name], alone[None]) for name in folders)
    several = load_several(folders)
    assert several.names == ("legal.v2", "news")
    assert several.in_use == "legal.v2"
    for name in ("legal.v2", "news", None, None, "news", "legal.v2", "legal.v2", None, "legal.v2", "news"):
        assert torch.equal(logits(several.use(name)), alone[name]), name
        assert several.in_use == name


@pytest.mark.parametrize("kind", ["lora", "adapter", "adapter_drop", "prompt_tuning", "selective", "sparse"])
def test_what_is_put_beside_counts_only_once_it_is_activated(base, tmp_path, kind):
    first, second = two(kind, base, tmp_path).values()
    tuned = load_tuned(first)
    before = logits(tuned.model)
    tuned.add("second", second)
    assert torch.equal(logits(tuned.model), before)
    tuned.activate("second")
    assert torch.equal(logits(tuned.model), logits(load_tuned(second).model))


def test_fusions_are_switched_with_the_adapters_that_each_has(base, tmp_path):
    for number in range(3):
        make_tuned(base, tmp_path / f"adapter-{number}", "adapter_pfeiffer", number)
    fused = {
        name: make_tuned(
            base, tmp_path / name, "adapter_fusion", 7,
            {"adapters": [str(tmp_path / f"adapter-{number}") for number in parts]},
        )
        for name, parts in {"two": (0, 1), "three": (0, 1, 2)}.items()
    }  # fmt: skip
    several = load_several(fused)
    for name in ("three", "two", "three"):
        assert torch.equal(logits(several.use(name)), logits(load_tuned(fused[name]).model))


def test_generation_follows_the_switch(base, tmp_path):
    folders = two("prefix_tuning", base, tmp_path)
    several = load_several(folders)

    def answer(model) -> list[int]:
        ids = torch.arange(3, 9)[None]
        given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "do_sample": False}
        return model.generate(input_ids=ids, **given)[0].tolist()

    alone = {name: answer(load_tuned(folder).model.eval()) for name, folder in folders.items()}
    alone[None] = answer(load_base(base).eval())
    assert len({tuple(ids) for ids in alone.values()}) > 1
    for name in ("news", None, "legal.v2", "news"):
        assert answer(several.use(name)) == alone[name]


def test_nothing_of_several_trains(base, tmp_path):
    several = load_several(two("lora", base, tmp_path))
    for name in ("news", None, "legal.v2"):
        several.use(name)
        assert not any(parameter.requires_grad for parameter in several.model.parameters())


def test_an_unknown_name_changes_nothing(base, tmp_path):
    several = load_several(two("lora", base, tmp_path))
    before = logits(several.model)
    with pytest.raises(UserError, match="no tuned model is called legal") as error:
        several.use("legal")
    assert error.value.fix == "known: legal.v2, news"
    assert several.in_use == "legal.v2"
    assert torch.equal(logits(several.model), before)


def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    other = make_base(tmp_path / "other", seed=4)
    folders = {"legal": make_tuned(base, tmp_path / "legal", "lora", 1)}
    folders["stranger"] = make_tuned(other, tmp_path / "stranger", "lora", 1)
    with pytest.raises(UserError, match="legal and stranger are not of one base") as error:
        load_several(folders)
    assert error.value.where == str(folders["stranger"])


def test_another_method_is_refused(base, tmp_path):
    folders = {kind: make_tuned(base, tmp_path / kind, kind, 1) for kind in ("lora", "ia3")}
    with pytest.raises(UserError, match="lora was tuned by lora, ia3 by ia3") as error:
        load_several(folders)
    assert error.value.fix == "switch between models of one method"


def test_full_weights_and_task_heads_and_nothing_are_refused(base, tmp_path):
    legal = make_tuned(base, tmp_path / "legal", "lora", 1)
    with pytest.raises(UserError, match="base is full weights: it shares none"):
        load_several({"legal": legal, "base": base})
    config = json.loads((base / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    shutil.copytree(legal, tmp_path / "head")
    (tmp_path / "head" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="head is a model for text_classification"):
        load_several({"legal": legal, "head": tmp_path / "head"})
    with pytest.raises(UserError, match="nothing to switch"):
        load_several({})


def test_what_peft_cannot_have_side_by_side_is_refused(base, tmp_path):
    first = make_tuned(base, tmp_path / "first", "vera", 1)
    others = {
        "other projections": make_tuned(base, tmp_path / "seed", "vera", 1, run_seed=18),
        "other modules": make_tuned(base, tmp_path / "q", "vera", 1, {"r": 8, "target_modules": ["q_proj"]}),
    }
    for name, folder in others.items():
        with pytest.raises(UserError, match="PEFT cannot have this adapter beside the others") as error:
            load_several({"first": first, name: folder})
        assert error.value.fix == "load it on a base of its own"


def test_half_an_adapter_is_refused(base, tmp_path):
    from safetensors.torch import load_file, save_file

    folders = two("lora", base, tmp_path)
    file = folders["news"] / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="does not fit its base"):
        load_several(folders)


def test_adapters_made_elsewhere_are_switched_by_peft_s_own_files(base, tmp_path):
    folders = two("lora", base, tmp_path)
    for folder in folders.values():
        (folder / "method.json").unlink()
    several = load_several(folders)
    for name in ("news", "legal.v2"):
        assert torch.equal(logits(several.use(name)), logits(load_tuned(folders[name]).model))
