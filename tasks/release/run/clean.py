"""`rootstock clean`: remove steps that no model in use and no recent run rests on, and what killed processes left.

Folders of runs stay: they are the evidence of every decision. What is removed is made again where it is needed.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import UserError
from tasks.release.record.mend import how_to_mend
from tasks.release.record.run_record import RunRecord, read_record
from tasks.release.registry import versions as registry
from tasks.storage.atomic import remove
from tasks.storage.intact import Damage, find_damage
from tasks.storage.reading import parse_json, read_stored
from tasks.storage.space import size_of
from tasks.storage.stderr import tell
from tasks.storage.steps import MADE_OF, MANIFEST, alone

EVIDENCE = ("spec.yaml", "lineage.json", "incumbent.json", "replay_choice.json")
"""Files of a run that name the steps it rests on."""
DAY_SECONDS = 24 * 3600


class Removable(NamedTuple):
    """A folder that may go."""

    folder: Path
    kind: str
    size: int


def clean(state: Path, days: float, really: bool) -> list[Removable]:
    """What may go; removed, if `really`.

    `days`: a step or run that was written since then is recent, and kept with all it rests on.

    Raises:
        UserError: something is going on in this state folder: what it rests on is known to itself alone; or what a run that
            must go on working rests on cannot be told.
    """
    if not (state / "data").is_dir():
        return []
    if not really:
        return _removable(state, days)
    with alone(state, "rootstock clean --yes"):
        found = _removable(state, days)
        for one in found:
            hidden = one.folder.with_name(f".{one.folder.name.lstrip('.')}.old")
            if one.folder != hidden:
                remove(hidden)
                one.folder.rename(hidden)  # out of sight first: what is visible is whole
            remove(hidden)
        return found


def _removable(state: Path, days: float) -> list[Removable]:
    since = time.time() - days * DAY_SECONDS
    folders = sorted(folder for folder in (state / "data").iterdir() if folder.is_dir())
    steps = [folder for folder in folders if not folder.name.startswith(".")]
    recent = [folder for folder in steps if _written(folder / MANIFEST) > since]
    needed = _with_inputs(steps, recent, _evidence(state, since))
    links = {folder for folder in folders if folder.is_symlink()}
    for link in sorted(links - needed):
        tell(f"{str(link)!r} is a link, and what it leads to may be of use elsewhere: left as it is")
    folders = [folder for folder in folders if folder not in links]
    gone = [
        (folder, folder.name.rpartition("-")[0])
        for folder in steps
        if folder not in needed and folder not in links
    ]
    gone += [
        (folder, "what was not finished") for folder in folders
        if folder.name.startswith(".") and max(map(_written, (folder, *folder.iterdir()))) <= since
    ]  # fmt: skip
    return [Removable(folder, kind, size_of(folder)) for folder, kind in gone]


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _evidence(state: Path, since: float) -> str:
    """All that the runs which must go on working say of what they rest on.

    Raises:
        UserError: one of them does not say it any more; a run that is not finished may not yet.
    """
    used = {
        line.run for line in registry.as_record(state) if line.alias is not None
    } if registry.exists(state) else set()  # fmt: skip
    texts = []
    there = {run.name for run in (state / "runs").glob("*") if run.is_dir()}
    for name in sorted(there | used):
        run = state / "runs" / name
        written = max(map(_written, (run, *run.iterdir())), default=0.0) if name in there else 0.0
        if name in used or written > since:
            _require_told(run, name in used)
            texts += [
                read_stored(file).decode(errors="replace")
                for one in EVIDENCE
                if (file := run / one).is_file()
            ]
    return "\n".join(texts)


def _require_told(run: Path, used: bool) -> None:
    """Refuse a run whose evidence is gone or is not what it left."""
    record, lineage = read_record(run), run / "lineage.json"
    damage = record if isinstance(record, Damage) else None
    if isinstance(record, RunRecord):
        listed = [file for file in record.files if file.path in EVIDENCE]
        damage = find_damage(run, listed, besides=None)
    if damage is None and (used or record is not None) and not lineage.is_file():
        damage = Damage(lineage, "is missing")
    if damage is not None:
        what = f"which steps {run.name} rests on cannot be told, so nothing is removed: {damage.file.name} {damage.what}"
        raise UserError(what, str(damage.file), how_to_mend(run, damage))


def _with_inputs(steps: Sequence[Path], begin: Iterable[Path], text: str) -> set[Path]:
    """Steps that the text names, by folder or key, those to begin with, and all that these were made from."""
    manifests = {folder: _manifest(folder) for folder in steps}
    by_key = {str(manifest["key"]): folder for folder, manifest in manifests.items() if "key" in manifest}
    todo = [*begin, *(folder for folder in steps if folder.name in text or not manifests[folder])]
    todo += [folder for key, folder in by_key.items() if key in text]
    needed: set[Path] = set()
    while todo:
        folder = todo.pop()
        if folder not in needed:
            needed.add(folder)
            inputs = dict(manifests[folder].get("inputs", {})).values()
            todo += [by_key[key] for key in inputs if key in by_key]
            parts = dict(manifests[folder].get("facts", {})).get(MADE_OF, ())
            todo += [folder.parent / name for name in parts if folder.parent / name in manifests]
    return needed


def _manifest(folder: Path) -> dict[str, Any]:
    """What a step says of itself; nothing where that cannot be read: such a step stays, for people to look at."""
    try:
        manifest = parse_json(read_stored(folder / MANIFEST))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
