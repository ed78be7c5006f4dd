"""Models come from safetensors alone, run no code of their own, and an adapter loads as the model it is."""

import json
import shutil

import pytest
import torch

from schemas.errors import UserError
from tasks.training.models import count_stored, find_model, load_model, model_files, model_sha256
from tests.command_line import ROOT


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


def test_the_numbers_in_the_weights_are_counted_without_loading_them():
    assert count_stored(ROOT / "assets" / "base") == 1_762_944, "as its card says"
