"""What the verbs of the command line share: their common options, how they load a specification, how they print rows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.progress.terminal import say_json, show_table
from schemas.paths.state_folder import require_state

Spec = Annotated[Path, typer.Argument(help="Run specification (YAML).", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Replace one value of the specification; may be repeated."
    ),
]
State = Annotated[
    Path,
    typer.Option("--state", callback=require_state, help="Folder that keeps data, runs and the registry."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
DEFAULT_STATE = Path(".rootstock")


def load(spec: Path, sets: list[str] | None) -> Any:
    """The validated specification; imports nothing heavy."""
    from data_contracts.contract import list_contracts
    from schemas.reading.load import load_spec

    return load_spec(spec, sets or [], list_contracts())


def print_table(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as a table for people or as JSON for machines."""
    if as_json:
        say_json(rows)
    else:
        show_table(title, rows)
