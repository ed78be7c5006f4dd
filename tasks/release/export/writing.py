"""Write a model to where the user wants it: what the machine refuses is told with the option that chose the place."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from schemas import registered_names
from schemas.errors import MachineFailed

_FIX = "name a new folder where you may write and there is room: --to FOLDER"


def require_new(target: Path) -> None:
    """Refuse to write over anything, or where no folder can be made.

    Raises:
        UserError: the target exists, or lies below something that is no folder.
        MachineFailed: that cannot be told.
    """
    try:
        registered_names.require_new(target)
    except OSError as error:
        raise _refused(error, target) from None


def _refused(error: OSError, target: Path) -> MachineFailed:
    what = f"the model cannot be written: {error.strerror}"
    return MachineFailed(what, str(error.filename or target), _FIX)


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Make the folders above `target` for a block that makes `target` itself.

    Raises:
        UserError: the target exists.
        MachineFailed: it cannot be written: the disk is full, a folder is closed, a file stands in the way.
    """
    require_new(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        place, wanted = Path(error.filename or target).absolute(), target.absolute()
        if error.errno is None or not (wanted.is_relative_to(place) or place.is_relative_to(wanted.parent)):
            raise  # a library's own, or of a file that is read
        raise _refused(error, target) from None
    except Exception as error:
        if type(error).__name__ == "SafetensorError" and "os error" in str(error).lower():
            raise MachineFailed(f"the model cannot be written: {error}", str(target), _FIX) from None
        raise
