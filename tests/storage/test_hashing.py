"""Names for content: the same content, the same name; anything else, another."""

import hashlib
import os
import time

from tasks.storage import hashing
from tasks.storage.hashing import sha256_file, sha256_files, sha256_value


def test_the_hash_of_a_file_is_its_sha256(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"x" * 3_000_000)
    assert sha256_file(file) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_bytes_are_read_once_until_somebody_writes(tmp_path, monkeypatch):
    file, reads = tmp_path / "a", []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: reads.append(1) or digest(*a))
    file.write_bytes(b"1")
    assert sha256_file(file) == sha256_file(file)
    assert len(reads) == 2, "two writes within a tick of the clock look alike"
    monkeypatch.setattr(hashing, "_SETTLED_NANOSECONDS", 0)
    assert len({sha256_file(file) for _ in range(3)}) == 1
    assert len(reads) == 3
    before = file.stat()
    time.sleep(0.02)
    file.write_bytes(b"2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert sha256_file(file) == hashlib.sha256(b"2").hexdigest(), "its size and time are as they were"


def test_the_order_of_keys_does_not_change_the_hash_of_a_value_but_that_of_a_list_does():
    assert sha256_value({"a": 1, "b": [1, 2]}) == sha256_value({"b": [1, 2], "a": 1})
    assert sha256_value({"a": 1, "b": [1, 2]}) != sha256_value({"a": 1, "b": [2, 1]})
    assert sha256_value(["a", "b"]) != sha256_value(["ab"])
    assert sha256_value(1) != sha256_value("1") != sha256_value(None)


def test_names_and_contents_of_files_both_count(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    assert len({sha256_files(files) for files in ({"a": a}, {"b": a}, {"a": b}, {"a": a, "b": b})}) == 4
