"""What the model learns to do."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema


class LanguageModeling(Schema):
    """Predict the next token of running text."""

    kind: Literal["language_modeling"] = "language_modeling"


Objective = Annotated[LanguageModeling, Field()]
