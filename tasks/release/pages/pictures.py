"""The report's pictures: rules as dots with intervals, curves over steps, documents before and after, bars."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from markupsafe import Markup

from schemas.results.artifacts import FileLedger, RuleOutcome, StepMetrics
from schemas.results.scores import AnySuite, Measure, SuiteScores, Who
from tasks.release.pages.svg import Scale, curve, element, label, percent, picture

_PLACES = (
    ("accepted", "accepted"),
    ("held_out", "held out for scoring"),
    ("duplicate", "duplicate"),
    ("leaked", "leaked from a test set"),
    ("quarantined", "quarantined"),
)
"""Where a row can go: field of the ledger, and its name."""
_MOST_POINTS = 400
_MOST_DOCUMENTS = 1000


def signed(value: float, digits: int = 3) -> str:
    """Write a number with its sign (a true minus); nothing has none."""
    return "0" if value == 0 else f"{value:+.{digits}f}".replace("-", "\u2212").replace("inf", "\u221e")


def change(rule: RuleOutcome, measure: Measure) -> tuple[float, float, float, float]:
    """Return (low, estimate, high, limit) as changes of the score.

    Where lower is better a rule passes left of its limit, else right of it. A rule's own numbers say how much better
    (gain, absolute) or worse (forgetting) the candidate is, so one of the two is mirrored.
    """
    if (rule.rule != "forgetting") == measure.higher_is_better:
        return rule.low, rule.estimate, rule.high, rule.threshold
    return -rule.high, -rule.estimate, -rule.low, -rule.threshold


def forest_scale(rules: Sequence[RuleOutcome], measure: Measure) -> Scale:
    """Return the axis that shows these rules, their limits and zero."""
    return Scale.around([0.0, *(value for rule in rules for value in change(rule, measure))], padding=0.08)


def forest_row(rule: RuleOutcome, scale: Scale, measure: Measure, against: str) -> Markup:
    """Draw one rule: a dot with its interval, the limit as a dashed line, the passing side shaded."""
    low, estimate, high, limit = change(rule, measure)
    height, middle = 46, 23
    start, width = (
        (scale.x(limit), percent(1 - scale.ratio(limit)))
        if measure.higher_is_better
        else ("0", scale.x(limit))
    )
    drawn = [
        element("rect", x=start, y=0, width=width, height=height, class_="zone"),
        *(_upright(scale, tick, height, "grid") for tick in scale.ticks()),
        _upright(scale, 0.0, height, "zero"),
        _upright(scale, limit, height, "limit"),
        element(
            "line", x1=scale.x(low), x2=scale.x(high), y1=middle, y2=middle, class_=f"span {rule.outcome}"
        ),
    ]
    drawn += [
        element(
            "line",
            x1=scale.x(end),
            x2=scale.x(end),
            y1=middle - 7,
            y2=middle + 7,
            class_=f"span {rule.outcome}",
        )
        for end in (low, high)
    ]
    if rule.outcome == "fail":  # a square, so that colour is not the only sign
        dot = element(
            "rect",
            x=scale.x(estimate),
            y=middle - 6,
            width=12,
            height=12,
            transform="translate(-6 0)",
            class_="dot fail",
        )
    else:
        dot = element("circle", cx=scale.x(estimate), cy=middle, r=6.5, class_=f"dot {rule.outcome}")
    description = (
        f"Change of {measure.name} {signed(estimate)}{measure.unit}, bounds {signed(low)} to {signed(high)};"
        f" it must lie {'above' if measure.higher_is_better else 'below'} {signed(limit)}: {rule.outcome}. {rule.reason}"
    )
    return picture(f"{rule.rule} on {rule.suite} against the {against}", description, height, *drawn, dot)


def forest_head(rules: Sequence[RuleOutcome], scale: Scale, measure: Measure) -> Markup:
    """Write the limits above a group of rules."""
    limits = sorted({change(rule, measure)[3] for rule in rules})
    names = [label(scale.ratio(limit), 12, f"limit {signed(limit)}", "limit-name") for limit in limits]
    return picture("Limits", ", ".join(signed(limit) for limit in limits), 18, *names)


def forest_axis(scale: Scale, measure: Measure) -> Markup:
    """Draw the axis under a group of rules, with the direction of better and worse."""
    ticks = scale.ticks()
    digits = _digits(ticks)
    written = [label(scale.ratio(tick), 14, signed(tick, digits) if tick else "0") for tick in ticks]
    left, right = ("worse", "better") if measure.higher_is_better else ("better", "worse")
    falls, rises = f"{left}: {measure.name} falls", f"{right}: {measure.name} rises"
    better = element("text", f"\u2190 {falls}", x="0", y=36, class_=left)
    worse = element("text", f"{rises} \u2192", x="100%", y=36, text_anchor="end", class_=right)
    return picture(
        f"Axis: change of {measure.name}{' in' + measure.unit if measure.unit else ''}",
        f"Left is {left}, right is {right}.",
        42,
        *written,
        better,
        worse,
    )


def steps_curve(
    metrics: Sequence[StepMetrics],
    of: Callable[[StepMetrics], float],
    title: str,
    height: int,
    smooth: bool = False,
) -> Markup:
    """Draw a quantity over the optimizer steps; `smooth` adds its running mean in front."""
    xs, ys = [float(m.step) for m in metrics], [of(m) for m in metrics]
    x_scale, y_scale = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1), Scale.around(ys)
    bottom, ticks = height - 22, y_scale.ticks(4 if height > 120 else 2)
    grid = levels(y_scale, ticks, bottom)
    grid += [
        label(x_scale.ratio(tick), height - 4, f"{tick:,.0f}")
        for tick in x_scale.ticks(5)
        if tick == int(tick)
    ]
    finite = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
    points = _thinned([(x_scale.ratio(x), y_scale.ratio(y)) for x, y in finite])
    lines = [curve(points, 0, bottom, "line faint" if smooth else "line")]
    if smooth:
        lines.append(curve(_running_mean(points), 0, bottom, "line"))
    description = f"From {ys[0]:.4g} at step {xs[0]:.0f} to {ys[-1]:.4g} at step {xs[-1]:.0f}."
    return picture(title, description, height, *grid, *lines, class_="plot curve")


def documents(suite: SuiteScores, before: Who) -> Markup:
    """Draw each document's loss before (x) and after (y): below the diagonal it is better known now."""
    step = -(-len(suite.items) // _MOST_DOCUMENTS)
    items = [item for item in suite.items[::step] if item.tokens > 0]
    pairs = [(item.nats[before] / item.tokens, item.nats["candidate"] / item.tokens) for item in items]
    scale = Scale.around([value for pair in pairs for value in pair])
    height = 240
    bottom, ticks = height - 40, scale.ticks(4)
    drawn = [element("rect", x="0", y=0, width="100%", height=bottom, class_="frame")]
    drawn += levels(scale, ticks, bottom)
    for tick in ticks:
        drawn.append(label(scale.ratio(tick), bottom + 16, _plain(tick, ticks)))
    drawn.append(element("line", x1="0", y1=bottom, x2="100%", y2=0, class_="diagonal"))
    drawn += [
        element(
            "circle", element("title", f"{item.id}: {x:.3f} \u2192 {y:.3f}"),
            cx=scale.x(x), cy=bottom * (1 - scale.ratio(y)), r=2.8, class_="better" if y < x else "worse",
        )
        for item, (x, y) in zip(items, pairs, strict=True)
    ]  # fmt: skip
    drawn += [
        element("text", "worse \u2191", x=10, y=18, class_="corner worse"),
        element(
            "text", "better \u2193", x="100%", y=bottom - 8, dx=-10, text_anchor="end", class_="corner better"
        ),
        element(
            "text",
            f"nats per token under the {before}",
            x="50%",
            y=height - 4,
            text_anchor="middle",
            class_="tick",
        ),
    ]
    description = (
        f"{sum(y < x for x, y in pairs)} of {len(pairs)} documents drawn have a lower loss than before."
    )
    return picture(
        f"Loss of each document of {suite.name}, before and after",
        description,
        height,
        *drawn,
        class_="plot scatter",
    )


RIGHT = (("kept", "right under both"), ("won", "right only now"), ("lost", "right only before"), ("never", "wrong under both"))  # fmt: skip


def right_bar(suite: AnySuite, before: Who) -> Markup:
    """Draw which items became right, and which no longer are."""
    counts = suite.compared(before)
    parts = [
        (class_, count / max(len(suite.items), 1)) for (class_, _), count in zip(RIGHT, counts, strict=True)
    ]
    told = ", ".join(f"{count:,} {name}" for (_, name), count in zip(RIGHT, counts, strict=True) if count)
    return picture(f"Items of {suite.name} before and after", told, 26, *_stack(parts, 26))


def share_bar(domain: float, replay: float, title: str) -> Markup:
    """Draw how training tokens divide into domain and replay (ratios that add up to 1)."""
    description = f"Domain {domain:.1%}, replay {replay:.1%} of the training tokens."
    return picture(title, description, 30, *_stack([("domain", domain), ("replay", replay)], 30))


def ledger_bar(file: FileLedger, height: int = 16) -> Markup:
    """Draw where a file's rows went, as shares of the rows read."""
    parts = [(field, getattr(file, field) / max(file.read, 1)) for field, _ in _PLACES]
    description = ", ".join(
        f"{getattr(file, field):,} {name}" for field, name in _PLACES if getattr(file, field)
    )
    return picture(
        f"{file.file}: {file.read:,} rows read", description or "no rows", height, *_stack(parts, height)
    )


def ledger_places() -> tuple[tuple[str, str], ...]:
    """Return every place a row can go: the ledger's field and its name, in the order of the bars."""
    return _PLACES


def time_bar(name: str, seconds: float, longest: float) -> Markup:
    """Draw one stage's time against the longest stage's."""
    bar = element(
        "rect", x="0", y=0, width=percent(seconds / longest if longest else 0), height=10, rx=2, class_="time"
    )
    return picture(name, f"{seconds:.1f} seconds", 10, bar)


def _stack(parts: Sequence[tuple[str, float]], height: int) -> list[Markup]:
    """Lay rectangles side by side; a share that is not zero stays visible."""
    shown = [(class_, max(share, 0.004)) for class_, share in parts if share > 0]
    whole = sum(share for _, share in shown) or 1.0
    drawn, start = [], 0.0
    for class_, share in shown:
        width = share / whole
        drawn.append(
            element(
                "rect", x=percent(start), y=0, width=percent(width), height=height, class_=f"part {class_}"
            )
        )
        start += width
    return drawn


def levels(scale: Scale, ticks: Sequence[float], bottom: float) -> list[Markup]:
    """Draw a grid line and its number at every tick of the upright axis."""
    drawn = []
    for tick in ticks:
        y = bottom * (1 - scale.ratio(tick))
        drawn.append(element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        drawn.append(element("text", _plain(tick, ticks), x=-8, y=y + 4, text_anchor="end", class_="tick"))
    return drawn


def _upright(scale: Scale, value: float, height: int, class_: str) -> Markup:
    return element("line", x1=scale.x(value), x2=scale.x(value), y1=0, y2=height, class_=class_)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighbours until a screen can show every point."""
    size = max(1, -(-len(points) // _MOST_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(x for x, _ in group), fmean(y for _, y in group)) for group in groups]


def _running_mean(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean over a centred window of about a twentieth of the curve."""
    half = max(1, len(points) // 40)
    return [
        (x, fmean(y for _, y in points[max(0, index - half) : index + half + 1]))
        for index, (x, _) in enumerate(points)
    ]


def _digits(ticks: Sequence[float]) -> int:
    gap = ticks[1] - ticks[0] if len(ticks) > 1 else 0.1
    return next((digits for digits in range(6) if gap * 10**digits >= 0.999), 6)


def _plain(tick: float, ticks: Sequence[float]) -> str:
    digits = _digits(ticks)
    return f"{tick:.{digits}f}" if digits <= 3 else f"{tick:g}"
