"""A combination is the base plus combined differences, says what it is made of, and what cannot be combined is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import UserError
from tasks.data.model.folder import model_sha256
from tasks.release.export import combine
from tasks.release.export.combinable import Origin, common_base, read_origin
from tasks.release.export.combine import combine_deltas, combine_models
from tasks.release.export.combine_recipe import Recipe, make_recipe
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_model
from tests.tiny_base import TINY, make_base
from tests.training.methods.small import SMALL
from tests.tuned_folder import make_tuned

RANDOM = torch.Generator().manual_seed(7)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def legal(base, tmp_path_factory):
    return make_tuned(base, tmp_path_factory.mktemp("legal") / "model", "lora", 1)


@pytest.fixture(scope="module")
def news(base, tmp_path_factory):
    """Every tensor differs, embedding and norms too."""
    folder = tmp_path_factory.mktemp("news") / "model"
    shutil.copytree(base, folder)
    weights = load_file(base / "model.safetensors")
    moved = {name: t * torch.randn(t.shape, generator=RANDOM) for name, t in weights.items()}
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def origins(*folders: Path) -> list[Origin]:
    return [read_origin(folder.parent.name, folder) for folder in folders]


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in load_model(folder).named_parameters()}


def recipe(how: str, *weights: float, density: float | None = None, seed: int | None = None) -> Recipe:
    return make_recipe(how, len(weights), weights, density, seed)


def test_one_model_with_weight_one_is_that_model_to_the_bit(base, news, tmp_path):
    combine_models(base, origins(news), recipe("linear", 1.0), tmp_path / "out")
    one, other = weights_of(tmp_path / "out"), weights_of(news)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_linear_is_the_base_plus_weighted_differences(base, legal, news, tmp_path):
    changed = combine_models(base, origins(legal, news), recipe("linear", 0.7, -0.3), tmp_path / "out")
    start, first, second, combined = map(weights_of, (base, legal, news, tmp_path / "out"))
    for name, b in start.items():
        b64 = b.astype(np.float64)
        expected = b64 + 0.7 * (first[name] - b64) - 0.3 * (second[name] - b64)
        np.testing.assert_allclose(combined[name], expected.astype(np.float32), rtol=3e-7, atol=0)
    assert changed == len(start)


def test_what_no_model_changed_is_the_base_s_and_tied_weights_stay_tied(base, legal, tmp_path):
    changed = combine_models(base, origins(legal), recipe("linear", 0.5), tmp_path / "out")
    start, combined = weights_of(base), weights_of(tmp_path / "out")
    differs = {name for name in start if not np.array_equal(start[name], combined[name])}
    assert differs
    assert all("proj" in name for name in differs)
    assert changed == len(differs)
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(
        load_file(base / "model.safetensors")
    )


def ties_by_the_paper(deltas: list[np.ndarray], density: float) -> np.ndarray:
    """Trim, elect sign, disjoint mean (Yadav et al., 2023, algorithm 1), lambda 1."""
    trimmed = []
    for delta in deltas:
        kept = np.argsort(-np.abs(delta), axis=None)[: int(density * delta.size)]
        trimmed.append(np.zeros(delta.size))
        trimmed[-1][kept] = delta.ravel()[kept]
    stacked = np.stack(trimmed)
    agree = np.sign(stacked) == np.where(stacked.sum(axis=0) >= 0, 1, -1)
    return ((stacked * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)).reshape(deltas[0].shape)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
def test_ties_trims_elects_and_averages_those_that_agree(density):
    deltas = [torch.randn(6, 11, generator=RANDOM, dtype=torch.float64) for _ in range(3)]
    combined = combine_deltas(deltas, recipe("ties", 1, 1, 1, density=density), "a tensor")
    np.testing.assert_allclose(combined.numpy(), ties_by_the_paper([d.numpy() for d in deltas], density))


def test_ties_weighs_each_model():
    deltas = [torch.tensor([1.0, -4.0, 2.0]).double(), torch.tensor([3.0, 1.0, 2.0]).double()]
    combined = combine_deltas(deltas, recipe("ties", 1.0, 0.5, density=1.0), "a tensor")
    assert combined.tolist() == [1.25, -4.0, 1.5]


def test_dare_keeps_about_its_density_and_rescales_what_it_keeps():
    delta = torch.ones(200, 100, dtype=torch.float64)
    combined = combine_deltas([delta], recipe("dare_linear", 1.0, density=0.3, seed=5), "a tensor")
    assert set(combined.unique().tolist()) == {0.0, 1 / 0.3}
    assert abs(float((combined != 0).double().mean()) - 0.3) < 0.02


def test_dare_ties_draws_and_then_averages_those_that_agree():
    deltas = [torch.full((4000,), 2.0).double(), torch.full((4000,), -1.0).double()]
    combined = combine_deltas(deltas, recipe("dare_ties", 1, 1, density=0.5, seed=5), "a tensor")
    counts = {value: int((combined == value).sum()) for value in combined.unique().tolist()}
    assert set(counts) == {4.0, -2.0, 0.0}
    assert abs(counts[4.0] - 2000) < 150
    assert all(abs(counts[value] - 1000) < 150 for value in (-2.0, 0.0))


def test_the_same_seed_is_the_same_model_to_the_bit_and_another_is_another(base, legal, news, tmp_path):
    for name, seed in (("a", 17), ("b", 17), ("c", 18)):
        combine_models(
            base,
            origins(legal, news),
            recipe("dare_linear", 0.5, 0.5, density=0.5, seed=seed),
            tmp_path / name,
        )
    a, b, c = (model_sha256(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_each_tensor_is_drawn_by_itself_and_torch_s_own_draws_go_on_undisturbed():
    before = torch.random.get_rng_state()
    delta, draw = [torch.ones(50, dtype=torch.float64)], recipe("dare_linear", 1.0, density=0.5, seed=1)
    assert not torch.equal(combine_deltas(delta, draw, "one"), combine_deltas(delta, draw, "another"))
    assert torch.equal(combine_deltas(delta, draw, "one"), combine_deltas(delta, draw, "one"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_folder_is_a_model_and_says_what_it_is_made_of(base, legal, news, tmp_path):
    chosen = recipe("dare_ties", 1.0, 0.5, density=0.4, seed=3)
    combine_models(base, origins(legal, news), chosen, tmp_path / "out")
    said = json.loads((tmp_path / "out" / "combination.json").read_text())
    assert (said["how"], said["density"], said["seed"]) == ("dare_ties", 0.4, 3)
    assert said["base_sha256"] == model_sha256(base)
    assert [(m["sha256"], m["weight"]) for m in said["models"]] == [
        (model_sha256(legal), 1.0),
        (model_sha256(news), 0.5),
    ]
    assert said["sha256"] == model_sha256(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("dare_ties", "density 0.4", "seed 3", str(legal), model_sha256(news)):
        assert part in card
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "something was left beside the target"


def test_a_failure_leaves_nothing(base, legal, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(combine, "write_combined_card", fail)
    with pytest.raises(OSError, match="disk"):
        combine_models(base, origins(legal), recipe("linear", 1.0), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_existing_target_is_refused_before_anything_is_loaded(base, legal, tmp_path, monkeypatch):
    monkeypatch.setattr(combine, "load_base", None)
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserError, match="exists already") as error:
        combine_models(base, origins(legal), recipe("linear", 1.0), tmp_path)
    assert error.value.fix == "name a new folder"
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_target_that_appears_meanwhile_is_never_written_over(base, legal, tmp_path, monkeypatch):
    write = combine.write_combined_card

    def meanwhile(*arguments: object) -> None:
        write(*arguments)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("x")

    monkeypatch.setattr(combine, "write_combined_card", meanwhile)
    with pytest.raises(UserError, match="exists already"):
        combine_models(base, origins(legal), recipe("linear", 1.0), tmp_path / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "mine"]


def test_models_of_different_bases_are_refused(base, legal, tmp_path):
    other = make_base(tmp_path / "other", seed=4)
    stranger = make_tuned(other, tmp_path / "stranger" / "model", "lora", 1)
    with pytest.raises(UserError, match=r"legal.* and stranger are not of one base") as error:
        common_base(origins(legal, stranger), None)
    assert error.value.fix == "combine models that were tuned from one base"
    with pytest.raises(UserError, match="not of one base"):
        common_base(origins(legal), str(other))


def test_full_weights_are_combined_with_the_base_that_is_named_for_them(base, legal, news):
    with pytest.raises(UserError, match="does not say which model it was tuned from") as error:
        common_base(origins(legal, news), None)
    assert "--base" in error.value.fix
    assert common_base(origins(legal, news), str(base)) == base


def test_full_weights_of_a_run_say_their_base_in_its_lineage(base, news, tmp_path):
    shutil.copytree(news, tmp_path / "run" / "model")
    lineage = {
        "run": "run", "spec": "", "data": {}, "contracts": {}, "code": "", "base": model_sha256(base),
        "base_name": str(base), "weights": model_sha256(news), "versions": {},
    }  # fmt: skip
    (tmp_path / "run" / "lineage.json").write_text(json.dumps(lineage))
    assert common_base(origins(tmp_path / "run" / "model"), None) == base
    (tmp_path / "run" / "lineage.json").write_text(json.dumps({**lineage, "weights": "0" * 64}))
    assert read_origin("run", tmp_path / "run" / "model").base is None, "it speaks of other weights"


def test_full_weights_of_another_architecture_are_refused(base, tmp_path):
    wider = make_base(tmp_path / "wider" / "model", TINY.model_copy(update={"intermediate_size": 64}))
    with pytest.raises(UserError, match=r"wider does not fit the base: .*mlp.* has another shape"):
        combine_models(base, origins(wider), recipe("linear", 1.0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_gone_is_asked_for(legal, tmp_path):
    shutil.copytree(legal, tmp_path / "model")
    saved = json.loads((legal / "method.json").read_text())
    (tmp_path / "model" / "method.json").write_text(json.dumps({**saved, "base": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match="not to be had") as error:
        common_base(origins(tmp_path / "model"), None)
    assert "--base MODEL" in error.value.fix


def test_a_model_is_named_only_once(legal, tmp_path):
    shutil.copytree(legal, tmp_path / "copy")
    with pytest.raises(UserError, match="named twice"):
        common_base(origins(legal, tmp_path / "copy"), None)


def test_another_tokenizer_is_refused(base, news, tmp_path):
    shutil.copytree(news, tmp_path / "model")
    tokenizer = json.loads((news / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="another tokenizer"):
        common_base(origins(tmp_path / "model"), str(base))


@pytest.mark.parametrize("kind", ["prompt_tuning", "adapter", "qlora", "mam", "p_tuning_template"])
def test_a_method_without_plain_weights_is_refused_by_its_settings(base, tmp_path, kind):
    tmp_path = tmp_path / "model"
    tmp_path.mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"never read")
    settings = METHODS[kind].settings(**SMALL[kind])
    saved = {"method": settings.model_dump(mode="json"), "base": str(base), "base_sha256": model_sha256(base)}
    (tmp_path / "method.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=f"was tuned by method {kind}, of which no plain weights") as error:
        read_origin("mine", tmp_path)
    assert "lora" in error.value.fix


def test_somebody_else_s_adapter_names_its_base_and_prompts_are_refused(base, legal, tmp_path):
    shutil.copytree(legal, tmp_path / "theirs")
    (tmp_path / "theirs" / "method.json").unlink()
    assert common_base(origins(tmp_path / "theirs"), None) == base
    prompts = make_tuned(base, tmp_path / "prompts", "prompt_tuning", 1)
    (prompts / "method.json").unlink()
    with pytest.raises(UserError, match="method PROMPT_TUNING, of which no plain weights"):
        read_origin("prompts", prompts)


def test_a_model_with_a_task_head_is_refused(base, tmp_path):
    shutil.copytree(base, tmp_path / "model")
    config = json.loads((base / "config.json").read_text())
    config["architectures"] = ["LlamaForSequenceClassification"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="text_classification") as error:
        read_origin("mine", tmp_path / "model")
    assert error.value.fix == "combine language models"
