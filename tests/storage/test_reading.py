"""What is stored is read without waiting and without end, or it is damage."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.storage.hashing import sha256_file
from tasks.storage.intact import open_sealed
from tasks.storage.reading import parse_json, read_stored

NO_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to a device without end": lambda file: file.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "larger than memory": lambda file: (file.touch(), os.truncate(file, 2**40)),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    NO_FILES[kind](tmp_path / "record.json")
    with pytest.raises(OSError, match=r"record\.json"):
        read_stored(tmp_path / "record.json")
    if kind != "larger than memory":  # a file of data may be that large
        with pytest.raises(OSError, match=r"record\.json"):
            sha256_file(tmp_path / "record.json")


@pytest.mark.parametrize("depth", [900, 995, 5_000, 100_000])
def test_json_that_is_nested_too_deeply_is_a_wrong_value(depth: int) -> None:
    text = '{"a":' * depth + "1" + "}" * depth
    try:
        parse_json(text)
    except ValueError:
        assert depth > 900
    for content in (text, '{"seal": "0", "a": ' + text + "}", '{"a":' * depth):
        with pytest.raises(ValueError, match=r"nested|other bytes|Expecting|no seal"):
            open_sealed(content.encode())
