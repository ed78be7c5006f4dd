"""The curve that a replay ratio was chosen from: proxies as dots, the whole run as a line with its band, the budget, the choice."""

import math

from markupsafe import Markup

from schemas.results.replay_choice import ForgettingCurve, ReplayChoice
from tasks.release.pages.svg import Point, Scale, element, label, percent, picture

HEIGHT, BOTTOM = 300, 262


def replay_curve(curve: ForgettingCurve, choice: ReplayChoice) -> Markup:
    """Draw one suite's curve: across, the replay ratio (as its square root, for the small ones matter); up, forgetting."""
    band, points = curve.band, curve.points
    most = max(band[-1].replay_ratio, *(point.replay_ratio for point in points))
    highest = max(*(point.forgetting for point in points), *(p.high for p in band), choice.budget)
    lowest = min(0.0, *(point.forgetting for point in points), *(p.estimate for p in band))
    room = (highest - lowest) * 0.06
    up = Scale(lowest - room, highest + room)

    def across(ratio: float) -> float:
        return 0.02 + 0.96 * math.sqrt(ratio / most)

    def line(values: list[float]) -> list[Point]:
        return [(across(p.replay_ratio), up.ratio(value)) for p, value in zip(band, values, strict=True)]

    def level(value: float) -> float:
        return BOTTOM * (1 - up.ratio(value))

    drawn = []
    for tick in up.ticks(5):
        drawn.append(
            element(
                "line", x1="0", x2="100%", y1=level(tick), y2=level(tick), class_="grid" if tick else "zero"
            )
        )
        drawn.append(
            element("text", f"{tick:.2f}", x=-8, y=level(tick) + 4, text_anchor="end", class_="tick")
        )
    for ratio in sorted({round(p.replay_ratio, 2) for p in points}):
        drawn.append(label(across(ratio), HEIGHT - 18, f"{ratio:.0%}"))
    drawn.append(
        element("text", "share of replay tokens", x="50%", y=HEIGHT - 2, text_anchor="middle", class_="tick")
    )
    upper, lower = line([p.high for p in band]), line([max(p.low, up.low) for p in band])
    drawn.append(_area([*upper, *reversed(lower)]))
    drawn.append(_path(line([p.estimate for p in band]), "line"))
    budget = level(choice.budget)
    drawn.append(element("line", x1="0", x2="100%", y1=budget, y2=budget, class_="limit"))
    drawn.append(
        element(
            "text",
            f"budget {choice.budget:g}",
            x="100%",
            y=budget - 6,
            text_anchor="end",
            class_="limit-name",
        )
    )
    longest = max(point.domain_tokens for point in points)
    for point in points:
        title = element(
            "title",
            f"replay {point.replay_ratio:.2%}, {point.domain_tokens:,} domain tokens: {point.forgetting:.3f}",
        )
        kind = "proxy" if point.domain_tokens >= 0.9 * longest else "proxy short"
        drawn.append(
            element(
                "circle",
                title,
                cx=percent(across(point.replay_ratio)),
                cy=level(point.forgetting),
                r=4,
                class_=kind,
            )
        )
    if choice.replay_ratio is not None:
        x = percent(across(choice.replay_ratio))
        drawn.append(element("line", x1=x, x2=x, y1=0, y2=BOTTOM, class_="chosen"))
        left = across(choice.replay_ratio) > 0.8
        drawn.append(
            element(
                "text", f"chosen {choice.replay_ratio:g}", x=x, y=12, dx=-7 if left else 7,
                text_anchor="end" if left else "start", class_="tick chosen-name",
            )
        )  # fmt: skip
    return picture(
        f"Forgetting of {curve.suite} over the replay ratio",
        f"{choice.sentence}. Without replay the whole run is expected to forget {band[0].estimate:.3f} nats per token,"
        f" at {band[-1].replay_ratio:.0%} replay {band[-1].estimate:.3f}.",
        HEIGHT,
        *drawn,
        class_="plot replay-curve",
    )


def _path(points: list[Point], class_: str) -> Markup:
    text = " ".join(f"{1000 * x:.1f},{1000 * (1 - y):.1f}" for x, y in points)
    return _box(element("polyline", points=text, class_=class_, vector_effect="non-scaling-stroke"))


def _area(points: list[Point]) -> Markup:
    text = " ".join(f"{1000 * x:.1f},{1000 * (1 - y):.1f}" for x, y in points)
    return _box(element("polygon", points=text, class_="band"))


def _box(shape: Markup) -> Markup:
    box = {"viewBox": "0 0 1000 1000", "preserveAspectRatio": "none"}
    return element("svg", shape, y=0, width="100%", height=BOTTOM, overflow="hidden", **box)
