"""What of a model folder is read: named files, hashed by the same list, and shown to the libraries alone.

A library never sees the folder itself but a *view*: a new folder with links to those files, in which the keys of JSON
files that choose code are left out. So nothing that is not hashed can be loaded: no pickle, no module, no subfolder, no
shard that the index does not name.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.data.model.config_keys import without_choices
from tasks.storage.hashing import sha256_files
from tasks.storage.reading import parse_json, read_stored

PROMPT_FILE = "prompt.json"
"""Beside a model that was tuned on instructions: its frame (see `prompts`)."""
METHOD_FILE, ADAPTER_CONFIG = "method.json", "adapter_config.json"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
VOCABULARY_FILES = (
    "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
"""Read by some classes of tokenizers beside tokenizer.json."""
CONFIGS = ("config.json", "generation_config.json", ADAPTER_CONFIG, "tokenizer_config.json", METHOD_FILE)
FISHER_FILE = "ewc/fisher.safetensors"
"""Beside a model that remedy ewc held with gamma: read by its next increment (tasks/training/remedies/ewc.py)."""
METHOD_WEIGHTS = tuple(f"{name}.safetensors" for name in ("adapter_model", "inserted", "changed", "deltas"))
"""What the methods store beside a base."""
CARD = "README.md"
"""For people: never read, written after the verdict, free to be edited."""

_PLAIN = re.compile(r"[\w.-]+\.safetensors")


def is_tuned(folder: Path) -> bool:
    """Whether the folder holds a method's files that need a base."""
    return any((folder / name).is_file() for name in (METHOD_FILE, ADAPTER_CONFIG))


def model_files(folder: Path) -> dict[str, Path]:
    """The files of a model folder that are read, by name; no other is. Says nothing of whether they are sound."""
    named = (*CONFIGS, PROMPT_FILE, *TOKENIZER_FILES, *VOCABULARY_FILES, FISHER_FILE, *_weights(folder))
    return {name: folder / name for name in sorted(named) if (folder / name).is_file()}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the weights, as transformers finds them: one by name, or those of the index."""
    return [folder / n for n in _weights(folder) if n.endswith(".safetensors") and (folder / n).is_file()]


def _weights(folder: Path) -> tuple[str, ...]:
    if is_tuned(folder):
        return METHOD_WEIGHTS
    named = _object_or_nothing(folder / "config.json").get("transformers_weights")
    first = named if isinstance(named, str) else "model.safetensors"
    if first.endswith(".safetensors") and ((folder / first).is_file() or named):
        return (first,) if _PLAIN.fullmatch(first) else ()
    index = named if isinstance(named, str) and "/" not in named else INDEX
    shards = _object_or_nothing(folder / index).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else set()
    return (index, *sorted(name for name in names if isinstance(name, str) and _PLAIN.fullmatch(name)))


def _object_or_nothing(file: Path) -> dict[str, Any]:
    if not file.is_file():  # a FIFO would be waited for
        return {}
    try:
        value = parse_json(read_stored(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file.

    Raises:
        UserError: the file holds anything else.
    """
    if not file.is_file():
        return {}
    try:
        config = parse_json(read_stored(file))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise UserError("the model's configuration is not a JSON object", str(file), "fetch the model again")
    return config


@contextlib.contextmanager
def view(folder: Path) -> Iterator[Path]:
    """A folder that holds what `model_files` names and nothing else, for a library to load from; gone afterwards.

    Raises:
        UserError: see `require_sound`.
    """
    cleaned = require_sound(folder)
    with tempfile.TemporaryDirectory(prefix="rootstock-model-") as temporary:
        shown = Path(temporary)
        for name, file in model_files(folder).items():
            if "/" in name:
                continue
            if name in cleaned:
                (shown / name).write_text(json.dumps(cleaned[name]), encoding="utf-8")
            else:
                (shown / name).symlink_to(file.resolve())
        yield shown


def require_sound(folder: Path) -> dict[str, dict[str, Any]]:
    """Refuse a folder that names code or files elsewhere; return the JSON files that lose keys in a view.

    Raises:
        UserError: a file is no regular one, lies outside the folder, is no JSON object, or names code to run.
    """
    for name in (*CONFIGS, PROMPT_FILE, *TOKENIZER_FILES, *VOCABULARY_FILES, INDEX, *_weights(folder)):
        _require_inside(folder, folder / name)
    _require_shards(folder)
    cleaned = {}
    for name in CONFIGS:
        config = read_config(folder / name)
        kept = without_choices(config, folder / name)
        if kept != config:
            cleaned[name] = kept
    return cleaned


def _require_inside(folder: Path, file: Path) -> None:
    """A regular file of the folder itself; the Hub's cache keeps them as links to its own `blobs`."""
    if not file.is_symlink() and not file.exists():
        return
    if not file.is_file():
        what = f"{file.name} is a link to nothing" if file.is_symlink() and not file.exists() else f"{file.name} is no regular file"  # fmt: skip
        raise UserError(f"{what}: a model folder holds its own files", str(file), "fetch the model again")
    own = folder.resolve()
    allowed = [own, *([own.parents[1] / "blobs"] if own.parent.name == "snapshots" else [])]
    if not any(file.resolve().is_relative_to(place) for place in allowed):
        what = f"{file.name} is a link to a file outside the model's folder"
        raise UserError(what, str(file), "put the file itself in its place")


def _require_shards(folder: Path) -> None:
    """Every file that the index names is a safetensors file beside it."""
    if is_tuned(folder):
        return
    named = read_config(folder / "config.json").get("transformers_weights")
    if named is not None and not (
        isinstance(named, str)
        and (_PLAIN.fullmatch(named) or re.fullmatch(r"[\w.-]+\.safetensors\.index\.json", named))
    ):
        what = "transformers_weights in config.json names no safetensors file of this folder"
        raise UserError(
            what, str(folder / "config.json"), "take the key out, or name a file beside config.json"
        )
    names = _weights(folder)
    if not names or not names[0].endswith(".json"):
        return
    index = folder / names[0]
    if not index.is_file():
        return
    shards = read_config(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UserError("the index of the weights has no weight_map", str(index), "fetch the model again")
    for name in sorted({str(value) for value in shards.values()}):
        if not _PLAIN.fullmatch(name):
            what = f"the index of the weights names {name[:80]}, which is no safetensors file of this folder"
            fix = (
                "convert the model with save_pretrained; pickled weights and files elsewhere are never loaded"
            )
            raise UserError(what, str(index), fix)
        if not (folder / name).is_file():
            raise UserError(f"the shard {name} is missing", str(index), "fetch the model again")


def model_sha256(folder: Path) -> str:
    """sha256 over everything in a model folder that decides what it computes."""
    return sha256_files(dict(sorted(model_files(folder).items())))
