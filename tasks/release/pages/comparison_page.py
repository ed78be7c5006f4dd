"""What a comparison found: comparison.json for machines, table.md for documents, index.html with Pareto plots."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from schemas.base import Schema
from schemas.results.comparison import Comparison, Row
from schemas.results.remedy_comparison import RemedyRow
from tasks.release.pages.markdown import code, inline
from tasks.release.pages.pictures import signed
from tasks.release.pages.svg import Scale, element, label, percent, picture
from tasks.release.pages.templates import html_templates, short, size
from tasks.storage.atomic import write_atomic

COSTS: tuple[tuple[str, str, Callable[[Row], float]], ...] = (
    ("trainable parameters", "count", lambda row: row.parameters.trainable if row.parameters else 0),
    ("stored bytes", "size", lambda row: row.parameters.stored_bytes if row.parameters else 0),
    ("peak memory while training", "size", lambda row: row.peak_memory_bytes),
    ("seconds of training", "number", lambda row: row.seconds),
    ("time of a forward pass, times the base's", "number", lambda row: row.latency_tuned),
)
"""What a score is plotted against; lower is better."""
HEIGHT = 300
TOP, BOTTOM = 16, 46


def write_comparison(folder: Path, comparison: Comparison, rows: Sequence[Row]) -> None:
    """Write the three files."""
    groups = [(base, documents, members) for base, documents, members in grouped(rows)]
    page = html_templates().get_template("comparison.html.j2").render(
        c=comparison, groups=groups, plots=plots, suites=suites_of(rows), cell=interval, ahead=ahead,
        refused=refused(rows), beyond=beyond(comparison),
    )  # fmt: skip
    write_files(folder, "comparison.json", comparison, rows, markdown(comparison, rows), page)


def write_files(
    folder: Path, name: str, comparison: Schema, rows: Sequence[Schema], table: Sequence[str], page: str
) -> None:
    """Write what was compared and found (as JSON, called `name`), table.md and index.html."""
    values = {
        "comparison": comparison.model_dump(mode="json"),
        "rows": [row.model_dump(mode="json") for row in rows],
    }
    write_atomic(folder / name, json.dumps(values, indent=1, ensure_ascii=False))
    write_atomic(folder / "table.md", "\n".join(table) + "\n")
    write_atomic(folder / "index.html", page)


def grouped(rows: Sequence[Row]) -> list[tuple[str, int | str, list[Row]]]:
    """Rows that have a result, by base and number of documents, in their order."""
    found: dict[tuple[str, int | str], list[Row]] = {}
    for row in rows:
        if row.refused is None:
            found.setdefault((row.base, row.documents), []).append(row)
    return [(base, documents, members) for (base, documents), members in found.items()]


def refused(rows: Sequence[Row]) -> list[Row]:
    """Rows without a result."""
    return [row for row in rows if row.refused is not None]


def suites_of(rows: Sequence[Row] | Sequence[RemedyRow]) -> list[str]:
    """Names of the general suites."""
    return list({name: None for row in rows for name in row.forgetting})


def interval(estimate: float, low: float, high: float) -> str:
    """An estimate with its bounds."""
    return f"{signed(estimate)} ({signed(low)} to {signed(high)})"


def ahead(row: Row) -> str:
    """How far a method is ahead of the reference; `-` for the reference itself."""
    found = row.ahead_of_reference
    return interval(found.estimate, found.low, found.high) if found else "-"


def beyond(comparison: Comparison) -> str:
    """How the search for a rate goes on beyond those that are given."""
    if not comparison.further_rates or len(comparison.learning_rates) < 2:
        return ""
    return f" (and up to {comparison.further_rates} beyond the lowest or highest, where that was the best)"


def markdown(comparison: Comparison, rows: Sequence[Row]) -> list[str]:
    """The comparison as Markdown."""
    suites = suites_of(rows)
    lines = [
        f"Data, mixture and budget: {code(comparison.spec)}"
        + (f" with {code(' '.join(comparison.overrides))}" if comparison.overrides else "")
        + f". Every method tried the learning rates {', '.join(f'{rate:g}' for rate in comparison.learning_rates)}"
        f"{beyond(comparison)} with seed {comparison.search_seed} and was trained with {_seeds(comparison)}. In brackets one-sided"
        f" {100 * comparison.confidence:g} % bounds over seeds and items. ≈: not told apart from the best.",
    ]
    for base, documents, members in grouped(rows):
        heading = " · ".join(filter(None, [base, f"{documents} documents" if documents != "all" else ""]))
        lines += ["", *([f"### {inline(heading)}", ""] if heading else [])]
        lines += _table(comparison, members, suites)
    for row in refused(rows):
        lines += ["", f"- {code(row.label)}: no result: {inline(row.refused)}"]
    return lines


def _seeds(comparison: Comparison) -> str:
    seeds = comparison.seeds
    return (
        f"the seed {seeds[0]} alone, so bounds are over items only"
        if len(seeds) == 1
        else f"the seeds {', '.join(map(str, seeds))}"
    )


def _table(comparison: Comparison, rows: Sequence[Row], suites: Sequence[str]) -> list[str]:
    reference = comparison.reference
    head = ["method", "rate", f"domain ({rows[0].unit})", "gain over the base", *([f"ahead of {inline(reference)}"] if reference else []), *(f"forgetting on {inline(name)}" for name in suites),
            "trainable", "changed", "rank", "added", "stored", "training (s)", "peak memory", "forward pass beside / merged"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        p = row.parameters
        assert p is not None
        assert row.gain is not None
        rank = f"{p.ranks.median:g}" if p.ranks else "-"
        merged = f"{row.latency_merged:.2f}" if row.latency_merged else "-"
        cells = [
            f"{inline(row.label)}{' ≈' if row.level_with_best else ''}", f"{row.learning_rate:g}{' (edge)' if row.rate_at_edge else ''}", f"{row.value:.3f}",
            interval(row.gain.estimate, row.gain.low, row.gain.high),
            *([ahead(row)] if reference else []),
            *(interval(e.estimate, e.low, e.high) for e in (row.forgetting[name] for name in suites)),
            short(p.trainable), short(p.changed), rank, short(p.added), size(p.stored_bytes), f"{row.seconds:.0f}",
            size(row.peak_memory_bytes), f"{row.latency_tuned:.2f} / {merged}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def plots(rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    """Gain against every cost and against the worst forgetting, the best trade-offs joined."""
    drawn = [(name, scatter(rows, name, kind, cost)) for name, kind, cost in COSTS]
    if suites_of(rows):
        name = "worst forgetting"
        drawn.append(
            (name, scatter(rows, name, "signed", lambda r: max(e.estimate for e in r.forgetting.values())))
        )
    return drawn


def scatter(rows: Sequence[Row], name: str, kind: str, cost: Callable[[Row], float]) -> Markup:
    """Gain with its interval (up) over a cost (to the right, logarithmic unless it can be negative)."""
    logarithmic = kind != "signed"

    def place(row: Row) -> float:
        return math.log10(max(cost(row), 1e-9)) if logarithmic else cost(row)

    across = Scale.around([place(row) for row in rows], padding=0.12)
    gains = [row.gain for row in rows if row.gain is not None]
    finite = [value for g in gains for value in (g.low, g.estimate, g.high) if math.isfinite(value)]
    up = Scale.around(finite, padding=0.08)

    def y(value: float) -> float:
        return TOP + (1 - up.ratio(value)) * (HEIGHT - TOP - BOTTOM)

    drawn = [
        element("line", x1="0", x2="100%", y1=y(tick), y2=y(tick), class_="grid") for tick in up.ticks()
    ] + [element("text", f"{tick:g}", x=0, y=y(tick) - 3, class_="tick") for tick in up.ticks()]
    best = frontier(rows, cost)
    for number, row in enumerate(rows, 1):
        gain, x = row.gain, percent(across.ratio(place(row)))
        assert gain is not None
        kind_of = "dot best" if row in best else "dot"
        if math.isfinite(gain.low):
            drawn.append(element("line", x1=x, x2=x, y1=y(gain.low), y2=y(gain.high), class_="bar"))
        drawn.append(
            element(
                "circle",
                element("title", f"{row.label}: {name} {_told(cost(row), kind)}"),
                cx=x,
                cy=y(gain.estimate),
                r=5,
                class_=kind_of,
            )
        )
        drawn.append(
            element("text", str(number), x=x, y=y(gain.estimate) - 9, text_anchor="middle", class_="number")
        )
    for tick in across.ticks(4):
        value = 10**tick if logarithmic else tick
        drawn.append(label(across.ratio(tick), HEIGHT - 24, _told(value, kind)))
    drawn.append(element("text", name, x="50%", y=HEIGHT - 6, text_anchor="middle", class_="axis"))
    told = ", ".join(f"{n} {row.label}" for n, row in enumerate(rows, 1))
    return picture(f"Gain over {name}", f"Numbers: {told}", HEIGHT, *drawn)  # fmt: skip


def frontier(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    """Rows that no other beats in both gain and cost."""

    def beaten(row: Row) -> bool:
        assert row.gain is not None
        return any(
            other.gain is not None
            and other.gain.estimate >= row.gain.estimate
            and cost(other) <= cost(row)
            and (other.gain.estimate, cost(other)) != (row.gain.estimate, cost(row))
            for other in rows
        )

    return [row for row in rows if not beaten(row)]


def _told(value: float, kind: str) -> str:
    return {"count": short, "size": size, "number": lambda v: f"{v:.3g}", "signed": signed}[kind](value)
