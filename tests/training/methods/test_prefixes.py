"""Prefixes, MAM and UniPELT: what they compute, in every family, packed, padded, cached, and folded."""

from pathlib import Path

import pytest
import torch

from schemas.errors import UserError
from schemas.spec.methods.adapters import Mam, Unipelt
from tasks.training.methods import mam, unipelt
from tasks.training.methods.base import TrainingContext
from tasks.training.methods.parts.insertion import CONTAINER
from tests.training.methods.architectures import VOCAB, make
from tests.training.prepared import spec_of, train_here

IDS = torch.arange(3, 23)[None].remainder(VOCAB)
CAUSAL = ("llama", "qwen3", "gemma3", "gpt2", "gpt_neox", "opt")
ENCODERS = ("bert", "roberta", "distilbert", "modernbert")
D, M, L = 16, 4, 3


def context(batches=lambda: iter(())):
    return TrainingContext(Path(), 1, 17, batches)


def attach_mam(name, **settings):
    torch.manual_seed(17)
    settings = {"size": M, "prefix_length": L, "prefix_mlp_size": None, **settings}
    return disturbed(mam.attach(make(name), Mam(**settings), context()))


def attach_unipelt(name="llama", **settings):
    torch.manual_seed(17)
    settings = {"size": M, "prefix_length": L, "prefix_mlp_size": None, "r": 2, **settings}
    return disturbed(unipelt.attach(make(name), Unipelt(**settings), context()))


def disturbed(tuned):
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in tuned.modules().parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return tuned


def logits(model, ids=IDS, **more) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids, **more).logits


def attention_by_hand(layer, x, rotary, keys, values, gate=None):
    """Softmax over [prefix; text seen so far], one head of queries at a time; keys and values (l, 1, size)."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    cos_sin = rotary(x, torch.arange(x.shape[1])[None])
    q, k, v = (
        proj(x).view(1, x.shape[1], -1, layer.head_dim).transpose(1, 2)
        for proj in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    q, k = apply_rotary_pos_emb(q, k, *cos_sin)
    heads = []
    for head in range(q.shape[1]):
        rows = []
        for t in range(x.shape[1]):
            g = 1.0 if gate is None else gate[0, t]
            all_k = torch.cat([g * keys[:, 0], k[0, 0, : t + 1]])
            all_v = torch.cat([g * values[:, 0], v[0, 0, : t + 1]])
            shares = (all_k @ q[0, head, t] * layer.head_dim**-0.5).softmax(0)
            rows.append(shares @ all_v)
        heads.append(torch.stack(rows))
    return layer.o_proj(torch.stack(heads, 1).flatten(1))[None]


def attention_of(tuned) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and output of the first block's attention."""
    seen = []
    layer = tuned.model.model.layers[0].self_attn
    handle = layer.register_forward_hook(
        lambda module, args, kwargs, output: seen.append((kwargs["hidden_states"], output[0])),
        with_kwargs=True,
    )
    logits(tuned.model)
    handle.remove()
    return seen[0]


def test_a_prefix_is_keys_and_values_in_front_of_every_token_s_own():
    tuned = attach_mam("llama")
    x, computed = attention_of(tuned)
    prefix = tuned.modules()["block_0_prefix"]
    with torch.no_grad():
        rotary = tuned.model.model.rotary_emb
        layer = tuned.model.model.layers[0].self_attn
        assert torch.allclose(
            computed, attention_by_hand(layer, x, rotary, prefix.keys, prefix.values), atol=1e-5
        )


def test_unipelt_s_gates_weigh_prefix_lora_and_adapter():
    tuned = attach_unipelt()
    x, computed = attention_of(tuned)
    modules = tuned.modules()
    layer = tuned.model.model.layers[0].self_attn

    def opened(gate, at):
        return torch.sigmoid(at @ gate.linear.weight[0] + gate.linear.bias)[..., None]

    def updated(proj, lora):
        class Updated(torch.nn.Module):
            def forward(self, at):
                update = at @ lora.a.weight.T @ lora.b.weight.T
                return at @ proj.weight.T + opened(modules["block_0_lora_gate"], at) * (16 / 2) * update

        return Updated()

    with torch.no_grad(), tuned.disabled():
        made = make("llama").model.layers[0].self_attn
        made.q_proj = updated(layer.q_proj, modules["block_0_lora_queries"])
        made.v_proj = updated(layer.v_proj, modules["block_0_lora_values"])
        gated = modules["block_0_prefix"]
        gate = opened(gated.gate, x)
        expected = attention_by_hand(
            made, x, tuned.model.model.rotary_emb, gated.prefix.keys, gated.prefix.values, gate
        )
    assert torch.allclose(computed, expected, atol=1e-5)
    adapter, h, at = modules["block_0_feed_forward"], torch.randn(1, 5, D), torch.randn(1, 5, D)
    with torch.no_grad():
        update = (
            torch.relu(h @ adapter.down.weight.T + adapter.down.bias) @ adapter.up.weight.T + adapter.up.bias
        )
        assert torch.allclose(adapter(h, at), h + opened(adapter.gate, at) * update, atol=1e-5)


@pytest.mark.parametrize("attach", [attach_mam, attach_unipelt])
@pytest.mark.parametrize("name", [*CAUSAL, *ENCODERS])
def test_every_family_trains_them_and_comes_back_to_the_base(name, attach):
    if attach is attach_unipelt and name in ("gpt2", "gpt_neox", "modernbert"):
        with pytest.raises(UserError, match="no linear layers named like q") as error:
            attach(name)
        assert "mam" in error.value.fix
        return
    # gelu: a classifier reads one token, and all of relu's units may be closed for it
    tuned, plain = attach(name, activation="gelu"), logits(make(name))
    assert (logits(tuned.model) - plain).abs().max() > 1e-3
    with tuned.disabled():
        assert torch.equal(logits(tuned.model), plain)
    tuned.model(input_ids=IDS).logits.square().mean().backward()
    for parameter_name, parameter in tuned.model.named_parameters():
        assert (parameter.grad is not None) == parameter_name.startswith(CONTAINER)
        assert parameter.grad is None or parameter.grad.abs().max() > 0, parameter_name
    before = logits(tuned.model)
    with torch.no_grad():
        for part in (part for key, part in tuned.modules().items() if key.endswith("prefix")):
            getattr(part, "prefix", part).values.add_(10.0)
    assert not torch.allclose(logits(tuned.model), before, atol=1e-3), "the prefix is seen"


@pytest.mark.parametrize("attach", [attach_mam, attach_unipelt])
@pytest.mark.parametrize("name", CAUSAL)
def test_with_a_cache_the_prefix_is_not_put_in_front_again(name, attach):
    if attach is attach_unipelt and name in ("gpt2", "gpt_neox"):
        return
    tuned = attach(name)
    whole = logits(tuned.model)
    with torch.no_grad():
        first = tuned.model(input_ids=IDS[:, :7], use_cache=True)
        pieces, cache = [first.logits], first.past_key_values
        for t in range(7, IDS.shape[1]):
            step = tuned.model(input_ids=IDS[:, t : t + 1], past_key_values=cache, use_cache=True)
            pieces.append(step.logits)
    assert cache.get_seq_length() == IDS.shape[1], "the cache holds the text alone"
    assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-4)


@pytest.mark.parametrize("attach", [attach_mam, attach_unipelt])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3"])
def test_a_packed_document_sees_the_prefix_and_itself_alone(name, attach):
    tuned = attach(name)
    positions = torch.cat([torch.arange(8), torch.arange(12)])[None]
    packed = logits(tuned.model, position_ids=positions, use_cache=False)
    apart = torch.cat([logits(tuned.model, IDS[:, :8]), logits(tuned.model, IDS[:, 8:])], 1)
    assert torch.allclose(packed, apart, atol=1e-4)


@pytest.mark.parametrize("attach", [attach_mam, attach_unipelt])
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_padding_changes_nothing(name, attach):
    tuned = attach(name)
    padded = torch.cat([IDS[:, :9], torch.full((1, 4), 2)], 1)
    mask = (torch.arange(13) < 9).long()[None]
    with_padding = logits(
        tuned.model, torch.cat([padded, IDS[:, :13]]), attention_mask=torch.cat([mask, mask * 0 + 1])
    )
    alone = logits(tuned.model, IDS[:, :9])
    assert torch.allclose(with_padding[:1, :9] if name == "llama" else with_padding[:1], alone, atol=1e-4)


@pytest.mark.parametrize("attach", [attach_mam, attach_unipelt])
def test_a_prefix_made_by_a_network_is_stored_as_what_it_makes(attach):
    tuned = attach("llama", prefix_mlp_size=5)
    assert any("prefix_trunk" in name for name in tuned.state())
    before = logits(tuned.model)
    tuned.finish()
    assert torch.allclose(logits(tuned.model), before, atol=1e-6)
    names = [name for name, p in tuned.model.named_parameters() if p.requires_grad]
    assert not [name for name in names if "trunk" in name]
    assert sum(name.endswith("prefix.keys") for name in names) == 2


def test_as_many_parameters_train_as_mam_s_parts_have():
    kv, one = 8, 2 * M * D + D + M  # one head of size 8
    assert count(attach_mam("llama")) == 2 * (one + 2 * L * kv)
    with_network = L * D + (D * 5 + 5) + 2 * (5 + 1) * 2 * kv
    assert count(attach_mam("llama", prefix_mlp_size=5)) == 2 * one + with_network


def test_as_many_parameters_train_as_unipelt_s_parts_have():
    kv, one, gates = 8, 2 * M * D + D + M, 3 * (D + 1)
    lora = 2 * (D + 16) + 2 * (D + kv)  # r = 2 on queries (16 wide) and values (8 wide)
    assert count(attach_unipelt()) == 2 * (one + 2 * L * kv + lora + gates)


def test_on_bart_large_mam_is_the_paper_s_6_7_percent():
    """Table 6 of He et al. MAM is put where a forward pass is seen to go, and not into encoder-decoders: two real blocks
    of BART's width, and each of their parts as often as BART-large has its place.
    """
    from transformers import BartConfig, BartForConditionalGeneration, OPTConfig, OPTForCausalLM

    with torch.device("meta"):
        bart = BartForConditionalGeneration(BartConfig())
    config = bart.config
    blocks = OPTConfig(
        vocab_size=VOCAB, num_hidden_layers=2, hidden_size=config.d_model, word_embed_proj_dim=config.d_model,
        ffn_dim=config.encoder_ffn_dim, num_attention_heads=config.encoder_attention_heads,
    )  # fmt: skip
    tuned = mam.attach(
        OPTForCausalLM(blocks), Mam(size=512, prefix_length=30, prefix_mlp_size=None), context()
    )
    sizes = {key: sum(p.numel() for p in part.parameters()) for key, part in tuned.modules().items()}
    assert sum(sizes.values()) == count(tuned)
    feed_forwards = config.encoder_layers + config.decoder_layers
    attentions = (
        config.encoder_layers + 2 * config.decoder_layers
    )  # a decoder's layer also looks at the encoder
    stored = feed_forwards * sizes["block_0_feed_forward"] + attentions * sizes["block_0_prefix"]
    assert round(stored / sum(p.numel() for p in bart.parameters()), 3) == 0.067


def count(tuned) -> int:
    return sum(p.numel() for p in tuned.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["bloom", "deberta_v2"])
def test_an_attention_of_its_own_is_refused(name):
    with pytest.raises(UserError, match=r"prefixes (cannot be put into|work with sdpa)") as error:
        attach_mam(name)
    assert error.value.where == "method.kind"


def test_another_attention_than_sdpa_is_refused():
    model = make("llama")
    model.set_attn_implementation("eager")
    with pytest.raises(UserError, match="work with sdpa attention, the model has eager"):
        mam.attach(model, Mam(size=M), context())


def test_gates_are_reported_with_the_training(root, base, tmp_path):
    method = {"kind": "unipelt", "size": M, "r": 2, "prefix_length": L, "prefix_mlp_size": None}
    step = train_here(
        root, spec_of(root, base, method=method, training={"steps": 6, "learning_rate": 0.1}), tmp_path
    )
    gates = step.facts["method"]["gates"]
    assert gates.keys() == {
        f"block_{n}_{part}" for n in (0, 1) for part in ("prefix.gate", "lora_gate", "feed_forward.gate")
    }
    assert all(0 < value < 1 for value in gates.values())
    assert len(set(gates.values())) == 6, "each has learned something of its own"


def test_several_prefixes_on_one_base_are_switched(root, base, tmp_path):
    from tasks.training.models.load import load_tuned

    folders = []
    for rate in (0.05, 0.1):
        method = {"kind": "mam", "size": M, "prefix_length": L, "prefix_mlp_size": None}
        spec = spec_of(root, base, method=method, training={"steps": 3, "learning_rate": rate})
        folders.append(train_here(root, spec, tmp_path).folder / "model")
    ids = torch.arange(3, 40)[None]
    expected = [logits(load_tuned(folder).model, ids) for folder in folders]
    tuned = load_tuned(folders[0])
    tuned.add("other", folders[1])
    assert torch.equal(logits(tuned.model, ids), expected[0])
    tuned.activate("other")
    assert torch.equal(logits(tuned.model, ids), expected[1])
    tuned.activate("default")
    tuned.remove("other")
    assert torch.equal(logits(tuned.model, ids), expected[0])
