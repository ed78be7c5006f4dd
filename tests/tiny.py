"""The smallest run that is real: a new two-layer model, texts of two made-up trades, a few steps."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

DOMAIN = [
    "graft",
    "scion",
    "rootstock",
    "bud",
    "union",
    "cambium",
    "orchard",
    "pear",
    "quince",
    "cherry",
    "warm",
    "dry",
    "knife",
    "tape",
    "wax",
    "bark",
    "grows",
    "heals",
]
GENERAL = [
    "river",
    "boat",
    "harbour",
    "letter",
    "evening",
    "market",
    "bread",
    "window",
    "street",
    "slow",
    "quiet",
    "old",
    "child",
    "songs",
    "walks",
    "sells",
    "reads",
]
SPEC = """\
name: tiny
base: {{from_scratch: {{hidden_size: 32, intermediate_size: 64, layers: 2, heads: 2, kv_heads: 1, context_length: 64, tokenizer: {{vocab_size: 512, alphabet_size: 80}}}}}}
domain: [{{path: "{folder}/domain.txt", contract: domain_text}}]
replay: [{{path: "{folder}/general.txt", contract: general_text}}]
mixture: {{replay_ratio: 0.25}}
training: {{steps: 12, sequence_length: 64, batch_tokens: 512, learning_rate: 2.0e-2, checkpoint_every: 4}}
evaluation: {{domain_holdout: 0.2}}
promotion: {{min_gain: 0.2, absolute: {{domain: 6}}}}
"""


def write_tiny(folder: Path, copies: int = 1) -> Path:
    """Write `tiny.yaml` and its texts; `copies` of the domain's files make as many shards."""
    choose = random.Random(5)

    def document(words: list[str]) -> str:
        return " ".join(choose.choice(words) for _ in range(choose.randint(12, 40))) + "."

    for number in range(copies):
        name = "domain.txt" if copies == 1 else f"domain-{number}.txt"
        (folder / name).write_text("".join(document(DOMAIN) + "\n" for _ in range(240 // copies)))
    (folder / "general.txt").write_text("".join(document(GENERAL) + "\n" for _ in range(120)))
    text = SPEC.format(folder=folder)
    (folder / "tiny.yaml").write_text(text if copies == 1 else text.replace("domain.txt", "domain-*.txt"))
    return folder


def put_on_base(folder: Path, name: str, base: str) -> Path:
    """Write `tiny.yaml` once more as `name`, on a base that exists (the line `base`): it then needs a general suite."""
    choose = random.Random(6)
    lines = (
        " ".join(choose.choice(GENERAL) for _ in range(choose.randint(12, 40))) + ".\n" for _ in range(40)
    )
    (folder / "suite.txt").write_text("".join(lines))
    general = f'general: [{{path: "{folder}/suite.txt", contract: general_text}}]'
    text = (
        (folder / "tiny.yaml").read_text().replace("domain_holdout: 0.2", f"domain_holdout: 0.2, {general}")
    )
    (folder / name).write_text(
        "".join(f"{base if line.startswith('base:') else line}\n" for line in text.splitlines())
    )
    return folder / name


@dataclass(frozen=True)
class Followed:
    """A flow run that has come to its end."""

    state: Path
    run: Any
    """prefect's FlowRun, read back from its server."""


def follow_tiny(files: Path, **form: Any) -> Followed:
    """Run the flow in this process with the form's fields, and read back what Prefect's server knows of it."""
    from flows.continual_training import continual_training

    state = files / "state"
    fields = {"spec": str(files / "tiny.yaml"), "state": str(state), **form}
    return Followed(state, ended(continual_training(**fields, return_state=True)))


def ended(final: Any) -> Any:
    """The flow run that ended in this state, as its server has it."""
    from prefect.client.orchestration import get_client

    from flows.serving.embedded import deliver

    deliver()
    with get_client(sync_client=True) as client:
        return client.read_flow_run(final.state_details.flow_run_id)


def artifacts_of(run: UUID) -> dict[str, Any]:
    """Key -> artifact of a flow run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        )
    return {artifact.key: artifact for artifact in found if artifact.key}
