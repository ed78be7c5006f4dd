"""Models come from safetensors alone, run no code of their own, and an adapter loads as the model it is."""

import json
import shutil

import pytest
import torch

from schemas.errors import UserError
from tasks.data.model.folder import model_files, model_sha256, view
from tasks.training.models.load import load_model
from tasks.training.models.soundness import require_positions
from tasks.training.models.weights import find_model


def test_a_folder_with_safetensors_is_found_and_environment_names_are_read(base, monkeypatch):
    monkeypatch.setenv("MODELS", str(base.parent))
    assert find_model("$MODELS/model") == base == find_model(str(base))


def test_pickled_weights_are_refused(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="no safetensors weights") as error:
        find_model(str(folder))
    assert error.value.where == str(folder)
    assert "pickled weights are never loaded" in error.value.fix


def test_pickled_weights_beside_safetensors_are_never_opened(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert load_model(find_model(str(folder))).num_parameters() == load_model(base).num_parameters()


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_model_that_brings_its_own_code_is_refused(base, tmp_path, name):
    folder = shutil.copytree(base, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}
    (folder / name).write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('this code ran')")
    with pytest.raises(UserError, match="auto_map") as error:
        find_model(str(folder))
    assert error.value.where == str(folder / name)
    assert "remote code is never run" in error.value.fix


def test_missing_weights_are_an_error_not_random_numbers(base, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(base, tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights are missing .* model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(folder)


def test_the_hash_is_over_what_decides_the_outputs_and_nothing_else(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "m")
    (folder / "README.md").write_text("a card")
    assert model_sha256(folder) == model_sha256(base)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= model_files(folder).keys()
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        other = shutil.copytree(base, tmp_path / f"other {name}")
        content = bytearray((other / name).read_bytes())
        content[-2] ^= 1
        (other / name).write_bytes(content)
        assert model_sha256(other) != model_sha256(base), name


def test_weights_load_in_single_precision_unless_told_otherwise(base):
    assert {p.dtype for p in load_model(base).parameters()} == {torch.float32}
    assert {p.dtype for p in load_model(base, torch.bfloat16).parameters()} == {torch.bfloat16}


def test_sequences_longer_than_learnt_positions_are_refused(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    shape = {"vocab_size": 30, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).save_pretrained(tmp_path / "gpt2")
    model = load_model(find_model(str(tmp_path / "gpt2")))
    require_positions(model, 16)
    with pytest.raises(UserError, match="cannot read 17 tokens: it knows 16 positions") as error:
        require_positions(model, 17)
    assert error.value.where == "training.sequence_length"
    rotary = LlamaConfig(
        vocab_size=30, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16,
    )  # fmt: skip
    require_positions(LlamaForCausalLM(rotary), 17)


def test_a_library_is_shown_what_is_hashed_and_nothing_else(base, tmp_path):
    folder = shutil.copytree(base, tmp_path / "m")
    (folder / "added_tokens.json").write_text("{}")
    (folder / "vocab.json").write_text("{}")
    before = model_sha256(folder)
    for name in ("pytorch_model.bin", "modeling_x.py", "model-00001-of-00002.safetensors", "onnx/model.onnx"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    assert model_sha256(folder) == before
    with view(folder) as shown:
        assert {path.name for path in shown.iterdir()} == model_files(folder).keys()
    assert not shown.exists()
    (folder / "vocab.json").write_text('{"a": 1}')
    assert model_sha256(folder) != before
