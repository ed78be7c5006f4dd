"""Data inside Markdown: shown as what it is, never a link, an image, HTML or the end of a table's cell."""

import re

from schemas.visible import visible

_SIGNS = re.compile(r"[\\`*{}\[\]<>#|&~!$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ADDRESSES = re.compile(r":(?=//)|(?<=\w)@(?=\w)|(?<=www)\.", re.IGNORECASE)
"""Where GitHub's dialect makes a link of plain text."""


def code(value: object) -> str:
    """Write data as a code span that no backtick, pipe or line break in it can leave."""
    text = visible(re.sub(r"\s+", " ", str(value))).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"{fence}{text}{fence}"


def inline(value: object) -> str:
    """Write a sentence on one line, with everything that Markdown or HTML would interpret taken literally."""
    text = visible(re.sub(r"\s+", " ", str(value)))
    return _ADDRESSES.sub(r"\\\g<0>", _SIGNS.sub(r"\\\g<0>", text))


def commands(text: str) -> str:
    """Write a sentence whose commands stand between backticks."""
    parts = re.split("`([^`]+)`", text)
    return "".join(code(part) if number % 2 else _kept(part) for number, part in enumerate(parts))


def _kept(part: str) -> str:
    """Like `inline`, with the blanks at its ends."""
    start, end = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :]
    return f"{start and ' '}{inline(part.strip())}{end and ' '}" if part.strip() else part and " "
