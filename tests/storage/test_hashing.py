"""Names for content: the same content, the same name; anything else, another."""

import hashlib

from tasks.storage.hashing import sha256_file, sha256_files, sha256_value


def test_the_hash_of_a_file_is_its_sha256(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"x" * 3_000_000)
    assert sha256_file(file) == hashlib.sha256(b"x" * 3_000_000).hexdigest()


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
