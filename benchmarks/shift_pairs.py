"""The pairs of base and domain that the shift prior is calibrated on, and one training of a pair.

Every training is the product's own: prepared, laid out, trained and scored by the steps that a run takes.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from benchmarks import measure
from benchmarks.increments import texts
from flows.effective import with_ratio
from flows.training_inputs import training_inputs
from flows.watch import Silent
from schemas.run import RunSpec
from tasks.data.prepare import Prepared, Tokenized, prepare, tokenize
from tasks.evaluation.items import Suite
from tasks.evaluation.shift import SAMPLE_TOKENS, Shift, measure_shift
from tasks.evaluation.suites import build_domain_sample, build_suites, score_model
from tasks.training.models.base_model import BaseModel, provide_base
from tasks.training.schedules import mean_factor
from tasks.training.train import train

STATE = measure.ROOT / ".rootstock" / "shift_prior"
BYTES = 400_000
"""Of each domain, in UTF-8."""
SEQUENCE, SUITE_TOKENS = 128, 8_000


@dataclass(frozen=True)
class Setting:
    """How a pair is trained."""

    name: str
    learning_rate: float
    """Peak."""
    schedule: str
    domain_tokens: int
    batch_tokens: int
    ratios: tuple[float, ...]
    warmup_ratio: float = 0.05


FOUR = (0.0, 0.05, 0.25, 0.5)
SETTINGS = {
    "bundled": (
        Setting("fast and short", 1e-3, "constant", 6_000, 512, (*FOUR, 0.75)),
        Setting("slow and long", 3e-4, "cosine", 15_000, 1024, FOUR),
        Setting("fast and long", 1e-3, "cosine", 15_000, 1024, FOUR),
        Setting("slow and short", 3e-4, "constant", 6_000, 512, (*FOUR, 0.75)),
    ),
    "stories": (
        Setting("fast and short", 1e-3, "constant", 8_000, 512, (*FOUR, 0.75)),
        Setting("slow and long", 3e-4, "cosine", 40_000, 1024, FOUR),
        Setting("fast and long", 1e-3, "constant", 80_000, 2048, (0.0, 0.25, 0.75)),
        Setting("slow and short", 3e-4, "constant", 8_000, 512, (*FOUR, 0.75)),
    ),
}
"""Of these each pair takes the first two or the last two, in turn: over the pairs all four are seen."""
LONG = {"stories, law": Setting("as long as the rig", 1e-3, "constant", 300_000, 2048, (0.0, 0.5), 0.0)}
"""One more, so that the rig lies within what is calibrated."""
DOMAINS = {
    "bundled": ("medicine", "law", "finance", "code", "chinese_law", "chinese_medicine", "chinese_ml"),
    "stories": ("shakespeare", "medicine", "law", "finance", "code", "chinese_law"),
}


@dataclass(frozen=True)
class Pair:
    """A base and a domain, with the base's own general text."""

    base: str
    domain: str
    settings: tuple[Setting, ...]

    @property
    def name(self) -> str:
        return f"{self.base}, {self.domain}"

    def spec(self, setting: Setting, ratio: float, seed: int | None = None) -> RunSpec:
        """The run of one training; a seed of its own, so that chance is in the residuals."""
        own = crc32(f"{self.name} {setting.name} {ratio}".encode()) if seed is None else seed
        return RunSpec.model_validate(
            {
                "name": "shift",
                **GENERAL[self.base],
                "domain": [{"path": str(STATE / "text" / f"{self.domain}.jsonl"), "contract": "domain_text"}],
                "mixture": {"replay_ratio": ratio},
                "training": {
                    "tokens": round(setting.domain_tokens / (1 - ratio)),
                    "sequence_length": SEQUENCE,
                    "batch_tokens": setting.batch_tokens,
                    "learning_rate": setting.learning_rate,
                    "schedule": setting.schedule,
                    "warmup_ratio": setting.warmup_ratio,
                    "seed": own,
                },
            }
        )

    @cached_property
    def ground(self) -> "Ground":
        return Ground(self)


def _general(base: str, replay: list[dict[str, Any]], suites: list[str]) -> dict[str, Any]:
    general = [{"path": path, "contract": "general_text"} for path in suites]
    return {
        "base": base,
        "replay": [{"contract": "general_text", **source} for source in replay],
        "evaluation": {"domain_holdout": 0.1, "general": general, "max_tokens": SUITE_TOKENS},
    }


_ASSETS, _STORIES = measure.ROOT / "assets", "$ROOTSTOCK_DATA/models/stories260K"
GENERAL = {
    "bundled": _general(
        str(_ASSETS / "base"),
        [
            {"path": str(_ASSETS / "general" / "replay" / "en_*.txt"), "weight": 3},
            {"path": str(_ASSETS / "general" / "replay" / "zh_*.txt"), "weight": 1},
        ],
        [str(STATE / "text" / "english.jsonl"), str(STATE / "text" / "chinese.jsonl")],
    ),
    "stories": _general(
        f"{_STORIES}/hf",
        [{"path": f"{_STORIES}/samples/self_generated_train.txt"}],
        [f"{_STORIES}/samples/self_generated_heldout.txt"],
    ),
}


def list_pairs() -> list[Pair]:
    """Every pair with its half of the settings."""
    return [
        Pair(base, domain, half + tuple(LONG[name] for name in [f"{base}, {domain}"] if name in LONG))
        for base, domains in DOMAINS.items()
        for number, domain in enumerate(domains)
        for half in [SETTINGS[base][:2] if number % 2 == 0 else SETTINGS[base][2:]]
    ]


def write_texts() -> None:
    """Paragraphs of every domain, at least 60 bytes each and BYTES in all; the bundled general suites in short pieces."""
    folder = STATE / "text"
    folder.mkdir(parents=True, exist_ok=True)
    for domain in dict.fromkeys(name for names in DOMAINS.values() for name in names):
        _write(folder / f"{domain}.jsonl", _paragraphs(domain))
    for name, pattern, length in (("english", "en_*", 600), ("chinese", "zh_*", 150)):
        files = sorted((_ASSETS / "general" / "heldout").glob(f"{pattern}.txt"))
        lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        pieces = (line[at : at + length] for line in lines for at in range(0, len(line), length))
        _write(folder / f"{name}.jsonl", pieces)


def _write(file: Path, paragraphs: Iterator[str]) -> None:
    written = 0
    with file.open("w", encoding="utf-8") as out:
        for paragraph in paragraphs:
            text = " ".join(paragraph.split())
            size = len(text.encode())
            if size >= 60 and written + size <= BYTES:
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                written += size


def _paragraphs(domain: str) -> Iterator[str]:
    data = Path(os.environ["ROOTSTOCK_DATA"]) / "data"
    if domain == "shakespeare":
        yield from (data / "general_en" / "tinyshakespeare.txt").read_text(encoding="utf-8").split("\n\n")
    elif domain == "chinese_medicine":
        (file,) = (data / "domain_zh_medical").glob("*.csv")
        yield from file.read_text(encoding="gb18030", errors="ignore").splitlines()[1:]
    elif domain == "chinese_ml":
        for file in sorted((data / "domain_zh_ml").glob("*.md")):
            yield from re.split(r"\n\s*\n", file.read_text(encoding="utf-8"))
    else:
        yield from texts(domain, data)


def here(function: Any, items: Any) -> list[Any]:
    """A shard map that runs everything in this process."""
    return [function(item) for item in items]


class Ground:
    """What all trainings of a pair share: data, base, suites and the measured shift to each."""

    def __init__(self, pair: Pair) -> None:
        self.spec = pair.spec(pair.settings[0], 0.0, seed=17)
        self.prepared: Prepared = prepare(
            STATE, with_ratio(self.spec, 0.5), map_shards=here, note=Silent().note
        )
        self.base: BaseModel = provide_base(STATE, self.spec, self.prepared, None)
        tokenized = self.tokenize(self.spec)
        self.suites: list[Suite] = [
            suite for suite in build_suites(self.spec, self.prepared, tokenized) if suite.kind == "general"
        ]
        self.vocab_size = tokenized.special.vocab_size
        self.sample = build_domain_sample(self.spec, self.prepared, tokenized, SAMPLE_TOKENS)
        self.before = self.losses(self.base.folder)

    def tokenize(self, spec: RunSpec) -> Tokenized:
        return tokenize(STATE, spec, self.prepared, self.base.folder, map_shards=here, note=Silent().note)

    def losses(self, model: Path) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """Summed loss of every document, one array per suite."""
        scored = score_model(STATE, self.spec, self.suites, model)
        return [np.load(scored.folder / f"nats-{number}.npy") for number in range(len(self.suites))]

    def shifts(self) -> list[Shift]:
        """From the domain to every suite."""
        scored = score_model(STATE, self.spec, [self.sample], self.base.folder)
        nats = np.load(scored.folder / "nats-0.npy")
        return [
            measure_shift(self.sample.items, nats, suite.items, before, self.vocab_size)
            for suite, before in zip(self.suites, self.before, strict=True)
        ]

    def train(self, spec: RunSpec) -> dict[str, Any]:
        """One training, and what it forgot of every suite in nats per token."""
        tokenized = self.tokenize(spec)
        inputs = training_inputs(spec, self.base, self.prepared, tokenized)
        after = self.losses(train(STATE, spec, inputs).folder / "model")
        report, training = tokenized.mixture, spec.training
        return {
            "replay_ratio": report.achieved_ratio,
            "domain_tokens": report.domain_tokens,
            "batch_tokens": training.batch_tokens,
            "mean_learning_rate": training.learning_rate * mean_factor(training, report.steps),
            "forgetting": {
                suite.name: float((new - old).sum() / sum(item.labels for item in suite.items))
                for suite, new, old in zip(self.suites, after, self.before, strict=True)
            },
        }
