"""A new head starts at the frequencies of the labels it is trained on; one that is there stays as it is."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from schemas.spec.run import RunSpec
from tasks.data.labels.model_head import TaskOutputs
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.loop.head_losses import own_positions
from tasks.training.loop.head_start import load_at_start, log_frequencies
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.toy_tasks import task_texts, tasks_spec
from tests.training.heads import head_spec, prepare_head

TEXT, WORD = "text_classification", "token_classification"


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts() + task_texts())


def trained_labels(spec: RunSpec, inputs: TrainingInputs) -> list[int]:
    dataset, _ = open_dataset(spec, inputs)
    documents = [document for k in range(len(dataset)) for document in dataset[k]["documents"]]
    found = np.concatenate([np.atleast_1d(labels) for _, labels in documents])
    return found[found >= 0].tolist()


@pytest.mark.parametrize("family", ["encoder", "base"])
def test_before_the_first_step_the_loss_is_the_entropy_of_the_labels(tmp_path, request, family) -> None:
    """What nothing but counting the labels would reach. The random weights beside the bias add a little."""
    spec = head_spec(tmp_path, WORD, request.getfixturevalue(family), training={"epochs": 1})
    *_, inputs = prepare_head(tmp_path / "state", spec)
    labels = trained_labels(spec, inputs)
    shares = np.array(list(Counter(labels).values())) / len(labels)
    entropy = -float((shares * np.log(shares)).sum())
    assert entropy < np.log(len(inputs.head.head.names)) - 0.5, "equal probabilities would be far off"
    model = attach(spec, inputs, find_device()).model.eval()
    dataset, collate = open_dataset(spec, inputs)
    batch = collate([dataset[k] for k in range(len(dataset))])
    with torch.inference_mode():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    flat, gold = own_positions(logits, batch["labels"]).flatten(0, -2), batch["labels"].flatten()
    loss = float(cross_entropy(flat.float(), gold, ignore_index=-100))
    assert abs(loss - entropy) < 0.25


def test_a_head_of_texts_has_the_logarithm_of_the_frequencies_as_its_bias(tmp_path, encoder) -> None:
    spec = head_spec(tmp_path, TEXT, encoder, training={"epochs": 1})
    *_, inputs = prepare_head(tmp_path / "state", spec)
    counts = np.bincount(trained_labels(spec, inputs), minlength=3)
    assert counts.max() > 1.5 * counts.min()
    bias = load_at_start(spec, inputs, None).model.classifier.bias.detach().numpy()
    assert np.exp(bias) == pytest.approx((counts + 1) / (counts.sum() + 3), rel=1e-5)


def test_each_task_starts_at_the_frequencies_of_its_own_labels(tmp_path, encoder) -> None:
    spec = RunSpec.model_validate(tasks_spec(tmp_path, encoder, ("trades", "tempers"), 90))
    *_, inputs = prepare_head(tmp_path / "state", spec)
    counts = np.bincount(trained_labels(spec, inputs), minlength=5)
    bias = load_at_start(spec, inputs, None).model.classifier.bias.detach().numpy()
    for part in (slice(0, 3), slice(3, 5)):
        assert np.exp(bias[part]) == pytest.approx((counts[part] + 1) / (counts[part] + 1).sum(), rel=1e-5)


def test_a_label_that_is_never_trained_starts_rare_and_not_impossible() -> None:
    found = log_frequencies(np.array([97, 0, 8, 1]), [TaskOutputs("a", 0, 2), TaskOutputs("b", 2, 4)])
    assert np.exp(found) == pytest.approx([98 / 99, 1 / 99, 9 / 11, 2 / 11])


def test_a_head_that_is_there_keeps_its_bias(tmp_path, encoder) -> None:
    spec = head_spec(tmp_path, TEXT, encoder, training={"epochs": 1})
    *_, inputs = prepare_head(tmp_path / "state", spec)
    model = load_at_start(spec, inputs, None).model
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([5.0, 6.0, 7.0]))
    model.save_pretrained(tmp_path / "with-head")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "with-head" / name).write_bytes((encoder / name).read_bytes())
    again = head_spec(tmp_path / "again", TEXT, tmp_path / "with-head", training={"epochs": 1})
    *_, inputs = prepare_head(tmp_path / "state", again)
    assert load_at_start(again, inputs, None).model.classifier.bias.tolist() == [5.0, 6.0, 7.0]
