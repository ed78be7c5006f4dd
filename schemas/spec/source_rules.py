"""What a source's settings mean together: its format, and settings that nothing would read."""

from schemas.nearest import nearest
from schemas.spec.objectives import Objective
from schemas.spec.records import RECORDS, RecordKind
from schemas.spec.sources import Columns, Source

_EXTENSIONS = {"jsonl": "jsonl", "json": "json", "csv": "csv", "tsv": "tsv"} | dict.fromkeys(
    ("conll", "bio", "iob", "iob2"), "conll"
)


def told_format(source: Source) -> str:
    """The format given, or told by the extension (compression suffix aside; unknown ones are txt)."""
    if source.format is not None:
        return source.format
    name = source.path.lower()
    for suffix in (".gz", ".zst"):
        name = name.removesuffix(suffix)
    extension = name.rsplit(".", 1)[-1] if "." in name else ""
    return _EXTENSIONS.get(extension, "txt")


def task_problem(source: Source, objective: Objective) -> str | None:
    """What is wrong with the task that a source names: `what; fix`."""
    if not objective.task_names:
        return None if source.task is None else "only objective multi_task has tasks; remove it"
    known = ", ".join(objective.task_names)
    if source.task is None:
        return f"it does not say which task its rows are for; add `task: NAME`, known: {known}"
    if source.task not in objective.task_names:
        return f"there is no task '{source.task}'; {nearest(source.task, objective.task_names)}known: {known}"
    return None


def dead_settings(source: Source, record: RecordKind, weighted: bool) -> list[str]:
    """Settings of a source that nothing would read, and formats that cannot hold its records: `key: what; fix`."""
    form, kind = told_format(source), RECORDS[record]
    dead = []
    if not weighted and source.weight != 1.0:
        dead.append("weight: only replay sources are weighted; remove it")
    if form not in kind.formats:
        fix = f"name a file of {', '.join(kind.formats)} (or set format)"
        dead.append(f"path: a {form} file does not hold {kind.holds}; {fix}")
        return dead
    if form in ("txt", "conll") and source.group is not None:
        fix = "remove it or use jsonl" + (", csv or tsv" if form == "txt" else "")
        dead.append(f"group: a {form} file has no {'columns' if form == 'txt' else 'column for it'}; {fix}")
    if form == "txt" and source.columns != Columns():
        dead.append("columns: a txt file has no columns; remove it")
        return dead
    if form != "txt" and source.document != "line":
        dead.append("document: only txt files are cut into documents; remove it")
    return dead + _columns(source, record, form)


def _columns(source: Source, record: RecordKind, form: str) -> list[str]:
    """What is wrong with the columns: fields of other records, numbers where there are keys, one column twice."""
    dead = []
    default, kind = Columns(), RECORDS[record]
    for field in Columns.model_fields:
        if field not in kind.fields() and getattr(source.columns, field) != getattr(default, field):
            known = ", ".join(kind.fields())
            dead.append(f"columns.{field}: this objective does not read it; remove it (it reads {known})")
    used = {
        field: column for field in kind.fields() if (column := getattr(source.columns, field)) is not None
    }
    if kind.layouts and used and not set(kind.required()) <= used.keys():
        needed = " and ".join(kind.required())
        dead.append(f"columns: give both {needed}, or none (the layout is then recognised)")
    used |= {"group": source.group} if source.group is not None else {}
    numbers = [field for field, column in used.items() if isinstance(column, int)]
    if form == "conll":
        used.pop("group", None)  # refused already
    if numbers and form in ("json", "jsonl"):
        dead.append(f"columns: a {form} file has keys, not column numbers; write the name of the key")
    elif form == "conll" and used != {field: getattr(default, field) for field in used} and len(numbers) < 2:
        dead.append("columns: a conll file has no names of columns; write both as numbers counted from 1")
    elif 0 < len(numbers) < len(used):
        named = ", ".join(field for field in used if field not in numbers)
        dead.append(
            f"columns: numbers mean a file without a header, names one with; give {named} as a number too"
        )
    if len(set(used.values())) < len(used) and len(kind.fields()) > 1:
        dead.append("columns: two fields are read from one column; give each its own")
    return dead
