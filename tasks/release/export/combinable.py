"""Which tuned models can be combined: what each was tuned from, and whether plain weights can be made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from schemas.errors import UserError
from schemas.results.artifacts import Lineage
from tasks.data.labels.model_head import read_head
from tasks.data.model.folder import METHOD_FILE, is_tuned, model_sha256
from tasks.data.tokens.tokenizer import load_tokenizer
from tasks.storage.reading import read_stored
from tasks.training.models.load import find_base
from tasks.training.models.tuned_files import base_of, read_method
from tasks.training.models.weights import find_model

ONE_BASE = "combine models that were tuned from one base"


@dataclass(frozen=True)
class Origin:
    """A model and what it was tuned from."""

    name: str
    """What the user calls it."""
    folder: Path
    sha256: str
    """See models.model_sha256."""
    base: str | None
    """Folder or Hub id of its base; None if the model does not say."""
    base_sha256: str | None


def read_origin(name: str, folder: Path) -> Origin:
    """Read what a model folder says of its base; nothing heavy is loaded.

    An adapter names its base in method.json (one made elsewhere: in adapter_config.json), the full weights of a run
    in the run's lineage.json. Other full weights do not say.

    Raises:
        UserError: it is no language model, or its method leaves no plain weights.
    """
    if (head := read_head(folder)) is not None:
        what = f"{name} is a model for {head[0]}: its head is new, so there is no difference to the base"
        raise UserError(what, str(folder), "combine language models")
    base, base_sha256 = _base_of(name, folder)
    return Origin(name, folder, model_sha256(folder), base, base_sha256)


def _base_of(name: str, folder: Path) -> tuple[str | None, str | None]:
    if (folder / METHOD_FILE).is_file():
        saved = read_method(folder)
        if not saved.method.merges:
            raise _not_plain(name, saved.method.kind, folder)
        return saved.base, saved.base_sha256
    if is_tuned(folder):
        from tasks.training.methods.parts.peft_backed import inference_config

        config = inference_config(folder)
        if config.is_prompt_learning:
            raise _not_plain(name, str(config.peft_type.value), folder)
        return base_of(folder), model_sha256(find_base(folder))
    lineage = _lineage_of(folder)
    return (lineage.base_name, lineage.base) if lineage else (None, None)


def _not_plain(name: str, kind: str, folder: Path) -> UserError:
    return UserError(
        f"{name} was tuned by method {kind}, of which no plain weights can be made",
        str(folder),
        "combine models whose method can be merged (lora, full and others: rootstock methods says which refuse);"
        " several of this kind can be switched on one base: tasks/training/models/several.py",
    )


def _lineage_of(folder: Path) -> Lineage | None:
    """Lineage of the run that made this very model, if the folder is still part of it."""
    file = folder.parent / "lineage.json"
    if folder.name != "model" or not file.is_file():
        return None
    try:
        lineage = Lineage.model_validate_json(read_stored(file))
    except ValidationError as error:
        what = f"lineage.json cannot be read: {error.errors()[0]['msg']}"
        raise UserError(what, str(file), "run the specification again, or add --base MODEL") from None
    return lineage if lineage.weights == model_sha256(folder) else None


def common_base(origins: Sequence[Origin], base: str | None) -> Path:
    """Folder of the model that all were tuned from; `base` names it where they do not.

    Raises:
        UserError: a model does not say and `base` is not given, they come from different bases, one is given twice,
            the base cannot be had or has changed, or a model has another tokenizer than the base.
    """
    for number, origin in enumerate(origins):
        if origin.sha256 in {other.sha256 for other in origins[:number]}:
            fix = "name each model once; give it a larger weight instead"
            raise UserError(f"the model {origin.name} is named twice", str(origin.folder), fix)
    given = find_model(base) if base is not None else None
    wanted = {origin.name: origin.base_sha256 for origin in origins if origin.base_sha256 is not None}
    if given is not None:
        wanted = {f"--base {base}": model_sha256(given), **wanted}
    if len(set(wanted.values())) > 1:
        (first, first_sha256), *others = wanted.items()
        other, sha256 = next(item for item in others if item[1] != first_sha256)
        what = f"{first} and {other} are not of one base (sha256 {first_sha256[:12]} and {sha256[:12]})"
        raise UserError(what, other, ONE_BASE)
    for origin in origins:
        if origin.base_sha256 is None and given is None:
            what = f"{origin.name} does not say which model it was tuned from"
            raise UserError(what, str(origin.folder), "name a run, or add --base MODEL")
    folder = given or _find_named(origins)
    _require_one_tokenizer(origins, folder)
    return folder


def _find_named(origins: Sequence[Origin]) -> Path:
    """The base under one of the names that the models know it by."""
    for origin in origins:
        try:
            folder = find_model(str(origin.base))
        except UserError:
            continue
        if model_sha256(folder) == origin.base_sha256:
            return folder
    names = ", ".join(sorted({str(origin.base) for origin in origins}))
    what = f"the base is not to be had, or its files have changed: {names}"
    raise UserError(what, str(origins[0].folder), "bring it back, and add --base MODEL")


def _require_one_tokenizer(origins: Sequence[Origin], base: Path) -> None:
    """The same id must mean the same token everywhere; an adapter made elsewhere has no tokenizer of its own."""
    known = None
    for origin in origins:
        file = origin.folder / "tokenizer.json"
        if not file.is_file() or read_stored(file) == read_stored(base / "tokenizer.json"):
            continue
        known = known or load_tokenizer(base).get_vocab()
        if load_tokenizer(origin.folder).get_vocab() != known:
            what = f"{origin.name} has another tokenizer than the base: its ids mean other tokens"
            raise UserError(what, str(file), "combine models that kept the base's tokenizer")
