"""Inline SVG from plain functions.

A picture is as wide as its box and a fixed number of pixels high: x runs in per cent, y in pixels, so that text,
dots and line widths stay the same size on a phone and on a laptop. Everything that is data is escaped.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A straight axis from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float], padding: float = 0.06) -> "Scale":
        """Span the finite values with some room at both ends."""
        finite = [value for value in values if math.isfinite(value)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        room = (high - low) * padding or max(abs(high), 1.0) * padding
        return cls(low - room, high + room)

    def ratio(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high end, clipped."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def x(self, value: float) -> str:
        return percent(self.ratio(value))

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round values (1, 2 or 5 times a power of ten apart) inside the axis, at least two."""
        rough = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        inside = [index * step for index in range(first, last + 1)]
        return inside if len(inside) > 1 else self.ticks(wanted + 1)


def percent(ratio: float) -> str:
    return f"{100 * ratio:.2f}%"


def element(tag: str, *children: str, **attributes: str | float) -> Markup:
    """Build one element: `class_` is written `class`, `text_anchor` is written `text-anchor`."""
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _short(value))
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(
        Markup(tag), written, Markup("").join(escape(c) for c in children)
    )


def picture(title: str, description: str, height: int, *children: str, class_: str = "plot") -> Markup:
    """Build a picture with the name and description a screen reader speaks."""
    head = (element("title", title), element("desc", description))
    return element("svg", *head, *children, class_=class_, role="img", width="100%", height=height)


def curve(points: Sequence[Point], top: float, height: float, class_: str) -> Markup:
    """Build a line through points given as ratios of the box (0..1, y upwards)."""
    path = " ".join(f"{1000 * x:.1f},{1000 * (1 - y):.1f}" for x, y in points)
    line = element("polyline", points=path, class_=class_, vector_effect="non-scaling-stroke")
    box = {"viewBox": "0 0 1000 1000", "preserveAspectRatio": "none"}
    return element("svg", line, y=top, width="100%", height=height, overflow="visible", **box)


def label(x: float, y: float, text: str, class_: str = "tick") -> Markup:
    """Write text around a place (ratio of the width), turned inwards near both ends."""
    anchor = "start" if x < 0.1 else "end" if x > 0.9 else "middle"
    return element("text", text, x=percent(x), y=y, text_anchor=anchor, class_=class_)


def _short(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
