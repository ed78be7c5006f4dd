"""Heads: new from the seed, kept where their labels are known, saved with their names, and trained by every method."""

import json

import pytest
import torch
from safetensors.torch import load_file

from schemas.errors import UserError
from tasks.data.labels.model_head import head_labels, knows_labels, read_head
from tasks.training.attach import attach
from tasks.training.loop.progress_file import read_metrics
from tasks.training.models.heads import Head, load_head_model, require_length
from tasks.training.models.load import load_model, load_with_head
from tasks.training.step import training_plan
from tasks.training.train import train
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.training.heads import head_spec, prepare_head

TEXT, WORD = "text_classification", "token_classification"
HEAD = Head(TEXT, ("a", "b", "c"), 0)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts())


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("family", ["encoder", "base"])
@pytest.mark.parametrize("kind", [TEXT, WORD])
def test_a_new_head_comes_from_the_seed_and_the_rest_from_the_base(request, family, kind) -> None:
    folder = request.getfixturevalue(family)
    head = Head(kind, HEAD.names, 0)
    one, same, other = (load_with_head(folder, head, None, seed) for seed in (5, 5, 6))
    new = tuple(f"{name}." for name in one.new)
    assert new == ({"encoder": "classifier.", "base": "score."}[family],)
    stored = load_file(folder / "model.safetensors")
    for name, tensor in weights_of(one.model).items():
        assert torch.equal(tensor, weights_of(same.model)[name])
        if name.startswith(new):
            assert not torch.equal(tensor, weights_of(other.model)[name]) or not tensor.any(), name
        else:
            assert any(torch.equal(tensor, value) for value in stored.values()), name
    assert one.model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert one.model.config.label2id == {"a": 0, "b": 1, "c": 2}


def test_loading_a_head_leaves_the_random_state_alone(encoder) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_with_head(encoder, HEAD, None, 5)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("family", ["encoder", "base"])
def test_known_labels_keep_their_outputs_and_others_are_new(tmp_path, request, family) -> None:
    before = load_with_head(request.getfixturevalue(family), HEAD, None, 5).model.eval()
    before.save_pretrained(tmp_path / "saved")
    ids = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    with torch.inference_mode():
        old = before(**ids).logits[0]
        after = load_with_head(tmp_path / "saved", Head(TEXT, ("c", "new", "a"), 0), None, 7).model.eval()
        logits = after(**ids).logits[0]
        same = load_with_head(tmp_path / "saved", HEAD, None, 7).model.eval()(**ids).logits[0]
    torch.testing.assert_close(logits[[0, 2]], old[[2, 0]])
    assert not torch.isclose(logits[1], old).any()
    assert torch.equal(same, old)
    assert after.num_labels == 3
    assert read_head(tmp_path / "saved") == (TEXT, ("a", "b", "c"))


def test_what_a_folder_says_of_its_head(tmp_path, encoder) -> None:
    assert read_head(encoder) is None
    assert head_labels(encoder, TEXT) == ()
    load_with_head(encoder, Head(WORD, ("O", "B-PER", "I-PER"), 0), None, 5).model.save_pretrained(tmp_path)
    assert head_labels(tmp_path, WORD) == ("O", "B-PER", "I-PER")
    assert head_labels(tmp_path, TEXT) == ()
    assert knows_labels(tmp_path, WORD, ("O", "B-PER", "I-PER", "B-LOC"))
    assert not knows_labels(tmp_path, WORD, ("O", "B-LOC", "I-LOC")), "O alone is no skill"


def test_a_model_for_another_objective_is_refused(tmp_path, encoder, base) -> None:
    load_with_head(encoder, HEAD, None, 5).model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="this is a model for text_classification, not for language_modeling"):
        load_model(tmp_path, None, "language_modeling")
    with pytest.raises(
        UserError, match="this is a model for language_modeling, not for token_classification"
    ):
        load_model(base, None, WORD)


def test_a_base_without_all_its_weights_is_refused(tmp_path, encoder) -> None:
    from safetensors.torch import save_file

    tensors = load_file(encoder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    for name in ("config.json",):
        (tmp_path / name).write_bytes((encoder / name).read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 weights are missing from the model"):
        load_with_head(tmp_path, HEAD, None, 5)


def test_a_missing_pooler_is_new_and_trains(tmp_path, encoder) -> None:
    """Models pretrained on masked words alone have none."""
    from safetensors.torch import save_file

    tensors = {n: t for n, t in load_file(encoder / "model.safetensors").items() if "pooler" not in n}
    (tmp_path / "config.json").write_bytes((encoder / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_with_head(tmp_path, HEAD, None, 5).new == ("classifier", "pooler")


def test_more_tokens_than_the_model_has_positions_are_refused_before_training(encoder, base) -> None:
    model = load_with_head(encoder, HEAD, None, 5).model
    require_length(model, 64)
    with pytest.raises(UserError, match="cannot read 65 tokens: it knows 64 positions") as error:
        require_length(model, 65)
    assert error.value.where == "training.sequence_length"
    require_length(load_with_head(base, HEAD, None, 5).model, 64)


METHODS = {"full": {"kind": "full"}, "lora": {"kind": "lora", "r": 4, "alpha": 8}}


@pytest.mark.parametrize("kind", [TEXT, WORD])
@pytest.mark.parametrize("family", ["encoder", "base"])
@pytest.mark.parametrize("method", METHODS)
def test_training_is_saved_with_its_labels_and_loads_to_the_same_answers(
    tmp_path, request, kind, family, method
) -> None:
    spec = head_spec(
        tmp_path, kind, request.getfixturevalue(family), method=METHODS[method],
        training={"epochs": None, "steps": 4, "learning_rate": 0.01},
    )  # fmt: skip
    _, tokenized, inputs = prepare_head(tmp_path / "state", spec)
    start = attach(spec, inputs, find_device()).model.state_dict()
    step = train(tmp_path / "state", spec, inputs)
    model = load_model(step.folder / "model", None, kind)
    config = json.loads((step.folder / "model" / "config.json").read_text())
    assert tuple(config["id2label"].values()) == tokenized.labels.names
    assert config["pad_token_id"] == inputs.special.pad
    metrics = read_metrics(step.folder / "metrics.jsonl")
    assert [m.step for m in metrics] == [1, 2, 3, 4]
    moved = {
        name: not torch.equal(tensor, start[name])
        for name, tensor in model.state_dict().items()
        if name in start
    }
    if method == "full":
        assert all(moved[name] for name in moved if name.endswith("weight") and "word_embeddings" not in name and "position" not in name and "token_type" not in name and "pooler" not in name)  # fmt: skip
    head = [name for name in model.state_dict() if name.startswith(("classifier.weight", "score.weight"))]
    stored = load_file(next((step.folder / "model").glob("*.safetensors")))
    saved = [
        tensor for name, tensor in stored.items() if name.endswith(("classifier.weight", "score.weight"))
    ]
    assert len(head) == len(saved) == 1
    assert torch.equal(model.state_dict()[head[0]], saved[0]), "the trained head is what is loaded"
    fresh = load_with_head(inputs.base, inputs.head.head, None, spec.training.seed).model
    assert not torch.equal(fresh.state_dict()[head[0]], saved[0]), "the head was trained"


def find_device():
    from tasks.training.device import find_device

    return find_device()


def test_other_labels_are_another_training(tmp_path, encoder) -> None:
    spec = head_spec(
        tmp_path, TEXT, encoder, objective={"kind": TEXT, "labels": ["gardening", "sailing", "烹饪"]}
    )
    other = head_spec(
        tmp_path, TEXT, encoder, objective={"kind": TEXT, "labels": ["烹饪", "gardening", "sailing"]}
    )
    keys = {
        training_plan(tmp_path, one, prepare_head(tmp_path / "state", one)[2]).key for one in (spec, other)
    }
    assert len(keys) == 2


def test_a_saved_head_without_a_padding_token_is_named(tmp_path, encoder) -> None:
    load_with_head(encoder, HEAD, None, 5).model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pad_token_id"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="names no padding token"):
        load_head_model(tmp_path)


class Killed(Exception):
    """The process would have ended here."""


@pytest.mark.parametrize("kind", [TEXT, WORD])
def test_a_killed_training_of_a_head_goes_on_to_the_same_weights(tmp_path, encoder, kind) -> None:
    training = {"epochs": None, "steps": 7, "checkpoint_every": 2, "learning_rate": 0.01}
    spec = head_spec(tmp_path, kind, encoder, training=training)
    *_, inputs = prepare_head(tmp_path / "state", spec)
    undisturbed = train(tmp_path / "one", spec, inputs)
    seen: list[int] = []

    def kill_at_five(metrics, steps) -> None:
        seen.append(metrics.step)
        if metrics.step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "two", spec, inputs, kill_at_five)
    resumed = train(tmp_path / "two", spec, inputs, lambda metrics, steps: seen.append(metrics.step))
    assert seen == [1, 2, 3, 4, 5, 5, 6, 7], "it went on from the checkpoint of step 4"
    assert resumed.facts["weights"] == undisturbed.facts["weights"]
