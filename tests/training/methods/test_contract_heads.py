"""What every tuning method promises on an encoder with a new head, for whole texts and for words.

The same promises as of language models (test_contract.py), but for those that a head has no use for: documents are
rows of their own, so nothing is packed, and nothing is generated.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.labels.labels import IGNORED
from tasks.storage.steps import Step
from tasks.training.attach import attach
from tasks.training.device import find_device
from tasks.training.inputs import TrainingInputs, open_dataset
from tasks.training.loop.checkpoints import list_checkpoints
from tasks.training.loop.head_start import load_at_start
from tasks.training.methods.registry import METHODS
from tasks.training.models.load import load_tuned
from tasks.training.step import training_plan
from tasks.training.train import _make_trainer, train
from tests.tiny_encoder import make_encoder
from tests.toy_heads import toy_texts
from tests.training.heads import head_spec, prepare_head
from tests.training.methods.promises import (
    assert_merged_the_same,
    assert_same_gradient,
    assert_saved_as_trained,
    first_gradient,
    seen_at_save,
)
from tests.training.methods.small import (
    NO_WAY_BACK,
    NOT_THE_BASE_AT_START,
    SMALL,
    WIDE,
)
from tests.training.methods.tiny_models import trainable

SHAPES = ("text_classification", "token_classification")
REFUSED = {"p_tuning_template": "a template has virtual tokens between words, a tagged word none in it"}
"""kind -> why it trains no heads."""
KINDS = [kind for kind in METHODS if kind not in REFUSED]
HEAD = "classifier"
IDS = torch.tensor([[2, *range(20, 40), 3], [2, *range(60, 70), 3, *[0] * 10]])
MASK = (IDS != 0).long()

TRAINS: dict[str, tuple[str, ...]] = {
    "full": ("*",),
    "lora": ("*.lora_A.*", "*.lora_B.*"),
    "adalora": ("*.lora_A.*", "*.lora_B.*", "*.lora_E.*"),
    "qlora": ("*.lora_A.*", "*.lora_B.*"),
    "ia3": ("*.ia3_l.*",),
    "vera": ("*.vera_lambda_b.*", "*.vera_lambda_d.*"),
    "osf": ("*.osf_svd_params.*",),
    "prompt_tuning": ("prompt_encoder.*",),
    "prefix_tuning": ("prompt_encoder.*",),
    "p_tuning": ("prompt_encoder.*",),
    "p_tuning_v2": ("prompt_encoder.*",),
    "selective": ("*.layer.1.*",),
    "head_only": (),
    "bitfit": ("*.bias",),
    "lisa": ("*.embeddings.*", "*.pooler.*", "*.layer.*"),
    "sparse": ("*.values",),
    "fisher": ("*.values",),
    "diff_pruning": ("*.parametrizations.weight.0.*",),
    "adapter": ("rootstock.*",),
    "adapter_pfeiffer": ("rootstock.*",),
    "adapter_parallel": ("rootstock.*",),
    "adapter_drop": ("rootstock.*",),
    "adapter_fusion": ("rootstock.*.query.*", "rootstock.*.key.*", "rootstock.*.value.*"),
    "mam": ("rootstock.*",),
    "unipelt": ("rootstock.*",),
}
"""kind -> names of everything that it trains beside the head, and of nothing else."""
IN_TURN = {
    "lisa": "one of the two layers at a time",
    "adapter_drop": "blocks left out of a step learn nothing in it",
    "adalora": "singular values that the budget takes away are zero again",
}
"""kind -> why not all of it has moved after a few steps."""


@dataclass(frozen=True)
class Case:
    """A method on a head, and what training reads."""

    kind: str
    spec: RunSpec
    inputs: TrainingInputs

    def trainer(self, scratch: Path) -> tuple[Any, Any]:
        """The method attached, and its trainer."""
        tuned = attach(self.spec, self.inputs, find_device())
        return tuned, _make_trainer(tuned, scratch, self.spec, self.inputs, find_device(), None)[0]

    def base(self) -> Any:
        """The base with its new head, as the method holds it (a quantised one in 4 bits)."""
        entry = METHODS[self.kind]
        settings = entry.base_settings(self.spec.method) if entry.base_settings else None
        return load_at_start(self.spec, self.inputs, None, settings).model


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    case: Case
    step: Step
    logits: torch.Tensor
    """Of the model as it was saved."""
    features: torch.Tensor

    @property
    def folder(self) -> Path:
        return self.step.folder / "model"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny encoders with dropout, as they come; `still` ones have none, so that no draw follows a batch's layout."""
    folder = tmp_path_factory.mktemp("encoders")
    made = {"narrow": make_encoder(folder / "narrow", toy_texts())}
    made["wide"] = make_encoder(folder / "wide", toy_texts(), width=64)
    for name in ("narrow", "wide"):
        still = Path(shutil.copytree(made[name], folder / f"still {name}"))
        config = json.loads((still / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (still / "config.json").write_text(json.dumps(config))
        made[f"still {name}"] = still
    return made


Make = Callable[..., Case]


@pytest.fixture(scope="module")
def make(encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """(kind, shape, still, training settings) -> the case; the data stages are done once for all methods."""
    root = tmp_path_factory.mktemp("heads")
    adapters: dict[tuple[str, bool], list[str]] = {}
    prepared: dict[str, TrainingInputs] = {}

    def stage_one(shape: str, still: bool) -> list[str]:
        """Two adapters that fusion attends to."""
        if (shape, still) not in adapters:
            adapters[shape, still] = []
            for seed in (1, 2):
                case = make_case("adapter_pfeiffer", shape, still, seed=seed, steps=2)
                step = train(root / "stage one", case.spec, case.inputs)
                adapters[shape, still].append(str(step.folder / "model"))
        return adapters[shape, still]

    def make_case(kind: str, shape: str, still: bool = False, **settings: Any) -> Case:
        width = "wide" if kind in WIDE else "narrow"
        own = {"adapters": stage_one(shape, still)} if kind == "adapter_fusion" else SMALL[kind] or {}
        spec = head_spec(
            root / shape, shape, encoders[f"still {width}" if still else width], method={"kind": kind, **own},
            training={"epochs": None, "steps": 7, "checkpoint_every": 2, "learning_rate": 0.01, "warmup_ratio": 0,
                      **settings},
        )  # fmt: skip
        read = spec.model_dump_json(include={"base", "training"}) + shape  # no method reads other data
        if read not in prepared:
            prepared[read] = prepare_head(root / "state", spec)[2]
        return Case(kind, spec, prepared[read])

    return make_case


@pytest.fixture(scope="module")
def trained(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Trained]:
    """(kind, shape) -> its training of 7 steps, done once."""
    done: dict[tuple[str, str], Trained] = {}

    def provide(kind: str, shape: str) -> Trained:
        if (kind, shape) not in done:
            case = make(kind, shape)
            with seen_at_save(lambda model: (logits(model), features(model))) as held:
                step = train(tmp_path_factory.mktemp(kind), case.spec, case.inputs)
            done[kind, shape] = Trained(case, step, *held[0])
        return done[kind, shape]

    return provide


def logits(model: Any) -> torch.Tensor:
    """Of two texts, one of them padded: (2, labels), or (2, T, labels) of the texts' own tokens."""
    with torch.inference_mode():
        out = model.eval()(input_ids=IDS, attention_mask=MASK).logits
    if out.dim() == 2:
        return out
    return out[:, -IDS.shape[1] :] * MASK[..., None]  # padding has outputs that nobody reads


def features(model: Any) -> torch.Tensor:
    """What the head reads: the body's own work."""
    seen = []
    head = next(module for name, module in model.named_modules() if name.endswith(HEAD))
    handle = head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    logits(model)
    handle.remove()
    (read,) = seen
    return read if read.dim() == 2 else read[:, -IDS.shape[1] :] * MASK[..., None]


def loss_of(model: Any, case: Case) -> float:
    """Nats per label of the texts that are trained on."""
    dataset, collate = open_dataset(case.spec, case.inputs)
    batch = collate([dataset[k] for k in range(len(dataset))])
    labels = batch.pop("labels")
    with torch.inference_mode():
        out = model.eval()(**batch).logits
    out = out if out.dim() == 2 else out[:, -labels.shape[1] :]  # virtual tokens stand in front
    return float(cross_entropy(out.flatten(0, -2), labels.flatten(), ignore_index=IGNORED))


def assert_the_loss_falls(case: Case, tuned: Any, trainer: Any) -> None:
    before = loss_of(tuned.model, case)
    trainer.train()
    tuned.finish()
    assert loss_of(tuned.model, case) < before


def of_head(name: str) -> bool:
    return HEAD in name and "original_module" not in name


both = pytest.mark.parametrize("shape", SHAPES)
every = pytest.mark.parametrize("kind", KINDS)


def on(first: int, kinds: Sequence[str] = KINDS) -> pytest.MarkDecorator:
    """Each kind once, the shapes in turn: with `on(0)` and `on(1)` each kind meets both, and so does each promise."""
    return pytest.mark.parametrize(
        ("kind", "shape"), [(k, SHAPES[(KINDS.index(k) + first) % 2]) for k in kinds]
    )


def test_every_method_trains_heads_or_is_said_not_to():
    assert {*TRAINS, *REFUSED} == {*METHODS}


@both
@pytest.mark.parametrize("kind", REFUSED)
def test_what_trains_no_heads_is_refused_before_training(make, shape, kind):
    case = make(kind, shape)
    with pytest.raises(UserError) as error:
        attach(case.spec, case.inputs, find_device())
    assert error.value.where == "method.kind"


@both
@every
def test_training_starts_at_the_base(make, shape, kind):
    case = make(kind, shape)
    tuned, base = attach(case.spec, case.inputs, find_device()), case.base()
    for of in (logits, features):
        assert torch.equal(of(tuned.model), of(base)) == (kind not in NOT_THE_BASE_AT_START), of.__name__


@on(1)
def test_it_trains_the_head_and_what_it_says_and_nothing_else(make, tmp_path, shape, kind):
    case = make(
        kind, shape, steps=3
    )  # where a product of two matrices starts at zero, one of them moves second
    tuned, trainer = case.trainer(tmp_path)
    named = dict(tuned.model.named_parameters())
    said = {name for name in named if any(fnmatch(name, pattern) for pattern in TRAINS[kind])}
    said |= {name for name in named if of_head(name)}
    assert sum(map(of_head, said)) == 2, "weight and bias of the head"
    before = {name: p.detach().clone() for name, p in named.items()}
    assert trainable(tuned.model).keys() == said
    trainer.train()
    moved = {name for name, p in tuned.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved <= said
    assert any(not of_head(name) for name in moved) == (kind != "head_only"), "the head alone was trained"
    if kind not in IN_TURN:
        assert moved == said


@on(0)
def test_the_loss_falls(make, tmp_path, shape, kind):
    """Of all texts that are trained on: how frequent each label is, the new head knows before the first step."""
    case = make(kind, shape, still=True, steps=10, checkpoint_every=100)
    assert_the_loss_falls(case, *case.trainer(tmp_path))


@on(1, [kind for kind in KINDS if kind != "head_only"])
def test_the_loss_falls_without_the_head_s_learning(make, tmp_path, shape, kind):
    """What the method trains in the body is of use: a head would hide it if nothing there learned."""
    case = make(kind, shape, still=True, steps=10, checkpoint_every=100)
    tuned, trainer = case.trainer(tmp_path)
    for name, parameter in tuned.model.named_parameters():
        if of_head(name):
            parameter.requires_grad_(False)
    assert_the_loss_falls(case, tuned, trainer)


@on(0)
def test_what_is_saved_is_what_was_trained(trained, shape, kind):
    done = trained(kind, shape)
    assert_saved_as_trained(kind, done.folder, logits, done.logits)
    assert not torch.equal(done.logits, logits(done.case.base())), "training changed nothing"


@on(0, [kind for kind in KINDS if kind not in NO_WAY_BACK])
def test_disabled_the_body_is_the_base_s(trained, shape, kind):
    done = trained(kind, shape)
    tuned, base = load_tuned(done.folder), features(done.case.base())
    with tuned.disabled():
        assert torch.equal(features(tuned.model), base)
    assert torch.equal(features(tuned.model), base) == (kind == "head_only")


@on(0)
def test_merged_it_computes_the_same(trained, shape, kind):
    assert_merged_the_same(kind, trained(kind, shape).folder, logits)


@on(1)
def test_an_accumulated_gradient_is_that_of_the_whole_batch(make, tmp_path, shape, kind):
    found = []
    for micro in (48, 384):
        case = make(kind, shape, still=True, steps=3, micro_batch_tokens=micro, max_grad_norm=1e9)
        assert case.spec.training.batch_tokens == 384
        found.append(first_gradient(*case.trainer(tmp_path / str(micro))))
    assert_same_gradient(*found)


@on(0)
def test_gradient_checkpointing_gives_the_same_gradient_or_is_refused(make, tmp_path, shape, kind):
    if not METHODS[kind].settings.checkpoints_activations:
        with pytest.raises(ValueError, match="gradient_checkpointing"):
            make(kind, shape, gradient_checkpointing=True)
        return
    found = []
    for again in (False, True):
        case = make(kind, shape, steps=3, gradient_checkpointing=again)
        found.append(first_gradient(*case.trainer(tmp_path / str(again))))
    assert_same_gradient(*found)


@pytest.mark.slow
@on(0)
def test_stopped_in_the_middle_it_goes_on_to_the_same_weights(trained, tmp_path, shape, kind):
    undisturbed = trained(kind, shape)
    case = undisturbed.case

    def stop(metrics: Any, total: int) -> None:
        if metrics.step == 5:
            raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError, match="the power is gone"):
        train(tmp_path, case.spec, case.inputs, stop)
    scratch = training_plan(tmp_path, case.spec, case.inputs).scratch
    assert [path.name for path in list_checkpoints(scratch / "checkpoints")][-1] == "step-4"
    seen: list[int] = []
    resumed = train(tmp_path, case.spec, case.inputs, lambda metrics, total: seen.append(metrics.step))
    assert seen == [5, 6, 7]
    assert resumed.facts["weights"] == undisturbed.step.facts["weights"]
