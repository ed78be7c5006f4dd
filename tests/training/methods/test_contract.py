"""What every tuning method promises, checked for each row of the registry."""

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.labels.labels import IGNORED
from tasks.data.model.folder import is_tuned
from tasks.data.tokens.tokenizer import load_tokenizer
from tasks.evaluation.scoring.generate import generate
from tasks.training.attach import attach
from tasks.training.batches.isolation import require_isolation
from tasks.training.device import find_device
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.loop.checkpoints import list_checkpoints
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_base, load_model, load_tuned
from tasks.training.step import training_plan
from tasks.training.train import _make_trainer, train
from tests.training.methods.promises import (
    assert_merged_the_same,
    assert_same_gradient,
    assert_saved_as_trained,
    assert_the_loss_falls,
    first_gradient,
    seen_at_save,
)
from tests.training.methods.small import (
    BIASED,
    NO_WAY_BACK,
    NOT_THE_BASE_AT_START,
    SMALL,
    WIDE,
)
from tests.training.prepared import prepare_inputs, spec_of

IDS = torch.arange(3, 40)[None]
LANGUAGE = [kind for kind, entry in METHODS.items() if not entry.settings.needs_task_head]
BASIC = [kind for kind in LANGUAGE if SMALL[kind] is not None]


def spec_for(root: Path, base: Path, kind: str, **training: Any) -> RunSpec:
    return spec_of(root, base, method={"kind": kind, **SMALL[kind]}, training=training)


def logits(model: Any) -> torch.Tensor:
    """Logits of the text's own tokens: (1, T, V)."""
    with torch.inference_mode():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS), use_cache=False).logits[
            :, -IDS.shape[1] :
        ]


def base_of(kind: str, base: Path) -> Any:
    """The base as the method holds it (a quantised one in 4 bits)."""
    entry = METHODS[kind]
    settings = entry.settings(**SMALL[kind])
    return load_base(base, None, entry.base_settings(settings) if entry.base_settings else None)


@pytest.fixture
def base(request: pytest.FixtureRequest, base: Path, wide_base: Path, biased_base: Path) -> Path:
    """The tiny base that suits the kind under test."""
    kind = request.node.callspec.params["kind"]
    return wide_base if kind in WIDE else biased_base if kind in BIASED else base


@pytest.fixture
def inputs(root: Path, base: Path) -> TrainingInputs:
    """Data and plan are the same for every method."""
    return prepare_inputs(root, spec_of(root, base, training={"steps": 8}))


@pytest.fixture(scope="module")
def done() -> dict[str, Any]:
    """kind -> the finished training step."""
    return {}


@pytest.fixture
def trained(
    root: Path,
    base: Path,
    inputs: TrainingInputs,
    done: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """kind -> the finished training step, each done once."""

    def provide(kind: str) -> Any:
        if kind not in done:
            state = tmp_path_factory.mktemp(kind)
            done[kind] = train(state, spec_for(root, base, kind, steps=8, checkpoint_every=3), inputs)
        return done[kind]

    return provide


def test_every_method_has_small_settings_here():
    assert SMALL.keys() == METHODS.keys()


@pytest.mark.parametrize("kind", BASIC)
def test_training_starts_at_the_base_model(root, base, inputs, kind):
    tuned = attach(spec_for(root, base, kind, steps=8), inputs, find_device())
    same = torch.equal(logits(tuned.model), logits(base_of(kind, base)))
    assert same == (kind not in NOT_THE_BASE_AT_START)


@pytest.mark.parametrize("kind", BASIC)
def test_attaching_twice_gives_the_same_weights(root, base, inputs, kind):
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        states.append(attach(spec_for(root, base, kind, steps=8), inputs, find_device()).state())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("kind", BASIC)
def test_training_moves_what_it_says_and_nothing_else(root, base, inputs, tmp_path, kind):
    tuned = attach(spec_for(root, base, kind, steps=2), inputs, find_device())
    before = {name: p.detach().clone() for name, p in tuned.model.named_parameters()}
    wanted = {name for name, p in tuned.model.named_parameters() if p.requires_grad}
    assert wanted, "nothing trains"
    spec = spec_for(root, base, kind, steps=2, learning_rate=0.01, warmup_ratio=0)
    _make_trainer(tuned, tmp_path, spec, inputs, find_device(), None)[0].train()
    moved = {name for name, p in tuned.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert moved <= wanted


@pytest.mark.parametrize("kind", BASIC)
def test_the_loss_falls(trained, base, inputs, root, kind):
    dataset, collate = open_dataset(spec_for(root, base, kind, steps=8), inputs)
    batch = collate([dataset[k] for k in range(len(dataset))])
    labels = batch.pop("labels")

    def loss_of(model: Any) -> float:
        """Nats per label of all that is trained on; virtual tokens may stand in front."""
        with torch.inference_mode():
            out = model.eval()(**batch, use_cache=False).logits[:, -labels.shape[1] :]
        return float(
            cross_entropy(out[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED)
        )

    start = attach(spec_for(root, base, kind, steps=8), inputs, find_device()).model
    assert_the_loss_falls(trained(kind), 8, start, loss_of)


@pytest.mark.parametrize("kind", BASIC)
def test_what_is_saved_is_what_was_trained(root, base, inputs, tmp_path, kind):
    with seen_at_save(logits) as held:
        folder = train(tmp_path, spec_for(root, base, kind, steps=3), inputs).folder / "model"
    assert_saved_as_trained(kind, folder, logits, *held)
    assert not torch.equal(held[0], logits(load_model(base))), "training changed nothing"


@pytest.mark.parametrize("kind", [kind for kind in BASIC if kind not in NO_WAY_BACK])
def test_disabled_it_is_the_base(trained, base, kind):
    tuned = load_tuned(trained(kind).folder / "model")
    with tuned.disabled():
        assert torch.equal(logits(tuned.model), logits(base_of(kind, base)))
    assert not torch.equal(logits(tuned.model), logits(base_of(kind, base)))


@pytest.mark.parametrize("kind", BASIC)
def test_merged_it_computes_the_same(trained, kind):
    assert_merged_the_same(kind, trained(kind).folder / "model", logits)


@pytest.mark.parametrize("kind", BASIC)
def test_the_model_generates(trained, base, kind):
    from transformers import AutoTokenizer

    model = load_model(trained(kind).folder / "model")
    text = generate(model, AutoTokenizer.from_pretrained(base), "The old", 8, 0, 1, 0)
    assert text
    assert text == generate(model, AutoTokenizer.from_pretrained(base), "The old", 8, 0, 1, 0)
    ids = load_tokenizer(base).encode("The old").ids
    with torch.inference_mode():
        first = int(
            model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
            .logits[0, -1]
            .argmax()
        )
    whole = load_tokenizer(base).encode("The old" + text).ids
    assert whole[len(ids)] == first or text.startswith(load_tokenizer(base).decode([first])), (
        "generation and scoring disagree"
    )


@pytest.mark.parametrize("kind", [kind for kind in BASIC if METHODS[kind].settings.packs])
def test_packed_documents_do_not_see_each_other(trained, kind):
    require_isolation(load_model(trained(kind).folder / "model"), 32)


def gradient(root: Path, base: Path, scratch: Path, kind: str, **training: Any) -> dict[str, torch.Tensor]:
    spec = spec_for(root, base, kind, steps=4, max_grad_norm=1e9, **training)
    assert spec.training.batch_tokens == 128
    inputs = prepare_inputs(root, spec)
    tuned = attach(spec, inputs, find_device())
    return first_gradient(tuned, _make_trainer(tuned, scratch, spec, inputs, find_device(), None)[0])


@pytest.mark.parametrize("kind", BASIC)
def test_accumulated_or_with_checkpointed_activations_the_gradient_is_the_same(root, base, tmp_path, kind):
    whole = gradient(root, base, tmp_path / "whole", kind, micro_batch_tokens=128)
    assert_same_gradient(whole, gradient(root, base, tmp_path / "parts", kind, micro_batch_tokens=32))
    checkpoints = {"micro_batch_tokens": 128, "gradient_checkpointing": True}
    if METHODS[kind].settings.checkpoints_activations:
        assert_same_gradient(whole, gradient(root, base, tmp_path / "again", kind, **checkpoints))
        return
    with pytest.raises(ValueError, match="gradient_checkpointing"):
        spec_for(root, base, kind, steps=8, **checkpoints)


@pytest.mark.parametrize("kind", BASIC)
def test_killed_and_resumed_the_weights_are_those_of_the_undisturbed_run(
    root, base, inputs, trained, start, tmp_path, kind
):
    spec = spec_for(root, base, kind, steps=8, checkpoint_every=3)
    undisturbed = trained(kind)
    state = tmp_path / "killed"
    checkpoints = training_plan(state, spec, inputs).scratch / "checkpoints"
    process = start(spec, state, killed_at=5)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in list_checkpoints(checkpoints)] == ["step-3"]
    resumed = train(state, spec, inputs)
    assert resumed.facts["weights"] == undisturbed.facts["weights"]


@pytest.mark.parametrize("kind", BASIC)
def test_an_adapter_on_a_changed_base_is_refused(trained, base, tmp_path, kind):
    folder = trained(kind).folder / "model"
    if not is_tuned(folder):
        return
    saved = json.loads((folder / "method.json").read_text())
    for name in folder.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    (tmp_path / "method.json").write_text(json.dumps(saved | {"base_sha256": "0" * 64}))
    with pytest.raises(UserError, match="not the model that was tuned"):
        load_tuned(tmp_path)


@pytest.mark.parametrize("kind", METHODS)
def test_every_row_of_the_registry_is_filled_in(kind):
    row = METHODS[kind]
    optional = {"base_settings", "try_on"}
    assert all(getattr(row, field.name) for field in dataclasses.fields(row) if field.name not in optional)
    assert row.settings.model_fields["kind"].default == kind
