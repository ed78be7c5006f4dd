"""Text that the base wrote itself, as a replay source of the specification that is followed."""

from schemas.spec.increments import PickedSource


class OwnText(PickedSource):
    """Written by Rootstock for remedy `self_replay`; no specification of people has one."""

    written: int
    """Texts before the filters."""
    kept: int
    dropped: dict[str, int]
    """Why -> how many."""
