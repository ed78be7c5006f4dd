"""Pictures over increments: the score of every suite after every increment."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tasks.evaluation.comparison.continual import Continual
from tasks.release.pages.pictures import levels
from tasks.release.pages.svg import Scale, curve, element, label, picture

HEIGHT = 260
COLOURS = ("domain", "kept", "lost", "replay", "leaked", "never")
"""Classes of the page's colours, in the order suites take them."""


def suite_colours(found: Continual) -> dict[str, str]:
    """Suite -> class of its colour; general suites first, then the increments."""
    names = [*found.general, *(f"increment {number}" for number in found.increments)]
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}


def increment_lines(found: Continual) -> dict[str, tuple[float | None, ...]]:
    """Suite of an increment -> its score under the base, then after each increment (none where it was not scored)."""
    return {
        f"increment {number}": (found.base[j], *(row[j] for row in found.scores))
        for j, number in enumerate(found.increments)
    }


def over_increments(found: Continual, lines: Mapping[str, Sequence[float | None]], title: str) -> Markup:
    """Draw scores (up) over increments (across, the base at the left), a line for each suite."""
    steps = ["base", *map(str, found.increments)]
    values = [value for line in lines.values() for value in line if value is not None]
    across, up = Scale(0, len(steps) - 1), Scale.around(values)
    bottom = HEIGHT - 22
    drawn = levels(up, up.ticks(4), bottom)
    drawn += [label(across.ratio(place), HEIGHT - 4, name) for place, name in enumerate(steps)]
    colours = suite_colours(found)
    for name, line in lines.items():
        points = [(across.ratio(place), up.ratio(v), v) for place, v in enumerate(line) if v is not None]
        drawn.append(curve([(x, y) for x, y, _ in points], 0, bottom, f"line suite {colours[name]}"))
        drawn += [
            element(
                "circle", element("title", f"{name}: {value:.3f}"),
                cx=f"{100 * x:.2f}%", cy=bottom * (1 - y), r=4, class_=f"suite {colours[name]}",
            )
            for x, y, value in points
        ]  # fmt: skip
    last = ", ".join(f"{name} {line[-1]:.3f}" for name, line in lines.items() if line[-1] is not None)
    return picture(title, f"After the last increment: {last}.", HEIGHT, *drawn, class_="plot curve")
