"""The HTML templates, and how they write paths, commands and numbers."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tasks.release.pages import pictures


def html_templates() -> Environment:
    """Return the templates beside this file, with escaping on and unknown names an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=pictures.signed,
        breakable=breakable,
        commands=commands,
        count=count,
        plain=plain,
        short=short,
        share=share,
        duration=duration,
        size=size,
    )
    return environment


def commands(text: str) -> Markup:
    """Set what stands between backticks as code; everything is escaped."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(re.split("`([^`]+)`", text))
    )


def breakable(path: str) -> Markup:
    """Allow line breaks of a path where a reader expects them."""
    return Markup("").join(
        escape(part) if part not in ("/", "_", "-") else escape(part) + Markup("<wbr>")
        for part in re.split("([/_-])", path)
    )


def count(number: float) -> str:
    return f"{number:,.0f}"


def plain(number: float) -> str:
    """Write a measured value: thousands apart, no digits that say nothing."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.4g}"


def short(number: float) -> str:
    """Write a large count with a unit: 1.2 M."""
    for unit, power in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * power:
            return f"{number / power:.3g} {unit}"
    return f"{number:g}"


def share(ratio: float, digits: int = 1) -> str:
    return f"{100 * ratio:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(num_bytes: float) -> str:
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= power:
            return f"{num_bytes / power:.3g} {unit}"
    return f"{num_bytes:.0f} B"
