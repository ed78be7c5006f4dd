"""The base class of every schema."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen value that knows all of its keys: an unknown one is an error, never ignored."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="constants"
    )
