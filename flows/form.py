"""Fields that the forms of several flows share. Prefect's page shows title, description and order."""

from typing import Annotated

from pydantic import Field

AS_SPECIFIED = "as in the specification"

SpecFile = Annotated[
    str,
    Field(
        description="Run specification (YAML), relative to the folder where `rootstock serve` was started.",
        json_schema_extra={"title": "Specification"},
    ),
]
Overrides = Annotated[
    list[str],
    Field(
        description="Single values of the specification to replace, each as key.path=value, such as training.seed=3.",
        json_schema_extra={"title": "Other settings"},
    ),
]
StateFolder = Annotated[
    str,
    Field(
        description="Folder that keeps data, runs and the registry.",
        json_schema_extra={"title": "State folder"},
    ),
]
