"""Five increments of real text, one after another: what a naive chain forgets, and what replay and the past keep of it.

    python -m benchmarks.increments

Medicine, Chinese law, finance, English law and code arrive in turn; the bundled model learns each from the champion before.
Both chains see the same domain tokens. `naive` has no replay; `defaults` has what comes without a word: half of the tokens are
replay, and half of that is from earlier increments (and both replay sources). Thresholds are out of the way, so that both chains go on whatever they forget.
Needs ROOTSTOCK_DATA. Writes results/increments.{json,md,svg}.
"""

import json
import multiprocessing
import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.forked import load_libraries

STATE = Path(".rootstock") / "increments-benchmark"
SEEDS = (1, 2, 3)
CHAINS = {"naive": {"replay_ratio": 0}, "defaults": {}}
"""Of each, `mixture`."""
DOMAINS = ("medicine", "chinese_law", "finance", "law", "code")
BYTES = 100_000
"""Of each domain, in UTF-8."""


def texts(domain: str, data: Path) -> Iterator[str]:
    """Documents of a domain, in the order of its files."""
    if domain == "medicine":
        for entry in json.loads(
            (data / "domain_en_medical/pubmedqa_ori_pqal_1-500.json").read_bytes()
        ).values():
            yield " ".join(entry["CONTEXTS"])
    elif domain == "finance":
        for entry in json.loads((data / "domain_en_finance/tatqa_dev_1-120.json").read_bytes()):
            yield from (paragraph["text"] for paragraph in entry["paragraphs"])
    elif domain == "chinese_law":
        for file in sorted((data / "domain_zh_legal").glob("**/*.md")):
            yield from file.read_text(encoding="utf-8").split("\n\n")
    else:
        folder, kind = ("domain_en_legal", "md") if domain == "law" else ("domain_en_code", "rst")
        for file in sorted((data / folder).glob(f"**/*.{kind}")):
            yield from re.split(r"\n\s*\n", file.read_text(encoding="utf-8"))


def write_domain(domain: str, file: Path) -> None:
    """Paragraphs of at least 60 bytes, up to BYTES."""
    written = 0
    with file.open("w", encoding="utf-8") as out:
        for text in texts(domain, Path(os.environ["ROOTSTOCK_DATA"]) / "data"):
            text = " ".join(text.split())
            size = len(text.encode())
            if size >= 60 and written + size <= BYTES:
                out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                written += size


def specification(chain: str, seed: int, folder: Path) -> dict[str, Any]:
    """The run of one chain: the quick start's base, replay and suites, and a domain that grows."""
    return {
        "name": f"{chain}-{seed}",
        "base": "assets/base",
        "domain": [{"path": f"{folder}/*.jsonl", "contract": "domain_text"}],
        "replay": [
            {"path": "assets/general/replay/en_*.txt", "contract": "general_text", "weight": 3},
            {"path": "assets/general/replay/zh_*.txt", "contract": "general_text", "weight": 1},
        ],
        "mixture": CHAINS[chain],
        "increments": {},
        "training": {
            "epochs": 1, "sequence_length": 256, "batch_tokens": 2048, "learning_rate": 1.0e-3, "seed": seed,
        },
        "evaluation": {
            "domain_holdout": 0.15,
            "max_tokens": 10_000,
            "general": [
                {"path": "assets/general/heldout/en_*.txt", "contract": "general_text"},
                {"path": "assets/general/heldout/zh_*.txt", "contract": "general_text"},
            ],
        },
        "promotion": {"min_gain": 0, "max_forgetting": 99, "confidence": 0.51, "realign_steps": 0},
    }  # fmt: skip


def follow_chain(chain: str, seed: int) -> None:
    """One increment after another, each file arriving after the verdict on the one before."""
    from flows.growing.due import due
    from flows.progress.watch import Silent
    from flows.run.journey import follow
    from schemas.errors import NoNewData
    from schemas.spec.run import RunSpec

    arriving = STATE / f"{chain}-{seed}-files"
    arriving.mkdir(parents=True, exist_ok=True)
    spec = RunSpec.model_validate(specification(chain, seed, arriving))
    for number, domain in enumerate(DOMAINS):
        file = arriving / f"{number}_{domain}.jsonl"
        if not file.exists():
            write_domain(domain, file)
        try:
            with due(spec, STATE) as now:
                decision = follow(now, STATE, Silent()).decision
            print(f"{chain} {seed} {domain}: {decision.sentence[:160]}", flush=True)
        except NoNewData:
            continue


def line_of(chain: str, seed: int) -> dict[str, Any]:
    """The matrix of a chain and its measures."""
    found: dict[str, Any] = json.loads((STATE / "increments" / f"{chain}-{seed}.scores.json").read_bytes())
    return found


def summary(value: list[float]) -> dict[str, float]:
    """Mean over seeds with one-sided 95 % bounds."""
    from scipy.special import stdtrit

    mean, error = statistics.mean(value), statistics.stdev(value) / len(value) ** 0.5
    margin = float(stdtrit(len(value) - 1, 0.95)) * error
    return {"estimate": mean, "low": mean - margin, "high": mean + margin}


def learned(line: dict[str, Any]) -> float:
    """Mean loss on each increment right after it was learned."""
    return statistics.mean(line["scores"][i][i] for i in range(len(line["scores"])))


def general_rise(line: dict[str, Any]) -> float:
    """Mean rise of the general suites from the base to the last model."""
    return statistics.mean(scores[-1] - scores[0] for scores in line["general"].values())


def results() -> dict[str, Any]:
    """What both chains forgot and learned, and the difference, over seeds."""
    lines = {chain: [line_of(chain, seed) for seed in SEEDS] for chain in CHAINS}
    naive, kept = lines["naive"], lines["defaults"]
    pairs = list(zip(naive, kept, strict=True))
    return {
        "forgetting": {c: summary([line["forgetting"] for line in found]) for c, found in lines.items()},
        "general_rise": {c: summary([general_rise(line) for line in found]) for c, found in lines.items()},
        "learned": {c: summary([learned(line) for line in found]) for c, found in lines.items()},
        "average": {c: summary([line["average"] for line in found]) for c, found in lines.items()},
        "cut": summary([1 - k["forgetting"] / n["forgetting"] for n, k in pairs]),
        "general_cut": summary([1 - general_rise(k) / general_rise(n) for n, k in pairs]),
        "domain_cost": summary([learned(k) / learned(n) - 1 for n, k in pairs]),
        "lines": lines,
    }


def markdown(found: dict[str, Any]) -> str:
    """The table."""

    def cell(value: dict[str, float], scale: float = 1, digits: int = 3) -> str:
        return " ".join(
            (f"{scale * value['estimate']:+.{digits}f}", f"({scale * value['low']:+.{digits}f} to {scale * value['high']:+.{digits}f})")
        )  # fmt: skip

    rows = (
        ("average forgetting over the increments", "forgetting"),
        ("rise of the general suites", "general_rise"),
        ("loss on each increment right after it", "learned"),
        ("loss on all increments in the end", "average"),
    )
    head = [
        f"`python -m benchmarks.increments`: {', '.join(DOMAINS)}, {BYTES:,} bytes each, seeds {', '.join(map(str, SEEDS))}.",
        "Nats per token; in brackets one-sided 95 % bounds over seeds.", "",
        "| | naive | defaults |", "| --- | --- | --- |",
    ]  # fmt: skip
    table = [
        f"| {name} | {cell(found[key]['naive'])} | {cell(found[key]['defaults'])} |" for name, key in rows
    ]
    tail = [
        "",
        f"The defaults cut the forgetting of earlier increments by {cell(found['cut'], 100, 1)} %, that of general text by"
        f" {cell(found['general_cut'], 100, 1)} %, at a domain cost of {cell(found['domain_cost'], 100, 2)} %.",
        "",
        "![Loss on each increment after each increment](increments.svg)",
    ]
    return "\n".join([*head, *table, *tail, ""])


def plot(lines: dict[str, list[dict[str, Any]]]) -> str:
    """Loss on every increment (a line each) after every increment, seeds averaged: naive left, defaults right."""
    width, height, left = 340, 260, 44
    colours = ("#2f6fde", "#c2410c", "#15803d", "#7c3aed", "#0e7490")
    means = {
        chain: [
            [statistics.mean(f["scores"][i][j] for f in found) if found[0]["scores"][i][j] is not None else None
             for i in range(len(DOMAINS))] for j in range(len(DOMAINS))
        ] for chain, found in lines.items()
    }  # fmt: skip
    values = [v for rows in means.values() for row in rows for v in row if v is not None]
    low, high = min(values) - 0.1, max(values) + 0.1
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {height + 40}" font-family="sans-serif" font-size="12">'
    ]
    for column, (chain, rows) in enumerate(means.items()):
        start = column * width + left
        out.append(f'<text x="{start}" y="14" font-weight="bold">{chain}</text>')
        ends: list[tuple[float, int]] = []
        for number, row in enumerate(rows):
            points = [
                (start + i * (width - left - 90) / 4, 26 + (high - v) / (high - low) * (height - 40))
                for i, v in enumerate(row) if v is not None
            ]  # fmt: skip
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colours[number]}" stroke-width="2"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colours[number]}"/>' for x, y in points]
            ends.append((points[-1][1], number))
        for y, number in spread(ends):
            out.append(
                f'<text x="{start + width - left - 84:.1f}" y="{y + 4:.1f}" fill="{colours[number]}">{DOMAINS[number]}</text>'
            )
        for i in range(5):
            x = start + i * (width - left - 90) / 4
            out.append(f'<text x="{x:.1f}" y="{height + 8}" text-anchor="middle" fill="#666">{i + 1}</text>')
        for tick in (low + 0.1, (low + high) / 2, high - 0.1):
            y = 26 + (high - tick) / (high - low) * (height - 40)
            out.append(
                f'<text x="{start - 10}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{tick:.1f}</text>'
            )
    out.append(
        f'<text x="{width}" y="{height + 32}" text-anchor="middle" fill="#666">loss (nats per token) after each increment</text>'
    )
    return "\n".join([*out, "</svg>", ""])


def spread(labels: list[tuple[float, int]], apart: float = 13) -> list[tuple[float, int]]:
    """The same labels (height, number) from the top down, pushed down where one would lie on another."""
    placed: list[tuple[float, int]] = []
    for y, number in sorted(labels):
        placed.append((max(y, placed[-1][0] + apart) if placed else y, number))
    return placed


def main() -> None:
    """Run what is missing, a forked process per chain and seed."""
    if "ROOTSTOCK_DATA" not in os.environ:
        raise SystemExit("set ROOTSTOCK_DATA to the folder that holds data/")
    load_libraries()
    for seed in SEEDS:
        for chain in CHAINS:
            child = multiprocessing.get_context("fork").Process(target=follow_chain, args=(chain, seed))
            child.start()
            child.join()
            if child.exitcode:
                raise SystemExit(f"{chain}, seed {seed} failed")
    found = results()
    machine = measure.describe_machine(("torch", "transformers"))
    values = {"command": "python -m benchmarks.increments", "machine": machine, **found}
    (measure.RESULTS / "increments.json").write_text(json.dumps(values, indent=1) + "\n")
    (measure.RESULTS / "increments.md").write_text(markdown(found))
    (measure.RESULTS / "increments.svg").write_text(plot(found["lines"]))
    print(markdown(found))


if __name__ == "__main__":
    main()
