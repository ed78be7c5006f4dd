"""The final answer of a response, as GSM8K marks it (Cobbe et al., 2021, https://arxiv.org/abs/2110.14168)."""

import re
from decimal import Decimal, InvalidOperation

MARK = "####"
_NUMBER = re.compile(r"(?:(?<![\d)])-)?(?:\$\s*)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
"""A minus after a digit or a bracket, or apart from its number, is a subtraction; commas stand between thousands."""


def final_answer(response: str) -> str:
    """The number behind the first `####` on its line (what stands there, if it is none), else the last number; "" if none.

    Commas, dollar signs, a trailing dot and zeros behind the decimal point do not make an answer another one. Only the
    first mark counts: a model that does not stop goes on with other questions.
    """
    _, marked, rest = response.partition(MARK)
    if marked:
        line = rest.strip().split("\n")[0].strip()
        number = _NUMBER.search(line)
        return normalise(number[0]) if number else line.rstrip(".").strip().casefold()
    numbers = _NUMBER.findall(response)
    return normalise(numbers[-1]) if numbers else ""


def normalise(number: str) -> str:
    """A number as people would write it on a blackboard: digits, a minus, a point where it is needed."""
    bare = re.sub(r"[\s,$]", "", number).rstrip(".")
    try:
        value = Decimal(bare)
    except InvalidOperation:
        return bare
    written = format(value, "f")
    written = written.rstrip("0").rstrip(".") if "." in written else written
    return "0" if written == "-0" else written
