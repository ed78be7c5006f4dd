"""The order of `--set` tells nothing, and none is lost."""

import itertools
from pathlib import Path

import pytest

from schemas.errors import UserErrors
from schemas.reading.load import load_spec
from tests.schemas.test_load import GOOD, edited, load, project

__all__ = ["project"]

GROUPS = {
    "a kind and its settings": ("method.r=32", "method.kind=lora", "method.alpha=64"),
    "a section and keys below it": ("training={steps: 9, learning_rate: 1e-3}", "training.seed=4", "training.batch_tokens=2048"),
    "a section without its kind": ("method={r: 3}", "method.kind=lora", "mixture.replay_ratio=0.5"),
    "an entry of a list and keys of it": ("remedies=[{kind: ewc}]", "remedies.0.strength=3", "remedies.0.gamma=0.5"),
    "a kind in a list": ("remedies=[{strength: 3}]", "remedies.0.kind=ewc", "remedies.00.gamma=0.5"),
    "the same said twice": ("method.kind=lora", "method={kind: lora}", "method.kind=lora ", "method.r=2"),
    "null and another length": ("training.steps=null", "training.epochs=2", "training.seed=1"),
    "what stands deeper": ("base={from_scratch: {layers: 2, heads: 2}}", "base.from_scratch.kv_heads=1",
        "base.from_scratch.tokenizer={alphabet_size: 80}", "base.from_scratch.tokenizer.vocab_size=512"),
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("method", ["{kind: full}", "{kind: lora, r: 16}"])
def test_overrides_in_any_order_give_one_specification(group: str, method: str) -> None:
    text = edited("{kind: lora, r: 16}", "{kind: full}" if "deeper" in group else method)
    if "deeper" in group:
        text = text.partition("  general:")[0]
    dumps = set()
    for order in itertools.permutations(GROUPS[group]):
        spec = load(text, *order)
        dumps.add(spec.model_dump_json())
        if group == "a kind and its settings":
            assert (spec.method.r, spec.method.alpha) == (32, 64)  # type: ignore[union-attr]
    assert len(dumps) == 1


LOST = {
    "a value twice": ("mixture.replay_ratio=0.1", "mixture.replay_ratio=0.2"),
    "a number and true": ("training.seed=1", "training.seed=true"),
    "a section with another value": ("method={kind: lora, r: 8}", "method.r=32"),
    "a section with another kind": ("method={kind: full}", "method.kind=lora"),
    "a section with another kind than a setting's": ("method={kind: full}", "method.r=32"),
    "another kind than a setting's": ("method.kind=full", "method.r=32"),
    "an entry of a list": ("domain=[{path: data/domain.txt, contract: domain_text}]", "domain.0.path=data/general.txt"),
    "nothing, and a key of it": ("mixture=null", "mixture.replay_ratio=0.1"),
    "a plain value, and a key of it": ("mixture=0.1", "mixture.replay_ratio=0.1"),
}  # fmt: skip


@pytest.mark.parametrize("pair", LOST)
def test_an_override_that_would_be_lost_is_refused_and_both_are_named(pair: str) -> None:
    for order in itertools.permutations([*LOST[pair], "training.learning_rate=1e-3"]):
        with pytest.raises(UserErrors) as caught:
            load(GOOD, *order)
        told = " ".join(map(str, caught.value.errors))
        assert all(f"--set {text}" in told for text in LOST[pair]), told


@pytest.mark.parametrize("key", ["domain.².path=x", "domain.٣.path=x", f"domain.{'9' * 5000}.path=x"])
def test_an_index_that_is_no_plain_number_is_told(key: str) -> None:
    with pytest.raises(UserErrors, match="does not exist"):
        load(GOOD, key)


def test_a_layer_may_replace_what_lies_below_it_and_nothing_within_a_layer() -> None:
    Path("spec.yaml").write_text(GOOD)

    def loaded(*own: str, below: list[list[str]]) -> tuple[float | None, float]:
        spec = load_spec(Path("spec.yaml"), own, (), below)
        return spec.mixture.replay_ratio, spec.training.learning_rate

    shared, candidate = ["mixture.replay_ratio=0.1"], ["mixture.replay_ratio=0.2"]
    assert loaded("training.learning_rate=1e-3", below=[shared, candidate]) == (0.2, 1e-3)
    assert loaded("mixture.replay_ratio=0.3", below=[shared, candidate])[0] == 0.3
    assert loaded("mixture.replay_ratio=0.3", below=[["mixture={replay_ratio: 0.1}"]])[0] == 0.3
    with pytest.raises(UserErrors, match="set twice"):
        loaded(below=[["mixture.replay_ratio=0.1", "mixture.replay_ratio=0.2"]])
    with pytest.raises(UserErrors, match="set twice"):  # what all share would be lost without a word
        loaded(below=[["mixture.replay_ratio=0.1"], ["mixture={replay_ratio: 0.2}"]])


def test_an_override_deeper_than_any_specification_is_refused(project: Path) -> None:
    with pytest.raises(UserErrors) as refused:
        load(GOOD, ".".join(["a"] * 5000) + "=1")
    assert refused.value.errors[0].what == "nested too deeply"
