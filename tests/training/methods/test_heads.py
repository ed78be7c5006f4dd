"""On an encoder with a new task head, every method trains the head too, stores it and gives it back."""

import pytest
import torch

from tasks.training.methods.registry import METHODS
from tests.training.methods.small import SMALL
from tests.training.methods.tiny_models import context, logits, tiny_bert, train_a_little, trainable

HEAD = ("classifier",)
BATCH = {
    "input_ids": torch.arange(3, 11).repeat(4, 1),
    "attention_mask": torch.ones(4, 8, dtype=torch.long),
    "labels": torch.tensor([0, 1, 2, 0]),
}
TOKEN_BATCH = BATCH | {"labels": torch.arange(8).remainder(3).repeat(4, 1)}
NOT_HERE = {
    "qlora": "needs a base on disk to load in 4 bits",
    "lisa": "stores the whole model",
    "adapter_fusion": "needs adapters of earlier trainings: test_adapter_fusion.py",
    "p_tuning_template": "refuses task heads",
}
KINDS = [kind for kind in METHODS if kind not in {"full", *NOT_HERE}]


def attach(kind: str, tokens: bool = False):
    entry, model = METHODS[kind], tiny_bert(tokens)
    settings = entry.settings(**(SMALL[kind] or {}))
    given = context(HEAD, [TOKEN_BATCH if tokens else BATCH])
    return entry.attach(model, settings, given), settings


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_head_trains_and_comes_back(kind, tokens, tmp_path):
    torch.manual_seed(1)
    tuned, settings = attach(kind, tokens)
    names = set(trainable(tuned.model))
    assert sum("classifier" in name for name in names) == 2, "weight and bias of the head"
    train_a_little(tuned.model)
    tuned.finish()
    trained = logits(tuned.model)
    tuned.save(tmp_path, "base")
    fresh = tiny_bert(tokens)
    assert (trained - logits(fresh)).abs().max() > 1e-3, "nothing was trained"
    again = METHODS[kind].load(fresh, tmp_path, settings)
    assert (logits(again.model) - trained).abs().max() < 1e-5
    if again.merges:
        assert (logits(again.merge()) - trained).abs().max() < 1e-4


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "head_only"])
def test_something_beside_the_head_trains(kind):
    tuned, _ = attach(kind)
    assert any("classifier" not in name for name in trainable(tuned.model))
    before = {name: p.detach().clone() for name, p in trainable(tuned.model).items()}
    train_a_little(tuned.model)
    assert any(
        not torch.equal(p, before[name])
        for name, p in trainable(tuned.model).items()
        if "classifier" not in name
    )
