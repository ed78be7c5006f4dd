"""Which increment of a growing specification is due."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import UserError
from schemas.reading.load import source_files
from schemas.spec.run import RunSpec
from tasks.data.validate.file_steps import hash_files
from tasks.release.increments.resolve import Found, resolve
from tasks.release.increments.watermark import lacks_champion, learn_of_champion, load_watermark
from tasks.release.promotion import promotion
from tasks.release.registry import versions as registry
from tasks.storage.steps import hold

Chosen = Callable[[str], bool]
"""Whether a file that is new takes part."""


@contextmanager
def due(
    spec: RunSpec,
    state: Path,
    again: bool = False,
    chosen: Chosen = lambda _: True,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[RunSpec]:
    """Yield the specification to follow now: of the increment that is due, or the very one where nothing grows.

    Increments of one name are followed one at a time, by whichever process: another waits, and then finds what is left.

    Raises:
        NoNewData: everything was decided on before.
        UserError: a file cannot be read, or see `resolve`.
    """
    if spec.increments is None or spec.increment is not None:
        yield spec
        return
    waiting = "another process is at an increment of this name: waiting for it"
    with hold(state, f"increments-{spec.name}", lambda: note(waiting)):
        yield find_due(spec, state, again, chosen)


def find_due(spec: RunSpec, state: Path, again: bool = False, chosen: Chosen = lambda _: True) -> RunSpec:
    """The specification of the increment that is due, as things are; nothing is held.

    Raises:
        NoNewData, UserError: as `due`.
    """
    promotion.settle(state, spec.name)
    champion = registry.champion(state, spec.name)
    run = None if champion is None else champion.run_id
    if lacks_champion(state, spec.name, run):
        with promotion.settled(state, spec.name):
            learn_of_champion(state, spec.name, run)
    return resolve(spec, load_watermark(state, spec.name), run, find_files(spec), again, chosen)


def find_files(spec: RunSpec) -> Found:
    """For each source of the domain: file -> sha256."""
    return [hash_files(source_files(source)) for source in spec.domain]


def require_increments(spec: RunSpec, file: str) -> None:
    """Refuse what has no increments where only what grows makes sense; `file` is where the specification stands.

    Raises:
        UserError: it has none.
    """
    if spec.increments is None:
        fix = "add `increments: {}` to it"
        raise UserError("only a specification with increments can have new data", file, fix)
