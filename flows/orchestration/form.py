"""Fields that forms share. Prefect's page shows their titles, descriptions and order."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

AS_SPECIFIED = "as in the specification"


def field(title: str, description: str, **limits: Any) -> Any:
    """A field of a form; Prefect overwrites Field's own title and description, but not these."""
    return Field(json_schema_extra={"title": title, "description": description}, **limits)


SpecFile = Annotated[
    str, field("Specification", "Run specification (YAML), relative to the folder where Rootstock is served.")
]
Overrides = Annotated[
    Sequence[str],
    field("Other settings", "Values of the specification to replace, one each, such as training.seed=3."),
]
StateFolder = Annotated[str, field("State folder", "Keeps data, runs and the registry of promoted models.")]
Parallel = Annotated[int, field("At the same time", "Trainings that run side by side.", ge=1, le=64)]
ComparisonFile = Annotated[
    str, field("Comparison", "YAML file, relative to the folder where Rootstock is served.")
]
