"""The final answers of the rows of a suite of prompts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from tasks.data.tokens.prompts import part_instructions
from tasks.evaluation.suites.final_answer import MARK, final_answer


def final_answers(part: Path) -> list[Sequence[str]]:
    """The right answer of every row of a part: that of its response."""
    return [(final_answer(response),) for _, responses in part_instructions(part) for response in responses]


def require_answers(part: Path, answers: Sequence[Sequence[str]], scored: npt.NDArray[np.bool_]) -> None:
    """Refuse scored rows whose response has no final answer: no model could be right.

    Raises:
        UserError: there are such rows.
    """
    missing = [row for row in np.flatnonzero(scored).tolist() if not answers[row][0]]
    if missing:
        import pyarrow.parquet as pq

        table = pq.read_table(part, columns=["file", "line"])
        places = [f"{table['file'][row].as_py()}:{table['line'][row].as_py()}" for row in missing[:3]]
        raise UserError(
            f"{len(missing):,} scored {'responses have' if len(missing) > 1 else 'response has'} no final answer",
            ", ".join(places),
            f"end responses with '{MARK} ANSWER' or a number, remove these rows, or write objective.metric: loss",
        )


def response_bytes(part: Path) -> list[int]:
    """UTF-8 bytes of every row's response."""
    return [len(response.encode()) for _, responses in part_instructions(part) for response in responses]
