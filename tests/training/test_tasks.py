"""Several tasks on one body: their shares of the loss, their own outputs, and training that no layout changes."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.labels.labels import IGNORED
from tasks.data.labels.model_head import TaskOutputs, read_head, read_tasks
from tasks.evaluation.scoring.predictions import load_answers, outputs_of, predict_suites
from tasks.evaluation.suites.build import build_suites
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.inputs import open_dataset
from tasks.training.loop.head_losses import task_factors, task_loss
from tasks.training.loop.head_trainer import split_by_task
from tasks.training.models.load import load_model
from tasks.training.step import training_plan
from tasks.training.train import _make_trainer, train
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.toy_tasks import TASKS, task_texts, tasks_spec
from tests.training.heads import prepare_head

A, B = TaskOutputs("a", 0, 3), TaskOutputs("b", 3, 5)
TEXT = ("trades", "tempers")
MIXED = ("trades", "names")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts() + task_texts())


def make(folder, encoder, tasks=TEXT, count=90, **keys) -> RunSpec:
    training = {"epochs": None, "steps": 4, **keys.pop("training", {})}
    return RunSpec.model_validate(tasks_spec(folder, encoder, tasks, count, training=training, **keys))


class Outputs:
    def __init__(self, logits):
        self.logits = logits


def made_logits(count: int, outputs: int = 5) -> torch.Tensor:
    return torch.randn(count, outputs, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 4, 2, 3, IGNORED, 1, 4])
COUNTS = np.array([2, 1, 1, 3, 3])


def test_the_loss_is_the_formula_of_the_documentation() -> None:
    """Cross entropy over the task's own outputs, each label times (w_t / sum w) / (n_t / sum n)."""
    logits = made_logits(7)
    loss = task_loss([A, B], {"a": 3.0, "b": 1.0}, COUNTS)(Outputs(logits), LABELS, 6)
    expected = 0.0
    for row, label in enumerate(LABELS.tolist()):
        if label in (0, 1, 2):
            expected += (3 / 4) / (4 / 10) * float(-logits[row, 0:3].log_softmax(0)[label])
        elif label in (3, 4):
            expected += (1 / 4) / (6 / 10) * float(-logits[row, 3:5].log_softmax(0)[label - 3])
    assert float(loss) == pytest.approx(expected / 6, rel=1e-6)


def test_the_outputs_of_another_task_get_no_gradient() -> None:
    logits = made_logits(7).requires_grad_()
    task_loss([A, B], {"a": 1.0, "b": 1.0}, COUNTS)(Outputs(logits), LABELS, 6).backward()
    of_a = (LABELS >= 0) & (LABELS < 3)
    assert (logits.grad[of_a, 3:] == 0).all()
    assert (logits.grad[~of_a, :3] == 0).all()
    assert (logits.grad[of_a, :3] != 0).all()


@pytest.mark.parametrize("counts", [[5, 5, 5, 5, 5], [1, 0, 0, 300, 700]])
def test_a_task_has_its_share_of_the_loss_however_many_labels_it_has(counts) -> None:
    factors = task_factors([A, B], {"a": 3.0, "b": 1.0}, np.array(counts))
    total = {"a": factors["a"] * sum(counts[:3]), "b": factors["b"] * sum(counts[3:])}
    assert total["a"] / (total["a"] + total["b"]) == pytest.approx(0.75)
    assert sum(total.values()) == pytest.approx(sum(counts))


def test_a_task_that_training_never_shows_is_refused() -> None:
    with pytest.raises(UserError, match="no label of task b"):
        task_factors([A, B], {"a": 1.0, "b": 1.0}, np.array([1, 1, 1, 0, 0]))


def test_the_loss_of_a_step_does_not_depend_on_how_it_is_cut() -> None:
    logits, loss = made_logits(7), task_loss([A, B], {"a": 3.0, "b": 1.0}, COUNTS)
    whole = loss(Outputs(logits), LABELS, 6)
    cuts = [(0, 1), (1, 4), (4, 5), (5, 7)]
    parts = [loss(Outputs(logits[start:stop]), LABELS[start:stop], 6) for start, stop in cuts]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)
    words = loss(Outputs(logits[None]), LABELS[None], 6)
    assert float(words) == pytest.approx(float(whole), rel=1e-6)


def test_one_task_alone_in_a_pass_has_the_loss_it_has_alone() -> None:
    logits = made_logits(4)
    loss = task_loss([A, B], {"a": 1.0, "b": 1.0}, np.array([1, 1, 0, 1, 1]))
    found = loss(Outputs(logits), torch.tensor([3, 4, 4, 3]), 4)
    assert float(found) == pytest.approx(float(cross_entropy(logits[:, 3:], torch.tensor([0, 1, 1, 0]))))


@pytest.mark.parametrize("tasks", [TEXT, MIXED])
@pytest.mark.parametrize("length", [16, 48])
def test_the_labels_of_the_plan_are_counted_as_they_are_trained(tmp_path, encoder, tasks, length) -> None:
    """Length 16 cuts documents off; a label that is cut off is not counted."""
    spec = make(tmp_path / "d", encoder, tasks, training={"sequence_length": length, "batch_tokens": 96})
    *_, inputs = prepare_head(tmp_path / "state", spec)
    dataset, _ = open_dataset(spec, inputs)
    names = inputs.head.head.names
    found = np.zeros(len(names), int)
    for k in range(len(dataset)):
        for ids, labels in dataset[k]["documents"]:
            labels = np.atleast_1d(labels)
            np.add.at(found, labels[labels != IGNORED], 1)
            assert len(ids) <= length
    assert dataset.label_counts(len(names)).tolist() == found.tolist()
    for task in inputs.head.head.tasks:
        assert found[task.start : task.stop].sum() > 0


def test_beside_tagged_words_a_text_has_its_label_at_its_last_token(tmp_path, encoder) -> None:
    spec = make(tmp_path / "d", encoder, MIXED)
    *_, inputs = prepare_head(tmp_path / "state", spec)
    dataset, _ = open_dataset(spec, inputs)
    documents = [document for k in range(len(dataset)) for document in dataset[k]["documents"]]
    trades = [(ids, labels) for ids, labels in documents if 0 <= labels.max() < 3]
    assert 0 < len(trades) < len(documents)
    for ids, labels in trades:
        assert ids[-1] == inputs.special.eos
        assert labels[-1] != IGNORED
        assert (labels[:-1] == IGNORED).all()


def test_a_batch_is_parted_by_task_and_nothing_is_lost() -> None:
    labels = torch.tensor([[IGNORED, 4], [1, IGNORED], [IGNORED, IGNORED], [3, 3]])
    batch = {"labels": labels, "input_ids": torch.arange(8).view(4, 2)}
    parts = list(split_by_task(batch, (A, B)))
    assert [part["input_ids"].tolist() for part in parts] == [[[2, 3]], [[0, 1], [6, 7]]]
    assert [len(part["labels"]) for part in split_by_task(batch, ())] == [4]


METHODS = {
    "full": {"kind": "full"},
    "per task": {"kind": "adapter_pfeiffer", "size": 4, "per_task": True},
    "prompts": {"kind": "p_tuning_v2", "virtual_tokens": 4},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tasks", [TEXT, MIXED])
def test_the_gradient_of_a_step_does_not_depend_on_its_layout(tmp_path, encoder, tasks, method) -> None:
    norms = []
    for micro in (48, 384):
        spec = make(
            tmp_path / "d", encoder, tasks, method=METHODS[method],
            training={"steps": 2, "micro_batch_tokens": micro, "max_grad_norm": 1e9},
        )  # fmt: skip
        *_, inputs = prepare_head(tmp_path / "state", spec)
        tuned = attach(spec, inputs, find_device())
        for module in tuned.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # its draws follow the layout
        tuned.model.config.attention_probs_dropout_prob = 0.0
        for module in tuned.model.modules():
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0
        trainer, _ = _make_trainer(tuned, tmp_path / f"{micro}", spec, inputs, find_device(), None)
        trainer.train()
        norms.append(trainer.state.log_history[0]["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_weight_of_a_task_changes_the_training(tmp_path, encoder) -> None:
    heavier = {
        "kind": "multi_task", "tasks": [TASKS["trades"], {**TASKS["tempers"], "weight": 5}]
    }  # fmt: skip
    spec = make(tmp_path / "d", encoder)
    other = make(tmp_path / "d", encoder, objective=heavier)
    *_, inputs = prepare_head(tmp_path / "state", spec)
    *_, others = prepare_head(tmp_path / "state", other)
    assert training_plan(tmp_path, spec, inputs).key != training_plan(tmp_path, other, others).key
    gradients = []
    for one, given in ((spec, inputs), (other, others)):
        tuned = attach(one, given, find_device())
        trainer, _ = _make_trainer(tuned, tmp_path / "t", one, given, find_device(), None)
        dataset, collate = open_dataset(one, given)
        batch = collate([dataset[k] for k in range(4)])
        tuned.model.eval()
        outputs = tuned.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        trainer.compute_loss_func(outputs, batch["labels"]).backward()
        gradients.append(tuned.model.classifier.bias.grad.clone())
    assert torch.allclose(gradients[1][:3], gradients[0][:3] * (1 / 6) / (1 / 2), rtol=1e-4)
    assert torch.allclose(gradients[1][3:], gradients[0][3:] * (5 / 6) / (1 / 2), rtol=1e-4)


@pytest.mark.parametrize("tasks", [TEXT, MIXED])
def test_every_task_is_learnt_and_answers_with_its_own_labels(tmp_path, encoder, tasks) -> None:
    spec = make(tmp_path / "d", encoder, tasks, 160, training={"steps": 60, "learning_rate": 5e-3})
    prepared, tokenized, inputs = prepare_head(tmp_path / "state", spec)
    folder = train(tmp_path / "state", spec, inputs).folder / "model"
    assert read_head(folder)[1] == tokenized.labels.names
    assert read_tasks(folder) == tokenized.labels.tasks
    suites = build_suites(spec, prepared, tokenized)
    assert [(suite.name, suite.task, suite.kind) for suite in suites] == [(t, t, "domain") for t in tasks]
    step = predict_suites(tmp_path / "state", spec, suites, folder)
    for number, suite in enumerate(suites):
        answers = load_answers(step, number)
        own, _ = outputs_of(folder, suite.task)
        assert {label for answer in answers for label in answer} <= set(own)
        right = [a == b for item, found in zip(suite.items, answers, strict=True) for a, b in zip(item.gold, found, strict=True)]  # fmt: skip
        assert np.mean(right) > 0.8


def test_a_model_of_other_tasks_is_named_as_what_it_is(tmp_path, encoder) -> None:
    spec = make(tmp_path / "d", encoder, training={"steps": 1})
    *_, inputs = prepare_head(tmp_path / "state", spec)
    folder = train(tmp_path / "state", spec, inputs).folder / "model"
    assert outputs_of(folder, "tempers") == (("calm", "hasty"), 3)
    with pytest.raises(UserError, match="no outputs for task names: its tasks are trades, tempers"):
        outputs_of(folder, "names")
    with pytest.raises(UserError, match="no outputs for one task: its tasks are trades, tempers"):
        outputs_of(folder, None)


class Killed(Exception):
    """The process would have ended here."""


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_the_weights_are_those_of_the_undisturbed_run(tmp_path, encoder, method) -> None:
    training = {"steps": 7, "checkpoint_every": 2, "learning_rate": 0.01}
    spec = make(tmp_path / "d", encoder, method=METHODS[method], training=training)
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
    load_model(resumed.folder / "model")
