"""Several tasks under every method that trains a head; adapters of a task's own, and their fusion."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.evaluation.scoring.predictions import load_answers, predict_suites
from tasks.evaluation.suites.build import build_suites
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.inputs import open_dataset
from tasks.training.loop.head_start import load_at_start
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_for_tasks, load_model, load_tuned, load_with_head
from tasks.training.train import _make_trainer, train
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.toy_tasks import TASKS, task_texts, tasks_spec
from tests.training.heads import head_spec, prepare_head
from tests.training.methods.small import SMALL

REFUSED = {
    "fisher": "among all outputs",
    "p_tuning_template": "task's head",
}
NOT_HERE = {
    "qlora": "needs a base wide enough for 4-bit blocks",
    "adapter_fusion": "needs adapters of earlier trainings: below",
}
KINDS = [kind for kind in METHODS if kind not in {*REFUSED, *NOT_HERE}]
PER_TASK = {"kind": "adapter_pfeiffer", "size": 8, "per_task": True}
IDS = torch.arange(6, 14)[None]
TEXT = ("trades", "tempers")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder") / "model", toy_texts() + task_texts())


def make(folder, encoder, method, tasks=TEXT, count=90, **training) -> RunSpec:
    training = {"epochs": None, "steps": 3, "learning_rate": 0.01, **training}
    return RunSpec.model_validate(tasks_spec(folder, encoder, tasks, count, method=method, training=training))


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def settings_of(kind: str) -> dict:
    return {"kind": kind, **(SMALL[kind] or {})}


@pytest.mark.parametrize("kind", KINDS)
def test_both_tasks_outputs_train_and_come_back(tmp_path, encoder, kind) -> None:
    spec = make(tmp_path / "d", encoder, settings_of(kind))
    *_, inputs = prepare_head(tmp_path / "state", spec)
    start = load_at_start(spec, inputs, None).model.classifier.weight
    folder = train(tmp_path / "state", spec, inputs).folder / "model"
    model = load_model(folder)
    classifier = next(
        m for n, m in model.named_modules() if n.endswith("classifier") and hasattr(m, "weight")
    )
    moved = (classifier.weight != start).any(dim=1)
    assert moved.tolist() == [True] * 5
    assert torch.equal(logits(model), logits(load_model(folder)))
    assert model.config.rootstock_tasks == [["trades", 0, 3], ["tempers", 3, 5]]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_train_several_tasks_is_refused_before_training(tmp_path, encoder, kind) -> None:
    spec = make(tmp_path / "d", encoder, settings_of(kind))
    *_, inputs = prepare_head(tmp_path / "state", spec)
    with pytest.raises(UserError) as error:
        attach(spec, inputs, find_device())
    assert error.value.where == "method.kind"
    assert "choose another method" in error.value.fix


def test_choosing_layers_by_gradient_is_refused(tmp_path, encoder) -> None:
    spec = make(tmp_path / "d", encoder, {"kind": "selective", "choose": "gradient", "layers": 1})
    *_, inputs = prepare_head(tmp_path / "state", spec)
    with pytest.raises(UserError, match="several tasks cannot be trained with it"):
        attach(spec, inputs, find_device())


@pytest.mark.parametrize("task", [0, 1])
def test_a_document_teaches_its_own_task_s_adapter_alone(tmp_path, encoder, task) -> None:
    spec = make(tmp_path / "d", encoder, PER_TASK)
    *_, inputs = prepare_head(tmp_path / "state", spec)
    tuned = attach(spec, inputs, find_device())
    assert tuned.tasks == TEXT
    trainer, _ = _make_trainer(tuned, tmp_path / "t", spec, inputs, find_device(), None)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1
    dataset, collate = open_dataset(spec, inputs)
    batch = collate([dataset[k] for k in range(6)])
    outputs = inputs.head.head.tasks[task]
    own = (batch["labels"] >= outputs.start) & (batch["labels"] < outputs.stop)
    assert 0 < own.sum() < len(own)
    tuned.use_task(TEXT[1 - task])  # what came before must not matter
    trainer.training_step(tuned.model, {name: tensor[own] for name, tensor in batch.items()}, int(own.sum()))
    touched = {
        name.split(".")[1]
        for name, p in tuned.model.named_parameters()
        if name.startswith("rootstock.") and p.grad is not None and p.grad.abs().sum() > 0
    }
    assert touched == {f"task_{TEXT[task]}"}


@pytest.fixture(scope="module")
def together(encoder, tmp_path_factory):
    """A training of two tasks with an adapter for each: (spec, prepared, tokenized, model folder, state)."""
    root = tmp_path_factory.mktemp("together")
    spec = make(root / "d", encoder, PER_TASK, count=240, steps=240, learning_rate=0.01)
    prepared, tokenized, inputs = prepare_head(root / "state", spec)
    folder = train(root / "state", spec, inputs).folder / "model"
    return spec, prepared, tokenized, folder, root / "state"


def accuracy(together, folder: Path, state: Path) -> list[float]:
    """Share of right answers in each task."""
    spec, prepared, tokenized, *_ = together
    suites = build_suites(spec, prepared, tokenized)
    step = predict_suites(state, spec, suites, folder)
    found = []
    for number, suite in enumerate(suites):
        answers = load_answers(step, number)
        right = [answer == list(item.gold) for item, answer in zip(suite.items, answers, strict=True)]
        found.append(sum(right) / len(right))
    return found


def test_each_task_is_answered_through_its_own_adapter(together, tmp_path) -> None:
    before = accuracy(together, together[3], tmp_path / "state")
    assert min(before) > 0.75
    for place, broken in enumerate(TEXT):
        copy = Path(shutil.copytree(together[3], tmp_path / broken))
        tensors = load_file(copy / "inserted.safetensors")
        generator = torch.Generator().manual_seed(0)
        for name, tensor in tensors.items():
            if name.startswith(f"rootstock.task_{broken}."):
                tensors[name] = torch.randn(tensor.shape, generator=generator) * 3
        save_file(tensors, copy / "inserted.safetensors")
        after = accuracy(together, copy, tmp_path / "state")
        assert after[place] < before[place] - 0.15
        assert after[1 - place] == before[1 - place]


def test_tasks_are_switched_to_the_bit(together, encoder) -> None:
    tuned = load_tuned(together[3])
    tuned.model.eval()
    tuned.use_task("trades")
    trades = logits(tuned.model)
    tuned.use_task("tempers")
    assert not torch.equal(logits(tuned.model), trades)
    tuned.use_task("trades")
    assert torch.equal(logits(tuned.model), trades)
    with tuned.disabled():
        bare = logits(tuned.model)
    assert not torch.equal(bare, trades)
    with pytest.raises(UserError, match="no task is called weather") as error:
        tuned.use_task("weather")
    assert error.value.fix == f"known: {', '.join(tuned.tasks)}"
    with pytest.raises(UserError, match="stand beside no others"):
        tuned.add("other", together[3])


def test_disabled_it_is_the_base_with_the_trained_head(together, encoder) -> None:
    tuned = load_tuned(together[3])
    with tuned.disabled():
        found = logits(tuned.model)
    plain = load_with_head(encoder, load_head(together[3]), None, 0).model
    plain.classifier.load_state_dict(tuned.model.classifier.state_dict())
    assert torch.equal(found, logits(plain))


def load_head(folder):
    from tasks.training.models.heads import head_of

    return head_of(folder)


def test_what_is_loaded_for_tasks_is_switched_by_name(together, encoder) -> None:
    model, use_task = load_for_tasks(together[3], None, "text_classification")
    assert not [p for p in model.parameters() if p.requires_grad]
    use_task("trades")
    trades = logits(model)
    use_task("tempers")
    assert not torch.equal(logits(model), trades)
    with pytest.raises(UserError, match="not for token_classification"):
        load_for_tasks(together[3], None, "token_classification")


def test_the_adapters_of_two_tasks_are_fused(together, encoder, tmp_path) -> None:
    references = [f"{together[3]}#trades", f"{together[3]}#tempers"]
    method = {"kind": "adapter_fusion", "adapters": references}
    spec = make(tmp_path / "d", encoder, method, count=240, steps=160, learning_rate=0.01)
    prepared, tokenized, inputs = prepare_head(tmp_path / "state", spec)
    folder = train(tmp_path / "state", spec, inputs).folder / "model"
    before = load_file(together[3] / "inserted.safetensors")
    after = load_file(folder / "inserted.safetensors")
    for index, task in enumerate(TEXT):
        kept = {name: t for name, t in before.items() if name.startswith(f"rootstock.task_{task}.")}
        assert len(kept) == 8, "two blocks, weight and bias, down and up"
        for name, tensor in kept.items():
            _, _, block, rest = name.split(".", 3)
            assert torch.equal(after[f"rootstock.{block}.adapters.{index}.{rest}"], tensor)
    moved = [t for name, t in after.items() if name.endswith("value.weight")]
    assert all(not torch.equal(t, torch.eye(len(t))) for t in moved)
    fused = accuracy((spec, prepared, tokenized), folder, tmp_path / "state")
    assert min(fused) > 0.75
    shutil.copytree(folder, tmp_path / "moved")
    assert torch.equal(logits(load_model(tmp_path / "moved")), logits(load_model(folder)))


def test_one_task_may_be_tuned_on_the_fusion_of_several(together, encoder, tmp_path) -> None:
    """Stage 2 of the paper: a head of one target task over everybody's adapters."""
    references = [f"{together[3]}#trades", f"{together[3]}#tempers"]
    method = {"kind": "adapter_fusion", "adapters": references}
    spec = head_spec(
        tmp_path / "d", "text_classification", encoder, method=method, training={"epochs": None, "steps": 2}
    )
    *_, inputs = prepare_head(tmp_path / "state", spec)
    folder = train(tmp_path / "state", spec, inputs).folder / "model"
    assert logits(load_model(folder)).shape == (1, 3)


def test_a_reference_to_an_adapter_that_is_not_there_is_named(together, encoder, tmp_path) -> None:
    def refused(*references: str) -> UserError:
        method = {"kind": "adapter_fusion", "adapters": references}
        spec = make(tmp_path / "d", encoder, method)
        *_, inputs = prepare_head(tmp_path / "state", spec)
        with pytest.raises(UserError) as error:
            attach(spec, inputs, find_device())
        assert error.value.where == "method.adapters"
        return error.value

    good = f"{together[3]}#trades"
    assert "there is no adapter of task temper" in (error := refused(good, f"{together[3]}#temper")).what
    assert "known: tempers, trades" in error.fix
    assert "names no task, and there is an adapter for each" in refused(good, str(together[3])).what
    alone = head_spec(
        tmp_path / "one", "text_classification", encoder,
        method={"kind": "adapter_pfeiffer", "size": 4}, training={"epochs": None, "steps": 1},
    )  # fmt: skip
    *_, inputs = prepare_head(tmp_path / "state", alone)
    folder = train(tmp_path / "state", alone, inputs).folder / "model"
    assert refused(good, f"{folder}#trades").fix == "leave out #TASK"


def test_words_and_texts_have_an_adapter_each(encoder, tmp_path) -> None:
    spec = make(tmp_path / "d", encoder, PER_TASK, ("trades", "names"), steps=2)
    *_, inputs = prepare_head(tmp_path / "state", spec)
    tuned = load_tuned(train(tmp_path / "state", spec, inputs).folder / "model")
    assert tuned.tasks == ("names", "trades")
    assert [TASKS[task]["kind"] for task in tuned.tasks] == ["token_classification", "text_classification"]
