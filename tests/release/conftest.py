"""A state folder with real runs: small files, but every hash and alias is the real thing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.results.artifacts import Bindings, Decision, RuleOutcome
from tasks.release.registry import versions as registry
from tasks.storage.hashing import sha256_file
from tasks.training.models.judged import weights_sha256

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty registry.db: made once, since the migrations take seconds."""
    state = tmp_path_factory.mktemp("registry")
    registry._client(state)
    return state / "registry.db"


@pytest.fixture
def state(tmp_path: Path, empty_registry: Path) -> Path:
    folder = tmp_path / "state of 模型"
    folder.mkdir()
    shutil.copy(empty_registry, folder / "registry.db")
    return folder


@pytest.fixture
def make_run(state: Path) -> MakeRun:
    def make(run_id: str, outcome: str = "pass", name: str = "medical") -> Path:
        run = state / "runs" / run_id
        model = run / "model"
        model.mkdir(parents=True)
        (model / "model.safetensors").write_bytes(f"weights of {run_id}".encode())
        (model / "config.json").write_text('{"model_type": "llama"}')
        (model / "tokenizer.json").write_text("{}")
        (run / "spec.yaml").write_text(f"name: {name}\n")
        (run / "scores.json").write_text(json.dumps({"suites": [], "run": run_id}))
        (run / "decision.json").write_text(decision_of(run, outcome).model_dump_json())
        return run

    return make


def decision_of(run: Path, outcome: str) -> Decision:
    gain = {"pass": 0.4, "fail": -0.3, "undecided": 0.03}[outcome]
    rule = RuleOutcome(
        rule="gain", suite="domain", against="base", estimate=gain, low=gain - 0.1, high=gain + 0.1,
        threshold=0.02, outcome=outcome, reason="The domain loss moved.", clusters=40,
    )  # fmt: skip
    return Decision(
        verdict={"pass": "promote", "fail": "reject", "undecided": "inconclusive"}[outcome],
        sentence="The domain loss moved.",
        rules=(rule,),
        next_action="Add domain text.",
        bindings=Bindings(
            spec=sha256_file(run / "spec.yaml"),
            data="d" * 64,
            scores=sha256_file(run / "scores.json"),
            weights=weights_sha256(run / "model"),
            base="b" * 64,
        ),
    )
