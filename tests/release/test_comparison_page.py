"""A comparison's pictures stand where the numbers say, and its table says what cannot be told apart."""

import math
import re
from pathlib import Path

import pytest

from schemas.results.comparison import Comparison, Estimate, Row
from schemas.results.counts import Parameters
from tasks.release.pages.comparison_page import COSTS, frontier, markdown, plots, write_comparison

NUMBER = {"k": 1e3, "M": 1e6, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def row(method: int, gain: float, half: float, trainable: int, forgetting: float, level: bool = False) -> Row:
    parameters = Parameters(
        total=10**9, trainable=trainable, changed=1, added=0, stored_bytes=4 * trainable, ranks=None
    )
    return Row(
        method=method, label=["full", "lora", "bitfit", "prefix"][method], base="", documents="all", unit="nats per token",
        seeds=3, value=2.0, gain=Estimate(estimate=gain, low=gain - half, high=gain + half),
        forgetting={"general": Estimate(estimate=forgetting, low=forgetting - 0.01, high=forgetting + 0.01),
                    "other": Estimate(estimate=-0.3, low=-0.4, high=-0.2)},
        behind_best=Estimate(estimate=0.1, low=0.05, high=0.15), level_with_best=level, parameters=parameters,
        seconds=10.0 * (method + 1), peak_memory_bytes=3e8 * (4 - method), latency_tuned=1 + 0.2 * method,
    )  # fmt: skip


ROWS = [
    row(0, 0.52, 0.03, 600_000_000, 0.21, level=True),
    row(1, 0.50, 0.05, 1_000_000, 0.04, level=True),
    row(2, 0.31, 0.02, 90_000, -0.02),
    row(3, 0.22, 0.04, 2_000_000, 0.11),
]
COMPARISON = Comparison.model_validate(
    {"name": "x", "spec": "s.yaml", "methods": [{"kind": k} for k in ("full", "lora", "bitfit", "prefix_tuning")],
     "learning_rates": [0.1], "seeds": [1, 2, 3]}
)  # fmt: skip
OF = {name: (kind, cost) for name, kind, cost in COSTS} | {
    "worst forgetting": ("signed", lambda r: r.forgetting["general"].estimate)
}


def attributes(tag: str, svg: str) -> list[dict[str, str]]:
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', found)) for found in re.findall(f"<{tag} [^>]*>", svg)]


def read(text: str) -> float:
    """The number that an axis has at a tick."""
    figure, _, unit = text.replace("\u2212", "-").partition(" ")
    return float(figure) * NUMBER.get(unit, 1.0)


def axes(svg: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(place, number) of the ticks across, in per cent, and of those up, in pixels."""
    texts = re.findall(r'<text x="([\d.]+)%?" y="([\d.]+)"[^>]*class="tick">([^<]+)<', svg)
    across = [(float(x), read(text)) for x, y, text in texts if x != "0" or float(y) > 270]
    up = [(float(y) + 3, read(text)) for x, y, text in texts if x == "0" and float(y) < 270]
    return across, up


def between(ticks: list[tuple[float, float]], place: float) -> float:
    """The number at a place of an axis, from its first and last tick."""
    (a, low), (b, high) = ticks[0], ticks[-1]
    return low + (place - a) / (b - a) * (high - low)


@pytest.mark.parametrize("name", OF)
def test_every_point_stands_where_its_gain_and_its_cost_say(name: str) -> None:
    svg = str(dict(plots(ROWS))[name])
    kind, cost = OF[name]
    across, up = axes(svg)
    assert len(across) >= 2
    assert len(up) >= 2
    if kind != "signed":
        across = [(place, math.log10(number)) for place, number in across]
    points, bars = attributes("circle", svg), [a for a in attributes("line", svg) if a["class"] == "bar"]
    assert len(points) == len(bars) == len(ROWS)
    for row, point, bar in zip(ROWS, points, bars, strict=True):
        expected = cost(row) if kind == "signed" else math.log10(cost(row))
        tick = 0.02 * abs(across[-1][1] - across[0][1])  # what is written at a tick is rounded
        assert between(across, float(point["cx"].rstrip("%"))) == pytest.approx(expected, abs=tick)
        assert row.gain is not None
        assert between(up, float(point["cy"])) == pytest.approx(row.gain.estimate, abs=1e-3)
        assert between(up, float(bar["y1"])) == pytest.approx(row.gain.low, abs=1e-3)
        assert between(up, float(bar["y2"])) == pytest.approx(row.gain.high, abs=1e-3)
        assert bar["x1"] == bar["x2"] == point["cx"]


def test_the_points_on_the_frontier_are_those_that_no_other_beats_in_both() -> None:
    svg = str(dict(plots(ROWS))["trainable parameters"])
    assert [point["class"] for point in attributes("circle", svg)] == [
        "dot best",
        "dot best",
        "dot best",
        "dot",
    ]
    assert frontier(ROWS, lambda r: r.forgetting["general"].estimate) == ROWS[:3]


def test_a_point_says_what_it_is(tmp_path: Path) -> None:
    svg = str(dict(plots(ROWS))["trainable parameters"])
    assert "<title>lora: trainable parameters 1 M</title>" in svg
    assert "Numbers: 1 full, 2 lora, 3 bitfit, 4 prefix" in svg


def test_what_cannot_be_told_from_the_best_is_marked_in_the_table_and_on_the_page(tmp_path: Path) -> None:
    write_comparison(tmp_path, COMPARISON, ROWS)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    marked = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert marked == ["full ≈", "lora ≈", "bitfit", "prefix"]
    assert "≈: not told apart from the best." in table
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    standing = re.findall(r'<td class="method">(\w+)<small>(best|level|behind)', page)
    assert standing == [("full", "best"), ("lora", "level"), ("bitfit", "behind"), ("prefix", "behind")]


def test_a_row_without_a_result_is_told_and_drawn_nowhere(tmp_path: Path) -> None:
    refused = Row(
        method=2, label="bitfit", base="", documents="all", unit="nats per token", refused="no biases"
    )
    assert markdown(COMPARISON, [*ROWS[:2], refused])[-1] == "- `bitfit`: no result: no biases"
    write_comparison(tmp_path, COMPARISON, [*ROWS[:2], refused])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 2 * len(OF)
    assert "no biases" in page
