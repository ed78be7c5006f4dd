"""Sparse, FISH mask and diff pruning: which entries train, how many are stored, what the model computes."""

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import UserError
from schemas.spec.methods.subset import DiffPruning, Fisher, Sparse
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.methods import diff_pruning, fisher, sparse
from tasks.training.methods.fisher import documents
from tasks.training.methods.parts.deltas import largest
from tasks.training.methods.parts.hard_concrete import GatedDelta
from tasks.training.models.load import load_model, load_tuned
from tasks.training.train import _make_trainer, train
from tests.training.methods.tiny_models import context, logits, tiny_bert, train_a_little, trainable
from tests.training.prepared import prepare_inputs, spec_of

MATRICES = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32)
"""Entries of the tiny Llama's linear layers."""
PACKED = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9, 10, 11, 1]]),
    "labels": torch.tensor([[-100, 6, 7, -100, 9, 10, 11, -100]]),
    "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3, 0]]),
}


def test_a_random_share_of_every_matrix_trains(base):
    tuned = sparse.attach(load_model(base), Sparse(trainable_ratio=0.25), context())
    assert sum(p.numel() for p in trainable(tuned.model).values()) == MATRICES / 4
    chosen = {name: tuple(delta.indices.tolist()) for name, delta in tuned.deltas.items()}
    assert all(len(set(indices)) == len(indices) for indices in chosen.values())
    same = sparse.attach(load_model(base), Sparse(trainable_ratio=0.25), context())
    other = sparse.attach(load_model(base), Sparse(trainable_ratio=0.25), context(seed=18))
    assert chosen == {name: tuple(delta.indices.tolist()) for name, delta in same.deltas.items()}
    assert chosen != {name: tuple(delta.indices.tolist()) for name, delta in other.deltas.items()}


def test_chosen_entries_move_and_the_others_are_the_base(base):
    tuned = sparse.attach(load_model(base), Sparse(trainable_ratio=0.1), context())
    train_a_little(tuned.model)
    values = {name: (d.indices.clone(), d.values.detach().clone()) for name, d in tuned.deltas.items()}
    before = logits(tuned.model)
    merged, plain = tuned.merge(), load_model(base)
    assert type(merged.model.layers[0].mlp.up_proj) is torch.nn.Linear
    for name, parameter in plain.named_parameters():
        expected = parameter.detach().clone()
        if name in values:
            expected.view(-1)[values[name][0]] += values[name][1]
            assert not torch.equal(expected, parameter)
        assert torch.equal(merged.get_parameter(name), expected)
    assert torch.equal(logits(merged), before)


def test_what_is_stored_are_the_entries(base, tmp_path):
    tuned = sparse.attach(load_model(base), Sparse(trainable_ratio=0.1), context())
    train_a_little(tuned.model)
    tuned.save(tmp_path, "base")
    entries = sum(p.numel() for p in trainable(tuned.model).values())
    tensors = load_file(tmp_path / "deltas.safetensors")
    assert sum(t.numel() * t.element_size() for t in tensors.values()) == 8 * entries
    again = sparse.load(load_model(base), tmp_path, None)
    assert torch.equal(logits(again.model), logits(tuned.model))
    with again.disabled():
        assert torch.equal(logits(again.model), logits(load_model(base)))
    with pytest.raises(UserError, match="do not fit the base"):
        sparse.load(tiny_bert(), tmp_path, None)


def test_a_tensor_that_is_used_twice_changes_in_both_places_once(base):
    from transformers import AutoConfig, AutoModelForCausalLM

    def tied():
        torch.manual_seed(3)
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base, tie_word_embeddings=True))

    tuned = sparse.attach(tied(), Sparse(trainable_ratio=0.5, target_modules="all"), context())
    assert len(tuned.places["model.embed_tokens.weight"]) == 2
    train_a_little(tuned.model)
    before = logits(tuned.model)
    merged = tuned.merge()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert (logits(merged) - before).abs().max() < 1e-6
    with pytest.raises(AssertionError):
        torch.testing.assert_close(before, logits(tied()))


def test_packed_documents_are_measured_one_by_one():
    found = [(batch["input_ids"][0].tolist(), count) for batch, count in documents(iter([PACKED]))]
    assert found == [([5, 6, 7], 2), ([8, 9, 10, 11], 3)]
    padded = {"input_ids": torch.tensor([[5, 6, 0], [7, 8, 9]]), "labels": torch.tensor([[-100, 6, -100], [-100, 8, 9]]),
              "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}  # fmt: skip
    assert [(b["input_ids"][0].tolist(), n) for b, n in documents(iter([padded]))] == [
        ([5, 6], 1),
        ([7, 8, 9], 2),
    ]


def test_the_entries_with_the_largest_mean_squared_gradient_train(base):
    tuned = fisher.attach(
        load_model(base), Fisher(trainable_ratio=0.02, samples=9), context(batches=[PACKED])
    )
    plain = load_model(base).eval()
    scores = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    for ids in (torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9, 10, 11]])):
        plain.zero_grad()
        log_likelihood = plain(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None]).sum()
        log_likelihood.backward()
        for name, p in plain.named_parameters():
            scores[name] += p.grad**2 / 2
    flat = torch.cat([score.flatten() for score in scores.values()])
    k = round(0.02 * len(flat))
    threshold = flat.topk(k).values[-1]
    assert sum(len(d.indices) for d in tuned.deltas.values()) == k
    for name, delta in tuned.deltas.items():
        others = torch.ones(scores[name].numel(), dtype=torch.bool)
        others[delta.indices] = False
        assert scores[name].flatten()[delta.indices].min() >= threshold * (1 - 1e-4)
        assert not others.any() or scores[name].flatten()[others].max() <= threshold * (1 + 1e-4)
    assert tuned.facts()["total"] == k


def test_no_more_documents_are_measured_than_asked_for(base):
    one, two = (
        fisher.squared_gradients(load_model(base), ["model.norm.weight"], context(batches=[PACKED]), samples)[
            "model.norm.weight"
        ]
        for samples in (1, 2)
    )
    assert not torch.allclose(one, two)
    with pytest.raises(UserError, match="no document"):
        fisher.attach(load_model(base), Fisher(), context())


def test_the_largest_of_all_tensors_are_found_without_putting_them_together():
    torch.manual_seed(0)
    scores = {"a": torch.rand(7, 3), "b": torch.rand(40), "c": torch.rand(2, 2)}
    found = largest(scores, 11)
    flat = torch.cat([score.flatten() for score in scores.values()])
    threshold = flat.topk(11).values[-1]
    assert {n: i.tolist() for n, i in found.items()} == {
        n: (s.flatten() >= threshold).nonzero().flatten().tolist() for n, s in scores.items()
    }


def test_gates_are_hard_concrete():
    """Against draws: the share of gates above zero is the expected count; at alpha 5 nearly all are open."""
    torch.manual_seed(0)
    for alpha in (-1.0, 0.0, 5.0):
        delta = GatedDelta(torch.zeros(200_000), alpha)
        delta.draw(torch.Generator().manual_seed(1))
        z = delta.gates(delta.noise)
        assert torch.equal(delta.train().factor(), z)
        assert torch.equal(delta.eval().factor(), delta.gates()), "noise is for training"
        assert 0 <= z.min() <= z.max() <= 1
        expected = float(delta.expected_entries()) / 200_000
        assert expected == pytest.approx(1 / (1 + 2.718281828**-alpha), rel=1e-5)
        assert float((z > 0).float().mean()) == pytest.approx(expected, abs=0.005)
        assert (z == 1).any()


def test_the_penalty_closes_gates(base):
    tuned = diff_pruning.attach(load_model(base), DiffPruning(sparsity_penalty=0.5), context())
    gates = [delta.alpha for delta in tuned.gated.values()]
    total = sum(torch.sigmoid(alpha).sum() for alpha in gates)
    assert float(tuned.penalty()) == pytest.approx(0.5 * float(total), rel=1e-5)
    tuned.penalty().backward()
    assert all((alpha.grad > 0).all() for alpha in gates)
    groups = tuned.parameter_groups(0.1)
    assert [len(group["params"]) for group in groups] == [14, 14]
    assert groups[1]["weight_decay"] == 0


def test_a_share_of_the_entries_is_chosen_and_trains_on(root, base, tmp_path):
    from transformers import TrainerCallback

    spec = spec_of(
        root,
        base,
        method={"kind": "diff_pruning", "target_ratio": 0.1},
        training={"steps": 8, "warmup_ratio": 0},
    )
    inputs = prepare_inputs(root, spec)
    tuned = attach(spec, inputs, find_device())
    trainer, _ = _make_trainer(tuned, tmp_path, spec, inputs, find_device(), None)
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_, **__):
            seen.append(
                {n: (d.chosen, d.mask.clone(), d.w.detach().clone(), d.noise) for n, d in tuned.gated.items()}
            )

    trainer.add_callback(Watch())
    trainer.train()
    tuned.finish()
    name = "model.layers.0.mlp.up_proj.weight"
    assert [step[name][0] for step in seen] == [False] * 6 + [True] * 2
    assert tuned.facts()["total"] == round(0.1 * MATRICES)
    assert not torch.equal(seen[0][name][3], seen[1][name][3]), "gates are drawn anew"
    mask, (first, last) = seen[7][name][1], (seen[6][name][2], seen[7][name][2])
    assert (first != last)[mask].any(), "chosen entries train on"
    weight = tuned.model.get_submodule("model.layers.0.mlp.up_proj").weight
    plain = load_model(base).get_parameter(name)
    assert torch.equal(weight[~mask], plain[~mask]), "the others are the base's"
    assert torch.equal(weight[mask], (plain + last)[mask])


def test_the_largest_differences_are_chosen(base):
    tuned = diff_pruning.attach(load_model(base), DiffPruning(target_ratio=0.05), context())
    torch.manual_seed(0)
    with torch.no_grad():
        for delta in tuned.gated.values():
            delta.w.normal_()
            delta.alpha.normal_()
    before = {name: delta.magnitude() for name, delta in tuned.gated.items()}
    values = {name: (delta.gates() * delta.w).detach().flatten() for name, delta in tuned.gated.items()}
    tuned.finish()
    for name, delta in tuned.gated.items():
        indices, kept_values = delta.entries()
        assert torch.equal(kept_values, values[name][indices]), "at the value they had with their gates"
    kept = torch.cat([before[name][delta.mask] for name, delta in tuned.gated.items()])
    cut = torch.cat([before[name][~delta.mask] for name, delta in tuned.gated.items()])
    assert len(kept) == round(0.05 * MATRICES)
    assert kept.min() >= cut.max()


def test_without_final_steps_the_choice_is_made_at_the_end(root, base, tmp_path):
    method = {"kind": "diff_pruning", "target_ratio": 0.1, "final_ratio": 0}
    spec = spec_of(root, base, method=method, training={"steps": 4})
    step = train(tmp_path, spec, prepare_inputs(root, spec))
    tuned = load_tuned(step.folder / "model")
    assert sum(len(d.indices) for d in tuned.deltas.values()) == round(0.1 * MATRICES)
    assert step.facts["parameters"]["trainable"] == 2 * MATRICES


def test_modules_that_are_not_there_are_named(base):
    with pytest.raises(UserError, match="no linear layer named qkv") as error:
        sparse.attach(load_model(base), Sparse(target_modules=("qkv",)), context())
    assert "q_proj" in error.value.fix
