"""A file's bytes in blocks and in lines. Memory grows neither with the file nor with its longest line."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.errors import UserError

BLOCK_BYTES = 2**18
MAX_LINE_BYTES = 16 * 2**20

Line = tuple[int, int, bytes | None, bool]
"""Line number, byte offset, bytes without the newline (None: longer than MAX_LINE_BYTES), newline seen."""

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def compression(file: str) -> str | None:
    """How a file is compressed, told by its name."""
    return _COMPRESSIONS.get(Path(file).suffix.lower())


def read_blocks(file: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Yield the bytes [start, stop) of a plain file, or all decompressed bytes of a `.gz` or `.zst` file.

    Raises:
        UserError: the file cannot be opened, is a Git LFS pointer, or its compressed data is broken.
    """
    try:
        with Path(file).open("rb") as raw:
            if raw.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise UserError("this is a Git LFS pointer, not the data", file, "run: git lfs pull")
            if compression(file) is None:
                raw.seek(start)
                yield from _take(raw, None if stop is None else stop - start)
                return
    except OSError as error:
        raise UserError(
            f"cannot read the file: {error.strerror}", file, "check path and permissions"
        ) from None
    yield from _decompress(file)


def _take(raw: Any, wanted: int | None) -> Iterator[bytes]:
    while wanted is None or wanted > 0:
        block = raw.read(BLOCK_BYTES if wanted is None else min(BLOCK_BYTES, wanted))
        if not block:
            return
        if wanted is not None:
            wanted -= len(block)
        yield block


def _decompress(file: str) -> Iterator[bytes]:
    import pyarrow as pa

    done = 0
    try:
        with pa.input_stream(file, compression=compression(file)) as stream:
            while block := stream.read(BLOCK_BYTES):
                done += len(block)
                yield block
    except (FileNotFoundError, PermissionError) as error:  # removed or closed since it was found
        what = f"cannot read the file: {os.strerror(error.errno or 0)}"
        raise UserError(what, file, "check path and permissions") from None
    except OSError as error:
        short = "truncated" in str(error).lower()
        what = "the compressed data ends too early" if short else "the compressed data is damaged"
        kind = _COMPRESSIONS[Path(file).suffix.lower()]
        fix = f"fetch or compress the file again; test it with: {kind} --test" + (
            "" if done else "; or rename it if it is not compressed"
        )
        raise UserError(what, f"{file}, after {done:,} bytes of text", fix) from None


MARKS = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}
"""Encodings whose byte order only a mark tells; what a decoder raises without one differs from Python to Python."""


def transcode(file: str, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Turn a file's bytes into UTF-8, for the encodings whose newline is not the byte 0x0A.

    What cannot be decoded becomes a byte that is never UTF-8, so that only its own line is refused later.

    Raises:
        UserError: the encoding needs a byte order mark and there is none.
    """
    decoder, begun = codecs.getincrementaldecoder(encoding)("strict"), False
    for block in blocks:
        if not begun and not block.startswith(MARKS.get(encoding, b"")):
            what = f"cannot decode as {encoding}: the file does not start with a byte order mark (BOM)"
            raise UserError(what, file, f"name the byte order: {encoding}-le or {encoding}-be")
        begun = begun or bool(block)
        yield _decode_some(decoder, block, final=False)
    yield _decode_some(decoder, b"", final=True)


def _decode_some(decoder: Any, block: bytes, final: bool) -> bytes:
    decoded = []
    while True:
        pending, state = decoder.getstate()
        block = pending + block
        decoder.setstate((b"", state))
        try:
            decoded.append(decoder.decode(block, final).encode("utf-8", "surrogatepass"))
            return b"".join(decoded)
        except UnicodeDecodeError as error:
            decoder.setstate((b"", state))
            good = decoder.decode(block[: error.start])
            decoded += [good.encode("utf-8", "surrogatepass"), b"\xff"]
            block = block[error.end :]


def split_lines(
    blocks: Iterator[bytes],
    number: int = 1,
    offset: int = 0,
    mark: bytes = b"",
    max_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Line]:
    """Cut blocks at newlines; `number` and `offset` are those of the first byte, `mark` is dropped in front of it.

    Of a line longer than `max_bytes` only the length is kept, however long it is.
    """
    held: list[bytes] = []
    held_bytes = 0
    for block in blocks:
        if mark:
            offset += len(mark) if block.startswith(mark) else 0
            block, mark = block.removeprefix(mark), b""
        *complete, rest = block.split(b"\n")
        for piece in complete:
            size = len(piece)
            if held_bytes:
                size += held_bytes
                yield number, offset, b"".join([*held, piece]) if size <= max_bytes else None, True
                held, held_bytes = [], 0
            else:
                yield number, offset, piece, True
            number += 1
            offset += size + 1
        if rest:
            held_bytes += len(rest)
            held = [*held, rest] if held_bytes <= max_bytes else []
    if held_bytes:
        yield number, offset, b"".join(held) if held_bytes <= max_bytes else None, False
