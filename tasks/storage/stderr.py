"""The one way to standard error: whatever is told there is visible."""

import sys

from schemas.visible import printable


def tell(text: object) -> None:
    """Print a line of progress or a mistake."""
    print(printable(str(text)), file=sys.stderr, flush=True)
