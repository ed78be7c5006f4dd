"""Proxy trainings: the run itself, only shorter, at several replay ratios and lengths.

A proxy has the run's base, method, peak learning rate, schedule and data, and a seed of its own, which also draws the part of
the domain that it trains on: so the spread around a curve through the proxies shows what chance does. All proxies of one length
train the same number of domain tokens, to a step, and replay comes on top; the curve reads what each trained. Every training and score is a content-addressed step: what was killed goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.growing.effective import with_ratio
from flows.progress.watch import Silent, Watch
from schemas.errors import UserError
from schemas.results.artifacts import MixtureReport
from schemas.spec.mixture import Proxies
from schemas.spec.run import RunSpec
from tasks.data.model.folder import model_sha256
from tasks.data.prepare import Prepared, Tokenized, tokenize
from tasks.evaluation.scoring.score_model import score_model
from tasks.evaluation.suites.build import build_development
from tasks.evaluation.suites.items import Suite
from tasks.storage.steps import Step
from tasks.storage.workers import map_in_processes
from tasks.training.attach import require_method
from tasks.training.models.base_model import BaseModel
from tasks.training.train import train
from tasks.training.training_inputs import training_inputs

Call = Callable[..., Any]
Losses = list[npt.NDArray[np.float64]]
"""Summed loss of every document, one array per suite."""
SEED_STRIDE = 1_000_003
"""Between the seeds of proxies: a prime, so that they do not meet the seeds people choose."""


@dataclass(frozen=True)
class Proxy:
    """One short training."""

    replay_ratio: float
    domain_tokens: int
    number: int


@dataclass(frozen=True)
class Ground:
    """What all proxies of a choice share."""

    spec: RunSpec
    """The effective one, its ratio yet to be chosen."""
    state: Path
    prepared: Prepared
    base: BaseModel
    special: Any
    suites: tuple[Suite, ...]
    """Development parts."""
    key: dict[str, str]
    """What went into the data, by name."""
    whole: tuple[int, int]
    """Domain tokens and label tokens of the whole run without replay."""

    @property
    def proxies(self) -> Proxies:
        return self.spec.mixture.proxies or Proxies()

    def target_tokens(self, ratios: Any) -> Any:
        """Domain tokens of the whole run at each replay ratio: replay comes on top of epochs, but takes from tokens and steps."""
        ratios = np.asarray(ratios, float)
        domain = self.whole[0] * (np.ones_like(ratios) if self.spec.training.epochs else 1 - ratios)
        return np.maximum(domain, 1.0)


def lay_ground(
    spec: RunSpec, state: Path, prepared: Prepared, base: BaseModel, call: Call, map_shards: Any
) -> Ground:
    """Tokenise, part the general suites, and lay out the whole run once without replay to learn its length."""
    tokenized: Tokenized = call(
        tokenize,
        state,
        with_ratio(spec, 0.0),
        prepared,
        base.folder,
        map_shards=map_shards,
        note=Silent().note,
    )
    suites = tuple(build_development(spec, prepared, tokenized))
    report = tokenized.mixture
    key = {"base": model_sha256(base.folder), "divided": prepared.divided.key}
    key |= {f"suite {suite.name}": suite.key for suite in suites}
    key |= {f"tokens {label}": step.key for label, step in tokenized.steps.items()}
    whole = (report.domain_tokens, report.domain_tokens + report.replay_tokens)
    return Ground(spec, state, prepared, base, tokenized.special, suites, key, whole)


def list_proxies(ground: Ground, ratios: Sequence[float]) -> list[Proxy]:
    """Every ratio at every length; a proxy's number, and so its seed, does not depend on what else is tried.

    Raises:
        UserError: the shortest would train less than one batch, or less replay than one sequence.
    """
    training, lengths = ground.spec.training, ground.proxies.lengths
    shortest = round(ground.whole[0] * lengths[0])
    smallest = next((ratio for ratio in ratios if ratio), 0.0)
    replay = round(shortest * smallest / (1 - smallest))
    if shortest < training.batch_tokens or (smallest and replay < training.sequence_length):
        what = f"the shortest proxy has {shortest:,} domain tokens and {replay:,} of replay"
        raise UserError(
            f"{what}: at least a batch ({training.batch_tokens:,}) and a sequence ({training.sequence_length:,}) are needed",
            "mixture.proxies",
            "raise mixture.proxies.lengths or the smallest of mixture.proxies.ratios, or train longer",
        )
    return [
        Proxy(ratio, round(ground.whole[0] * length), round(ratio * 1e6) * 100 + number)
        for number, length in enumerate(lengths)
        for ratio in ratios
    ]


def cost_of_proxies(spec: RunSpec, domain_tokens: int) -> str:
    """What choosing a ratio trains, in words; `domain_tokens` are those of the whole run without replay."""
    proxies = spec.mixture.proxies or Proxies()
    length = sum(proxies.lengths) * domain_tokens
    always, further = (
        sum(length / (1 - r) for r in ratios) for ratios in (proxies.ratios, proxies.further_ratios)
    )
    return (
        f"{len(proxies.ratios) * len(proxies.lengths)} trainings of {always:,.0f} tokens in all,"
        f" up to {always + further:,.0f} if much replay is needed"
    )


def proxy_spec(spec: RunSpec, proxy: Proxy) -> RunSpec:
    """The run, only shorter, with the proxy's ratio and seed."""
    length = {"steps": None, "epochs": None, "tokens": round(proxy.domain_tokens / (1 - proxy.replay_ratio))}
    seed = (spec.training.seed + SEED_STRIDE * (proxy.number + 1)) % 2**32
    training = spec.training.model_copy(update={**length, "seed": seed})
    return with_ratio(spec, proxy.replay_ratio).model_copy(update={"training": training})


def require_method_of(ground: Ground, proxy: Proxy, call: Call) -> None:
    """Refuse before anything is scored what the training of this proxy would refuse.

    Raises:
        UserError: see `require_method`.
    """
    spec = proxy_spec(ground.spec, proxy)
    tokenized = _tokenize(ground, spec, call)
    require_method(ground.state, spec, training_inputs(spec, ground.base, ground.prepared, tokenized))


def train_proxy(
    ground: Ground, proxy: Proxy, watch: Watch, call: Call, title: str
) -> tuple[MixtureReport, Losses]:
    """Train and score one proxy: its mixture report, and the summed loss of every document of every suite."""
    spec = proxy_spec(ground.spec, proxy)
    tokenized = _tokenize(ground, spec, call)
    inputs = training_inputs(spec, ground.base, ground.prepared, tokenized)
    trained: Step = call(train, ground.state, spec, inputs, on_metrics=watch.trained)
    scored = call(score_model, ground.state, spec, ground.suites, trained.folder / "model", on_progress=None)
    report = tokenized.mixture
    watch.note(
        f"{title}: {report.domain_tokens:,} domain tokens, replay {report.achieved_ratio:.4f}, {report.steps} steps"
    )
    return report, losses_of(ground, scored)


def _tokenize(ground: Ground, spec: RunSpec, call: Call) -> Tokenized:
    tokenized: Tokenized = call(
        tokenize,
        ground.state,
        spec,
        ground.prepared,
        ground.base.folder,
        map_shards=map_in_processes,
        note=Silent().note,
    )
    return tokenized


def losses_of(ground: Ground, step: Step) -> Losses:
    """What a scoring step left."""
    return [np.load(step.folder / f"nats-{number}.npy") for number in range(len(ground.suites))]
