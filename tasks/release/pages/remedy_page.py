"""What a comparison of remedies found: remedies.json for machines, table.md, and index.html with the frontier."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from markupsafe import Markup

from schemas.results.comparison import Estimate
from schemas.results.remedy_comparison import RemedyComparison, RemedyRow
from tasks.release.pages.comparison_page import interval, suites_of, write_files
from tasks.release.pages.markdown import code, inline
from tasks.release.pages.pictures import signed
from tasks.release.pages.svg import Scale, element, label, percent, picture
from tasks.release.pages.templates import html_templates, short

HEIGHT, TOP, BOTTOM = 380, 18, 48
AT_GAIN = (
    "`Kept at the same gain`: how much less is forgotten than without any remedy where training less (`{}`) gains as much on"
    " the domain; what is not above zero there buys nothing that a lower learning rate does not."
)


def write_remedies(folder: Path, comparison: RemedyComparison, rows: Sequence[RemedyRow]) -> None:
    """Write the three files."""
    done, refused = having_result(rows), [row for row in rows if row.refused is not None]
    page = html_templates().get_template("remedies.html.j2").render(
        c=comparison, rows=done, refused=refused, suites=suites_of(rows), about_line=AT_GAIN.format(comparison.line).replace('`', '') if comparison.line else '', plot=frontier_plot(comparison, done), outcome=outcome,
    )  # fmt: skip
    write_files(folder, "remedies.json", comparison, rows, markdown(comparison, rows), page)


def having_result(rows: Sequence[RemedyRow]) -> list[RemedyRow]:
    """Rows that were not refused."""
    return [row for row in rows if row.refused is None]


def shown(estimate: Estimate | None) -> str:
    """An estimate with its bounds; `-` where there is none."""
    return interval(estimate.estimate, estimate.low, estimate.high) if estimate else "-"


def outcome(row: RemedyRow) -> str:
    """Whether less is forgotten, in a word."""
    if not row.kept:
        return "what others are held against"
    if row.only_trains_less:
        return "forgets less, as training less does"
    if row.helps:
        return "forgets less"
    worse = any(e.high < 0 for e in row.kept.values())
    return "forgets more" if worse else "no difference shown"


def markdown(comparison: RemedyComparison, rows: Sequence[RemedyRow]) -> list[str]:
    """The comparison as Markdown."""
    suites = suites_of(rows)
    at_gain = suites if comparison.line else []
    unit = next((row.unit for row in rows if row.unit), "")
    seeds = ", ".join(map(str, comparison.seeds))
    lines = [
        f"Data and training: {code(comparison.spec)}"
        + (f" with {code(' '.join(comparison.overrides))}" if comparison.overrides else "")
        + f"; seeds {seeds}. General text: {inline(', '.join(suites))}. Means in {unit}, in brackets one-sided {100 * comparison.confidence:g} % bounds over seeds and"
        " items. `Kept`: how much less is forgotten than by what the row is held against, paired by seed and document;"
        " a remedy helps where the bound lies above zero. Controls are in italics."
        + (f" {AT_GAIN.format(comparison.line)}" if comparison.line else ""),
        "",
    ]
    of = {name: f" ({inline(name)})" if len(suites) > 1 else "" for name in suites}
    head = [
        "candidate", "gain on the domain", *(f"forgetting{of[name]}" for name in suites), "held against",
        *(f"kept{of[name]}" for name in suites), *(f"kept at the same gain{of[name]}" for name in at_gain),
        "domain cost", "domain + replay tokens", "outcome",
    ]  # fmt: skip
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in having_result(rows):
        cells = [
            f"*{inline(row.label)}*" if row.control else inline(row.label), shown(row.gain),
            *(shown(row.forgetting[name]) for name in suites), inline(row.against or "-"),
            *(shown(row.kept.get(name)) for name in suites), *(shown(row.kept_at_gain.get(name)) for name in at_gain),
            shown(row.domain_cost),
            f"{short(row.domain_tokens)} + {short(row.replay_tokens)}", outcome(row),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    for row in rows:
        if row.refused is not None:
            lines += ["", f"- {code(row.label)}: no result: {inline(row.refused)}"]
    return lines


def frontier_plot(comparison: RemedyComparison, rows: Sequence[RemedyRow]) -> Markup:
    """Gain (up) over the worst forgetting (to the right), with bounds; green where no other is better in both.

    A line goes from the base over the comparison's weaker trainings to the first candidate.
    """
    points = [(row, row.worst, row.gain) for row in rows if row.worst is not None and row.gain is not None]
    line = sorted(
        (w.estimate, g.estimate)
        for row, w, g in points
        if comparison.line
        and (row.candidate == 0 or comparison.candidates[row.candidate].name == comparison.line)
    )
    line = [(0.0, 0.0), *line] if line else []
    origin = [0.0] if line else []
    across = Scale.around(
        [*origin, *(v for _, w, _ in points for v in (w.low, w.estimate, w.high) if math.isfinite(v))]
    )
    up = Scale.around(
        [*origin, *(v for _, _, g in points for v in (g.low, g.estimate, g.high) if math.isfinite(v))]
    )

    def y(value: float) -> float:
        return TOP + (1 - up.ratio(value)) * (HEIGHT - TOP - BOTTOM)

    def best(worst: Estimate, gain: Estimate) -> bool:
        return not any(
            g.estimate >= gain.estimate and w.estimate <= worst.estimate
            and (g.estimate, w.estimate) != (gain.estimate, worst.estimate)
            for _, w, g in points
        )  # fmt: skip

    drawn = [element("line", x1="0", x2="100%", y1=y(t), y2=y(t), class_="grid") for t in up.ticks()]
    drawn += [element("text", f"{t:g}", x=0, y=y(t) - 3, class_="tick") for t in up.ticks()]
    drawn += [
        element("line", x1=across.x(a[0]), x2=across.x(b[0]), y1=y(a[1]), y2=y(b[1]), class_="less")
        for a, b in pairwise(line)
    ]
    for number, (row, worst, gain) in enumerate(points, 1):
        x, here = across.x(worst.estimate), y(gain.estimate)
        if math.isfinite(worst.low):
            drawn.append(
                element(
                    "line", x1=across.x(worst.low), x2=across.x(worst.high), y1=here, y2=here, class_="bar"
                )
            )
        if math.isfinite(gain.low):
            drawn.append(element("line", x1=x, x2=x, y1=y(gain.low), y2=y(gain.high), class_="bar"))
        kind = "dot control" if row.control else "dot best" if best(worst, gain) else "dot"
        told = f"{row.label}: gain {signed(gain.estimate)}, worst forgetting {signed(worst.estimate)}"
        drawn.append(element("circle", element("title", told), cx=x, cy=here, r=5, class_=kind))
        drawn.append(element("text", str(number), x=x, y=here - 9, text_anchor="middle", class_="number"))
    drawn += [label(across.ratio(tick), HEIGHT - 26, signed(tick)) for tick in across.ticks(5)]
    drawn.append(
        element("text", "worst forgetting", x=percent(0.5), y=HEIGHT - 8, text_anchor="middle", class_="axis")
    )
    names = ", ".join(f"{n} {row.label}" for n, (row, _, _) in enumerate(points, 1))
    return picture("Gain over forgetting", f"Numbers: {names}", HEIGHT, *drawn)
