"""Find and load contracts. Importing this module costs next to nothing: what reads files is imported when it does."""

import difflib
import hashlib
from pathlib import Path
from typing import Any

from data_contracts.rules import Rule
from schemas.base import Schema
from schemas.errors import UserError, UserErrors
from schemas.results.contracts import told_record
from schemas.spec.records import RecordKind

SUFFIX = ".odcs.yaml"
FOLDER = Path(__file__).parent


class Contract(Schema):
    """One contract, compiled: what must be true of a dataset."""

    name: str
    """The file's name without `.odcs.yaml`."""
    version: str
    file: Path
    sha256: str
    """Of the file's bytes."""
    rules: tuple[Rule, ...]
    record: RecordKind = "text"
    """What one row of such a dataset is: told by the properties (see `told_record`)."""
    max_quarantined_ratio: float = 0.0
    """Share of rows that may be unreadable."""


def list_contracts() -> dict[str, Path]:
    """Name -> file of every contract of this project; no file is opened."""
    return {file.name.removesuffix(SUFFIX): file for file in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def contract_file(name_or_path: str | Path) -> Path:
    """The file of a contract known by name, or the path itself.

    Raises:
        UserErrors: it is neither a known name nor a file.
    """
    known = list_contracts()
    given = str(name_or_path)
    if given in known:
        return known[given]
    if Path(given).is_file():
        return Path(given)
    near = difflib.get_close_matches(given, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserErrors([UserError(f"there is no contract '{given}'", given, f"{hint}known: {', '.join(known)}; or the path of an {SUFFIX} file")])  # fmt: skip


def load_contract(name_or_path: str | Path) -> Contract:
    """Read, lint and compile one contract.

    Raises:
        UserErrors: all mistakes of the file, each with its line.
    """
    from data_contracts.lint import MAX_QUARANTINED, lint_document
    from data_contracts.rules import read_rules
    from schemas.reading.yaml_reader import read_yaml

    file = contract_file(name_or_path)
    document = read_yaml(file)
    errors = lint_document(document, file)
    if errors:
        raise UserErrors(errors)
    custom: list[dict[str, Any]] = document.value.get("customProperties", [])
    return Contract(
        name=file.name.removesuffix(SUFFIX),
        version=document.value["version"],
        file=file,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        rules=tuple(read_rules(document)[0]),
        record=told_record(document.value) or "text",
        max_quarantined_ratio=next(
            (item["value"] for item in custom if item["property"] == MAX_QUARANTINED), 0.0
        ),
    )


def contract_sha256(contract: Contract) -> str:
    """sha256 of the contract's file, as `sha256sum` prints it."""
    return contract.sha256
