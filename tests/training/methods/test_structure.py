"""Blocks, sublayers and norms are found in every family, and what is put at a sublayer's end is inside its branch."""

import pytest
import torch

from schemas.errors import UserError
from tasks.training.methods.parts.structure import _silenced, read_architecture, tensor_of
from tests.training.methods.architectures import CAUSAL, ENCODERS, UNREADABLE, VOCAB, make

AFTER_THE_RESIDUAL = ("bert", "roberta", "distilbert", "electra", "deberta_v2")
"""Families whose blocks normalise the sum, as the first transformers did."""


def block_in_and_out(model, block) -> tuple[torch.Tensor, torch.Tensor]:
    seen = []
    block.register_forward_hook(lambda module, args, output: seen.append((args[0], tensor_of(output))))
    with torch.no_grad():
        model(input_ids=torch.arange(3, 23)[None].remainder(VOCAB))
    return seen[0]


@pytest.mark.parametrize("name", [*CAUSAL, *ENCODERS])
def test_without_its_sublayers_a_block_is_its_residual_path(name):
    model = make(name)
    architecture = read_architecture(model)
    assert (len(architecture.blocks), architecture.width) == (2, 16)
    for block in architecture.blocks:
        with _silenced(architecture):
            before, after = block_in_and_out(model, block.module)
        for norm in block.norms if name in AFTER_THE_RESIDUAL else ():
            before = norm(before)
        assert torch.equal(after, before)
        untouched = block_in_and_out(model, block.module)
        assert not torch.allclose(untouched[0], untouched[1]), "the sublayers do something"


@pytest.mark.parametrize("name", [*CAUSAL, *ENCODERS])
def test_a_sublayer_begins_with_what_its_block_gives_it(name):
    model = make(name)
    for block in read_architecture(model).blocks:
        inside = set(block.module.modules())
        assert {
            block.attention.entry,
            block.attention.exit,
            block.feed_forward.entry,
            block.feed_forward.exit,
        } <= inside
        assert block.attention.exit in set(block.attention.entry.modules())
        assert block.feed_forward.exit not in set(block.attention.entry.modules())


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("llama", 2),
        ("qwen3", 2),
        ("gemma3", 4),
        ("olmo2", 2),
        ("phi", 1),
        ("gpt2", 2),
        ("opt", 2),
        ("bert", 2),
        ("distilbert", 2),
    ],
)
def test_norms_of_hidden_states_are_found_and_those_of_queries_left_alone(name, norms):
    for block in read_architecture(make(name)).blocks:
        assert len(block.norms) == norms


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_model_that_cannot_be_read_is_refused_with_what_was_looked_for(name):
    model = make(name)
    with pytest.raises(UserError, match=f"cannot be inserted into {type(model).__name__}") as error:
        read_architecture(model)
    assert error.value.where == "method.kind"
    assert "lora" in error.value.fix
    assert "list of equal blocks" in error.value.fix


def test_a_sublayer_that_adds_the_residual_itself_is_refused():
    class Greedy(torch.nn.Module):
        """A mixture of experts that adds its own residual: its matrices are no linear layers."""

        def __init__(self):
            super().__init__()
            self.experts = torch.nn.Parameter(torch.randn(2, 16, 16))

        def forward(self, hidden):
            return hidden + hidden @ self.experts[0] @ self.experts[1]

    model = make("llama")
    for layer in model.model.layers:
        layer.mlp = Greedy()
        layer.forward = lambda hidden, layer=layer, **_: layer.mlp(layer.self_attn.o_proj(hidden))
    with pytest.raises(UserError, match="add the residual themselves"):
        read_architecture(model)


def test_reading_leaves_no_hook_and_no_gradient_behind():
    model = make("llama").train()
    read_architecture(model)
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert model.training
    assert all(p.grad is None for p in model.parameters())
