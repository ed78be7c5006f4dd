"""A tuned model on disk: the method's own files, and `method.json` that says how to put them on which base."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.base import Schema
from schemas.errors import UserError
from schemas.spec.methods.base import MethodSettings
from schemas.spec.methods.union import Method
from tasks.data.model.folder import ADAPTER_CONFIG, METHOD_FILE, read_config
from tasks.storage.atomic import write_atomic
from tasks.storage.reading import read_stored


class SavedMethod(Schema):
    """What method.json holds."""

    method: Method
    base: str
    """Folder or Hub id of the base."""
    base_sha256: str
    """See models.model_sha256."""


def save_tuned(tuned: Any, folder: Path, settings: MethodSettings, base: str, base_sha256: str) -> None:
    """Write what the method deploys; full weights stand for themselves, anything else names its base."""
    folder.mkdir(parents=True, exist_ok=True)
    tuned.save(folder, base)
    if not settings.replaces_base:
        saved = {"method": settings.model_dump(mode="json"), "base": base, "base_sha256": base_sha256}
        write_atomic(folder / METHOD_FILE, json.dumps(saved, indent=1))


def read_method(folder: Path) -> SavedMethod:
    """Read method.json; a folder that only has PEFT's own adapter_config.json is somebody else's adapter.

    Raises:
        UserError: the file is not one of ours.
    """
    file = folder / METHOD_FILE
    try:
        return TypeAdapter(SavedMethod).validate_json(read_stored(file))
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "cannot be read"
        raise UserError(
            f"method.json does not say how the model was tuned: {reason}", str(file), "export the run again"
        ) from None


def split_task(reference: str) -> tuple[str, str | None]:
    """FOLDER#TASK as (folder, task); a name without #, or of a folder that is there, is a folder."""
    folder, sign, task = reference.rpartition("#")
    return (folder, task) if sign and not Path(reference).exists() else (reference, None)


def find_tuned(reference: str) -> Path:
    """Folder of a tuned model, named by itself or by the run that made it; `#TASK` behind it is not looked at.

    Raises:
        UserError: there is none.
    """
    from schemas.reading.load import expand

    try:
        named = Path(expand(split_task(reference)[0]))
    except KeyError as error:
        what = f"{reference} names the environment variable {error.args[0]}, which is not set"
        raise UserError(what, "method", f"run: export {error.args[0]}=...") from None
    found = next((folder for folder in (named, named / "model") if (folder / METHOD_FILE).is_file()), None)
    if found is None:
        fix = "name the folder of a finished run, or its model folder"
        raise UserError(f"there is no tuned model in {reference}", str(named.absolute()), fix)
    return found


def base_of(folder: Path) -> str:
    """What a tuned model's folder calls its base: a folder or a Hub id."""
    if (folder / METHOD_FILE).is_file():
        return read_method(folder).base
    file = folder / ADAPTER_CONFIG
    named = read_config(file).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        fix = "write base_model_name_or_path: the folder or Hub id of the model it was trained on"
        raise UserError("the adapter does not say which model it belongs to", str(file), fix)
    if "$" in named:
        fix = "write the folder itself: variables are read in what you name, not in a folder's files"
        raise UserError("the adapter names its base by an environment variable", str(file), fix)
    return named
