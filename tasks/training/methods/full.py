"""Full fine-tuning: every parameter trains."""

from typing import Any

from schemas.methods import Full


def apply(model: Any, settings: Full) -> Any:  # noqa: ARG001
    """Train all weights of the model."""
    model.requires_grad_(True)
    return model
