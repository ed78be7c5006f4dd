"""What a source's settings mean together: its format, and settings that nothing would read."""

from schemas.records import FIELDS, FORMATS, RecordKind
from schemas.sources import Columns, Source

_EXTENSIONS = {"jsonl": "jsonl", "json": "json", "csv": "csv", "tsv": "tsv"} | dict.fromkeys(
    ("conll", "bio", "iob", "iob2"), "conll"
)
_HOLDS = {
    "text": "running text",
    "labeled_text": "texts with a label",
    "tagged_tokens": "tagged words",
    "instruction": "prompts and responses",
}


def told_format(source: Source) -> str:
    """The format given, or told by the extension (compression suffix aside; unknown ones are txt)."""
    if source.format is not None:
        return source.format
    name = source.path.lower()
    for suffix in (".gz", ".zst"):
        name = name.removesuffix(suffix)
    extension = name.rsplit(".", 1)[-1] if "." in name else ""
    return _EXTENSIONS.get(extension, "txt")


def dead_settings(source: Source, record: RecordKind, weighted: bool) -> list[str]:
    """Settings of a source that nothing would read, and formats that cannot hold its records: `key: what; fix`."""
    form = told_format(source)
    dead = []
    if not weighted and source.weight != 1.0:
        dead.append("weight: only replay sources are weighted; remove it")
    if form not in FORMATS[record]:
        fix = f"name a file of {', '.join(FORMATS[record])} (or set format)"
        dead.append(f"path: a {form} file does not hold {_HOLDS[record]}; {fix}")
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
    default = Columns()
    for field in Columns.model_fields:
        if field not in FIELDS[record] and getattr(source.columns, field) != getattr(default, field):
            known = ", ".join(FIELDS[record])
            dead.append(f"columns.{field}: this objective does not read it; remove it (it reads {known})")
    used = {
        field: column for field in FIELDS[record] if (column := getattr(source.columns, field)) is not None
    }
    if record == "instruction" and used and not {"prompt", "response"} <= used.keys():
        dead.append("columns: give both prompt and response, or none (the layout is then recognised)")
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
    if len(set(used.values())) < len(used) and record != "text":
        dead.append("columns: two fields are read from one column; give each its own")
    return dead
