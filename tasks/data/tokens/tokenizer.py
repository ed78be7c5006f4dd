"""Read a model folder's tokenizer: its special ids, its highest id, and how a text is framed."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import UserError
from tasks.data.model.folder import read_config, view
from tasks.data.model.loading import encoding, loading
from tasks.data.tokens.growth import require_bounded_growth
from tasks.storage.hashing import sha256_files


@dataclass(frozen=True)
class SpecialIds:
    """The ids that frame a document."""

    bos: int | None
    eos: int
    pad: int
    vocab_size: int
    """One more than the highest id."""


def tokenizer_sha256(folder: Path) -> str:
    """sha256 over the files that decide ids."""
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    return sha256_files({name: folder / name for name in names if (folder / name).is_file()})


def load_tokenizer(folder: Path) -> Any:
    """The tokenizers.Tokenizer of a model folder, special tokens in texts switched off.

    Raises:
        UserError: the folder has no tokenizer.json, or it cannot be read.
    """
    tokenizer = _read_tokenizer(folder)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _read_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            "the base model has no fast tokenizer (tokenizer.json)",
            str(folder),
            "convert it once: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
        )
    with loading("cannot read the tokenizer", file, "fetch or convert it again"):
        tokenizer = Tokenizer.from_file(str(file))
        require_bounded_growth(tokenizer, file)
        tokenizer.no_padding()  # some files ask for it: those of sentence encoders fill every text up to 128 tokens
        tokenizer.no_truncation()
        if not tokenizer.get_vocab():
            raise ValueError("it has no tokens")
        tokenizer.encode("a")  # what its parts say of one another shows when they work
    return tokenizer


def load_auto_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a model folder, made of the files that are hashed.

    Raises:
        UserError: there is none, or transformers cannot read it.
    """
    from transformers import AutoTokenizer

    _read_tokenizer(folder)
    fix = "fetch it again, or save it anew with save_pretrained"
    with view(folder) as shown, loading("cannot read the tokenizer", folder, fix, shown):
        tokenizer = AutoTokenizer.from_pretrained(shown, trust_remote_code=False, local_files_only=True)
        tokenizer.name_or_path = str(folder)
    return tokenizer


def highest_id(folder: Path) -> tuple[int, str]:
    """The highest id that a tokenizer gives, and its token."""
    told = (folder / "tokenizer.json").stat()
    return _highest_id(folder.absolute(), told.st_mtime_ns, told.st_size)


@functools.lru_cache(maxsize=8)
def _highest_id(folder: Path, modified: int, size: int) -> tuple[int, str]:  # noqa: ARG001
    return max((number, token) for token, number in _read_tokenizer(folder).get_vocab().items())


def special_ids(folder: Path, framed: bool = False) -> SpecialIds:
    """Read BOS, EOS and PAD; BOS only where the tokenizer itself adds one.

    `framed` (for heads): where the tokenizer itself ends a text with a token, as encoders' do ([SEP]), its own first
    and last tokens are taken for BOS and EOS.

    Raises:
        UserError: there is no tokenizer, or it has no EOS token (the model could never learn to stop).
    """
    tokenizer = _read_tokenizer(folder)
    config = read_config(folder / "tokenizer_config.json")

    def find(name: str) -> int | None:
        token = config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if content is not None and not isinstance(content, str):
            what = f"{name} in tokenizer_config.json is no text"
            raise UserError(what, str(folder / "tokenizer_config.json"), "write the token itself there")
        return tokenizer.token_to_id(content) if content else None

    eos = find("eos_token")
    highest = max(tokenizer.get_vocab().values())  # not their number: some vocabularies have gaps
    pad = find("pad_token")
    if framed and (frame := _own_frame(tokenizer, folder)) is not None:
        return SpecialIds(frame[0], frame[1], frame[1] if pad is None else pad, highest + 1)
    if eos is None:
        raise UserError(
            "the tokenizer has no EOS token", str(folder), "set eos_token in tokenizer_config.json"
        )
    bos = find("bos_token")
    whole, plain = tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids
    adds_bos = bool(config.get("add_bos_token")) or (whole[:1] == [bos] and plain[:1] != [bos])
    return SpecialIds(bos if adds_bos else None, eos, eos if pad is None else pad, highest + 1)


def _own_frame(tokenizer: Any, folder: Path) -> tuple[int | None, int] | None:
    """First and last id that the tokenizer puts around a text by itself; None if it puts none behind it."""
    encoded = tokenizer.encode("a")
    inside = [place for place, special in enumerate(encoded.special_tokens_mask) if not special]
    if not inside:
        raise UserError(
            "the tokenizer gives no token for 'a'", str(folder / "tokenizer.json"), "fetch it again"
        )
    head, tail = encoded.ids[: inside[0]], encoded.ids[inside[-1] + 1 :]
    if not tail:
        return None
    if len(head) > 1 or len(tail) > 1:
        what = f"the tokenizer puts {len(head)} tokens before a text and {len(tail)} behind it"
        raise UserError(what, str(folder / "tokenizer.json"), "use a model whose tokenizer puts one at most")
    return (head[0] if head else None), tail[0]


def encode_text(
    tokenizer_folder: Path, texts: Sequence[str], end: bool = True, framed: bool = False
) -> list[list[int]]:
    """Encode texts just as training does; `end=False` leaves EOS out, to be continued by generation. `framed`: as heads
    read them."""
    tokenizer, special = load_tokenizer(tokenizer_folder), special_ids(tokenizer_folder, framed)
    head = [] if special.bos is None else [special.bos]
    tail = [special.eos] if end else []
    with encoding(tokenizer_folder):
        encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [head + one.ids + tail for one in encoded]
