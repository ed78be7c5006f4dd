"""Tokenise running text: one parquet part at a time."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.data.model.loading import encoding
from tasks.data.tokens.tokenizer import load_tokenizer, special_ids, tokenizer_sha256

if TYPE_CHECKING:
    from tasks.data.tokens.fast.encoder import Encoder


def tokenize_part(job: tuple[str, int], tokenizer_folder: str, out: str, framed: bool = False) -> int:
    """Tokenise one parquet part into `tokens-N.bin` and `offsets-N.npy`; return the number of tokens."""
    from tasks.data.tokens.fast.encoder import choose_encoder

    part, number = job
    folder = Path(tokenizer_folder)
    special = special_ids(folder, framed)
    dtype = np.uint16 if special.vocab_size <= 2**16 else np.uint32
    with encoding(folder):
        encode = choose_encoder(_encoders(folder, tokenizer_sha256(folder), dtype), part_texts(Path(part)))
    head = b"" if special.bos is None else np.array([special.bos], dtype).tobytes()
    tail = np.array([special.eos], dtype).tobytes()
    lengths: list[int] = []
    with (Path(out) / f"tokens-{number:05d}.bin").open("wb") as file, encoding(folder):
        for texts in part_texts(Path(part)):
            rows = [head + ids + tail for ids in encode(texts)]
            file.write(b"".join(rows))
            lengths += [len(row) // dtype().itemsize for row in rows]
    np.save(
        Path(out) / f"offsets-{number:05d}.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    )
    return sum(lengths)


@functools.lru_cache(maxsize=1)
def _encoders(folder: Path, sha256: str, dtype: type[np.unsignedinteger[Any]]) -> "list[Encoder]":  # noqa: ARG001
    """What a process has learnt of a tokenizer (`sha256` tells it from its earlier self) serves its next part."""
    from tasks.data.tokens.fast.encoder import list_encoders

    return list_encoders(load_tokenizer(folder), dtype)


def part_texts(part: Path) -> Iterator[list[str]]:
    """Texts of a parquet part, a row group at a time (a few megabytes)."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(part) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=["text"]).column(0).to_pylist()
