"""A forward pass is timed of the base, of the method beside it, and merged; once for the same models."""

from pathlib import Path

import pytest

from schemas.results.counts import Latency
from tasks.evaluation.scoring import latency
from tasks.evaluation.scoring.latency import TOKENS, measure_latency
from tests.tiny_base import make_base
from tests.tuned_folder import make_tuned


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Class and tokens of every model that is timed; the time is its place in the list."""
    seen: list[tuple[str, int]] = []
    real = latency.milliseconds

    def note(model, vocabulary, device, tokens):
        assert real(model, vocabulary, device, tokens) > 0
        seen.append((type(model).__name__, tokens))
        return float(len(seen))

    monkeypatch.setattr(latency, "milliseconds", note)
    return seen


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("lora", Latency(base=1, tuned=2, merged=3)),
        ("adapter", Latency(base=1, tuned=2, merged=None)),
        ("full", Latency(base=1, tuned=1, merged=1)),
    ],
)
def test_what_is_deployed_is_timed_beside_its_base(base, tmp_path, timed, kind, expected):
    saved = make_tuned(base, tmp_path / "model", kind, 1)
    found = measure_latency(tmp_path, base, saved, 300)
    assert found.model_copy(update={"tokens": TOKENS}) == expected
    assert 0 < found.tokens <= TOKENS
    assert {tokens for _, tokens in timed} == {found.tokens}
    assert timed[-1][0] == "LlamaForCausalLM"
    assert ("PeftModelForCausalLM" in dict(timed)) == (kind == "lora")
    assert measure_latency(tmp_path, base, saved, 300) == found, "read, not measured again"
    assert len(timed) == {"lora": 3, "adapter": 2, "full": 1}[kind]
