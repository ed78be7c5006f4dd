"""Counts are measured on the saved model."""

import pytest
import torch

from schemas.results.counts import Parameters
from tasks.training.models.counts import numerical_rank
from tasks.training.models.load import load_model
from tests.training.prepared import spec_of, train_here


@pytest.mark.parametrize("rank", [1, 3, 8])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_sum_of_outer_products_has_their_number_as_rank_in_spite_of_rounding(rank, scale):
    torch.manual_seed(rank)
    before = torch.randn(96, 64)
    after = before + scale * torch.randn(96, rank) @ torch.randn(rank, 64)
    assert numerical_rank(before, after) == rank


def test_rounding_alone_has_no_rank():
    torch.manual_seed(0)
    before = torch.randn(96, 64)
    assert numerical_rank(before, (before * 3 + 1 - 1) / 3) == 0


def counts(root, base, state, method) -> Parameters:
    spec = spec_of(root, base, method=method, training={"steps": 6, "learning_rate": 0.05})
    return Parameters.model_validate(train_here(root, spec, state).facts["parameters"])


def test_full_tuning_changes_every_weight_it_trains_and_adds_none(root, base, tmp_path):
    found = counts(root, base, tmp_path, {"kind": "full"})
    total = load_model(base).num_parameters()
    assert found.total == found.trainable == total
    assert 0.5 * total < found.changed <= total, "embeddings of tokens that never occur stay"
    assert found.added == 0
    assert found.ranks.largest > 4


def test_lora_changes_whole_matrices_by_its_rank(root, base, tmp_path):
    found = counts(
        root, base, tmp_path, {"kind": "lora", "r": 2, "alpha": 16, "target_modules": ["q_proj", "down_proj"]}
    )
    weights = [
        p for name, p in load_model(base).named_parameters() if "q_proj" in name or "down_proj" in name
    ]
    assert found.trainable == sum(2 * sum(p.shape) for p in weights)
    assert found.total == load_model(base).num_parameters() + found.trainable
    assert 0.9 * sum(p.numel() for p in weights) < found.changed <= sum(p.numel() for p in weights)
    assert found.added == 0, "merged, nothing stands beside the base"
    assert (found.ranks.matrices, found.ranks.smallest, found.ranks.largest) == (len(weights), 2, 2)
    assert found.ranks.total == 2 * len(weights)
    assert found.stored_bytes < 4 * found.trainable + 4096
