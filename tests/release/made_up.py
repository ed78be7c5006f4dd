"""Made-up but realistic report data: the shapes and sizes of a small run."""

import math
import random
from typing import Literal

from schemas.results.artifacts import (
    Bindings,
    Decision,
    FileLedger,
    GateReport,
    ItemScore,
    Ledger,
    Lineage,
    MixtureReport,
    ReplayShare,
    RuleOutcome,
    RuleResult,
    Scores,
    StepMetrics,
    SuiteScores,
    TokenLedger,
)
from schemas.results.counts import Latency, Parameters, Ranks
from schemas.spec.run import RunSpec
from tasks.release.pages.report import ReportData

Verdict = Literal["promote", "reject", "inconclusive"]
FORGETTING = {"promote": 0.012, "reject": 0.41, "inconclusive": 0.046}
SENTENCES = {
    "promote": "The candidate knows the domain better (loss down 0.43 nats per token, at least 0.38) and forgot nothing that matters.",
    "reject": "The candidate learned the domain but forgot general English: its loss rose by 0.41 nats per token (limit 0.05).",
    "inconclusive": "The gain is certain, but 38 groups of general text are too few to tell whether forgetting stays below 0.05.",
}
NEXT = {
    "promote": "The model is in use as champion of 'medical'. Try it: rootstock generate champion \"The heart\".",
    "reject": "Raise mixture.replay_ratio (it is 0.25), or add replay text closer to general_english.",
    "inconclusive": "Add about 120 groups to general_english and run the same command again; nothing is trained anew.",
}


def made_up(verdict: Verdict = "promote", champion: bool = True) -> ReportData:
    chance = random.Random(3)
    return ReportData(
        run="medical-3f9a1c20b7d4",
        spec=spec(),
        decision=decision(verdict, champion),
        scores=Scores(suites=tuple(suites(chance, verdict, champion))),
        ledger=ledger(),
        mixture=mixture(),
        gates=gates(),
        metrics=[step_metrics(chance, step) for step in range(1, 501)],
        parameters=Parameters(
            total=606_142_464,
            trainable=10_092_544,
            changed=440_401_920,
            added=0,
            stored_bytes=20_214_112,
            ranks=Ranks(matrices=196, total=3136, smallest=16, median=16, largest=16),
        ),
        latency=Latency(base=41.2, tuned=47.9, merged=41.3),
        lineage=lineage(),
        seconds={"read and validate": 4.2, "check contracts": 6.8, "deduplicate and split": 1.9, "tokenize and pack": 9.4,
                 "train": 148.3, "evaluate": 31.7, "decide": 0.6},
        device="CPU, 2 cores, float32",
        samples=[
            ("A with statement", " is a good thing to do. He said that he was not a man.",
             " is used to wrap the execution of a block with methods defined by a context manager."),
            ("春天的早晨", "，我们在一起，他们的时候。", "，院子里的海棠开了，祖母把竹椅搬到廊下。"),
        ],
    )  # fmt: skip


def spec() -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "medical",
            "base": "Qwen/Qwen3-0.6B",
            "domain": [{"path": "data/medical/*.jsonl", "contract": "domain_text"}],
            "replay": [
                {"path": "data/general/prose.txt", "contract": "general_text"},
                {"path": "data/general/中文散文与游记.txt", "contract": "general_text", "weight": 0.5},
            ],
            "method": {"kind": "lora", "r": 16, "alpha": 32},
            "training": {"tokens": 2_000_000, "sequence_length": 128, "batch_tokens": 4096},
            "evaluation": {
                "domain_holdout": 0.1,
                "general": [
                    {"path": "data/heldout/general_english.txt", "contract": "general_text"},
                    {"path": "data/heldout/通用中文.txt", "contract": "general_text"},
                ],
            },
        }
    )


def decision(verdict: Verdict, champion: bool) -> Decision:
    forgetting = FORGETTING[verdict]
    outcome = {"promote": "pass", "reject": "fail", "inconclusive": "undecided"}[verdict]
    against = ("base", "champion") if champion else ("base",)
    rules = [
        rule("gain", "medical", who, gain, 0.05, 0.02, "pass", 212)
        for who, gain in zip(("base", "champion"), (0.431, 0.118), strict=True)
        if who in against
    ]
    rules += [
        rule("forgetting", "general_english", who, forgetting, 0.018, 0.05, outcome, 38) for who in against
    ]
    rules += [rule("forgetting", "通用中文", who, -0.006, 0.011, 0.05, "pass", 64) for who in against]
    return Decision(
        verdict=verdict,
        sentence=SENTENCES[verdict],
        rules=tuple(rules),
        next_action=NEXT[verdict],
        bindings=Bindings(spec="1" * 64, data="2" * 64, scores="3" * 64, weights="4" * 64, base="5" * 64),
    )


def rule(kind, suite, against, estimate, half, threshold, outcome, clusters) -> RuleOutcome:
    verb = "fell" if kind == "gain" else "moved"
    return RuleOutcome(
        rule=kind, suite=suite, against=against, estimate=estimate, low=estimate - half, high=estimate + half,
        threshold=threshold, outcome=outcome, clusters=clusters,
        reason=f"The loss {verb} by {abs(estimate):.3f} nats per token.",
        clusters_needed=158 if outcome == "undecided" else None,
    )  # fmt: skip


def suites(chance: random.Random, verdict: Verdict, champion: bool) -> list[SuiteScores]:
    names = (("medical", "domain", 3.1, -0.43, 212), ("general_english", "general", 3.4, FORGETTING[verdict], 190),
             ("通用中文", "general", 3.9, -0.006, 96))  # fmt: skip
    return [
        SuiteScores(
            name=name,
            kind=kind,
            floor=level + 3,
            items=tuple(
                item(chance, f"data/{name}.jsonl:{line}", level, change, champion)
                for line in range(1, number)
            ),
        )
        for name, kind, level, change, number in names
    ]


def item(chance: random.Random, place: str, level: float, change: float, champion: bool) -> ItemScore:
    tokens = int(chance.lognormvariate(5.3, 0.6)) + 8
    base = level + chance.gauss(0, 0.45)
    nats = {"base": base * tokens, "candidate": (base + change + chance.gauss(0, 0.08)) * tokens}
    if champion:
        nats["champion"] = (base + change * 0.7 + chance.gauss(0, 0.05)) * tokens
    return ItemScore(id=place, group=place, tokens=tokens, bytes=int(tokens * 4.1), nats=nats)


def ledger() -> Ledger:
    return Ledger(
        files=(
            FileLedger(
                file="data/medical/guidelines-2024.jsonl", role="domain", source=0, read=9_812, accepted=8_214, held_out=913,
                duplicate=402, leaked=31, quarantined=252,
                reasons={"malformed_json": 8, "empty_text": 201, "truncated_line": 1, "lone_surrogate": 42},
            ),
            FileLedger(file="data/medical/case reports/with a rather long name that has to wrap somewhere.jsonl", role="domain",
                       source=0, read=1_204, accepted=1_080, held_out=120, duplicate=4),
            FileLedger(file="data/general/prose.txt", role="replay", source=0, read=4_410, accepted=4_300, duplicate=96, leaked=14),
            FileLedger(file="data/general/中文散文与游记.txt", role="replay", source=1, read=2_060, accepted=2_060),
            FileLedger(file="data/heldout/general_english.txt", role="general_suite", source=0, read=190, accepted=190),
            FileLedger(file="data/heldout/通用中文.txt", role="general_suite", source=1, read=96, accepted=96),
        ),
        tokens=TokenLedger(domain=741_204, replay=1_201_330, domain_trained=1_500_000, replay_trained=500_000,
                           truncated=3_811, padding=402),
    )  # fmt: skip


def mixture() -> MixtureReport:
    return MixtureReport(
        requested_ratio=0.25, achieved_ratio=0.25, domain_tokens=1_500_000, replay_tokens=500_000, domain_epochs=2.02,
        replay=(
            ReplayShare(path="data/general/prose.txt", requested_tokens=333_333, trained_tokens=333_331, epochs=0.41),
            ReplayShare(path="data/general/中文散文与游记.txt", requested_tokens=166_667, trained_tokens=166_669, epochs=0.43),
        ),
        sequences=15_632, sequence_length=128, sequences_per_step=32, fill_ratio=0.9998, steps=500,
    )  # fmt: skip


def gates() -> list[GateReport]:
    good = [
        result("text.required", "text is present", "critical"),
        result("text.not_blank", "text has at least one visible character", "critical"),
        result("rows.enough", "the dataset has at least 100 rows", "critical", observed=9560),
    ]
    long_lines = RuleResult(
        contract="domain_text", rule="text.length", description="text has between 20 and 100,000 characters", severity="warning",
        success=False, checked=9560, unexpected=131, allowed_ratio=0.01,
        places=tuple(f"data/medical/guidelines-2024.jsonl:{line}" for line in range(17, 1017, 50)),
    )  # fmt: skip
    return [
        GateReport(contract="domain_text", version="1.0.0", dataset="data/medical/*.jsonl", rows=9560, passed=True,
                   rules=(*good, long_lines)),
        GateReport(contract="general_text", version="1.0.0", dataset="data/general/中文散文与游记.txt", rows=2060, passed=True,
                   rules=tuple(good)),
    ]  # fmt: skip


def result(
    rule: str, description: str, severity: Literal["critical", "warning"], observed: float | None = None
) -> RuleResult:
    return RuleResult(contract="domain_text", rule=rule, description=description, severity=severity, success=True,
                      checked=9560, unexpected=0, observed=observed)  # fmt: skip


def step_metrics(chance: random.Random, step: int) -> StepMetrics:
    return StepMetrics(
        step=step, loss=2.55 + 0.9 * math.exp(-step / 60) + chance.gauss(0, 0.07),
        learning_rate=2e-4 * min(step / 25, 0.5 + 0.5 * math.cos(math.pi * step / 500)),
        grad_norm=abs(0.8 + chance.gauss(0, 0.2)), tokens_per_second=13_400 + chance.gauss(0, 400),
        peak_memory_bytes=1_840_000_000, seconds=step * 0.3,
    )  # fmt: skip


def lineage() -> Lineage:
    return Lineage(
        run="medical-3f9a1c20b7d4", spec="1" * 64, data={"data/medical/guidelines-2024.jsonl": "a" * 64},
        contracts={"domain_text.odcs.yaml": "c" * 64}, code="e" * 64, base="5" * 64, base_name="Qwen/Qwen3-0.6B", weights="4" * 64,
        versions={"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0"}, steps={"split": "f" * 64},
    )  # fmt: skip
