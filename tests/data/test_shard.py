"""Shards are whole lines, cover a file exactly, and know the number of their first line."""

import random
from pathlib import Path

import pytest

from schemas.errors import UserError
from schemas.spec.sources import Source
from tasks.data.read.shards import find_files, plan_shards


def plan(path, shard_bytes=64 * 2**20, **settings):
    source = Source(path=str(path), contract="any", **settings)
    return plan_shards(source, find_files(source), 5, shard_bytes)


@pytest.mark.parametrize("shard_bytes", [1, 7, 100, 4096, 300_000, 10**9])
def test_shards_cover_the_file_and_know_their_first_line(tmp_path, shard_bytes):
    rng = random.Random(3)
    lines = [b"x" * rng.choice([0, 1, 5, 50, 3000]) + rng.choice([b"\n", b"\r\n"]) for _ in range(1000)]
    content = b"".join(lines) + b"no newline at the end"
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    shards = plan(file, shard_bytes)
    assert b"".join(content[shard.start : shard.stop] for shard in shards) == content
    for shard in shards:
        assert shard.start == 0 or content[shard.start - 1 : shard.start] == b"\n"
        assert shard.first_line == content.count(b"\n", 0, shard.start) + 1
        assert shard.stop > shard.start
    assert [shard.ordinal for shard in shards] == list(range(5, 5 + len(shards)))
    assert len(shards) == 1 if shard_bytes == 10**9 else len(shards) > 1


def test_a_cut_never_falls_into_an_empty_last_shard(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"12345\n" * 10)
    assert [(shard.start, shard.stop) for shard in plan(file, 30)] == [(0, 30), (30, 60)]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.csv", {}),
        ("a.json", {}),
        ("a.jsonl.gz", {}),
        ("a.txt.zst", {}),
        ("a.txt", {"document": "paragraph"}),
        ("a.txt", {"encoding": "utf-16"}),
    ],
)
def test_what_cannot_be_cut_is_one_shard(tmp_path, name, settings):
    file = tmp_path / name
    if file.suffix in (".gz", ".zst"):
        import pyarrow as pa

        with pa.output_stream(str(file), compression="gzip" if file.suffix == ".gz" else "zstd") as out:
            out.write(b"a,b\n" * 1000)
    else:
        file.write_text("a,b\n" * 1000)
    (shard,) = plan(file, 100, **settings)
    assert (shard.start, shard.stop, shard.first_line) == (0, None, 1)


def test_an_empty_file_is_one_empty_shard(tmp_path):
    file = tmp_path / "a.jsonl"
    file.touch()
    (shard,) = plan(file)
    assert (shard.start, shard.stop, shard.file) == (0, 0, str(file))


def test_files_of_a_glob_come_sorted_and_each_by_its_own_format(tmp_path):
    for name in ("b.jsonl", "a.csv", "c.txt.gz"):
        (tmp_path / name).touch()
    shards = plan(tmp_path / "*")
    assert [(Path(shard.file).name, shard.format) for shard in shards] == [
        ("a.csv", "csv"),
        ("b.jsonl", "jsonl"),
        ("c.txt.gz", "txt"),
    ]


def test_a_shard_carries_the_sources_settings(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("body,who\n1,2\n")
    shards = plan_shards(
        Source(path=str(file), contract="c", columns={"text": "body"}, group="who", encoding="gbk"),
        [str(file)],
    )
    assert (shards[0].columns, shards[0].group, shards[0].encoding) == ({"text": "body"}, "who", "gb18030")
    assert shards[0].ordinal == 0


def test_no_match_an_unset_variable_and_a_pointer_are_user_errors(tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    with pytest.raises(UserError) as error:
        plan(tmp_path / "none*.txt")
    assert (error.value.what, error.value.where) == ("no file matches", str(tmp_path / "none*.txt"))
    assert "glob" in error.value.fix
    with pytest.raises(UserError, match="NOT_SET_HERE"):
        plan("$NOT_SET_HERE/a.txt")
    pointer = tmp_path / "a.jsonl.gz"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    with pytest.raises(UserError) as error:
        plan(pointer)
    assert "Git LFS pointer" in error.value.what
    assert error.value.where == str(pointer)
    assert "git lfs pull" in error.value.fix


def test_a_file_that_may_not_be_read_is_a_user_error(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("x")
    shard = plan(file)[0]
    file.unlink()
    from tasks.data.read.reader import read_rows

    with pytest.raises(UserError, match="No such file") as error:
        list(read_rows(shard))
    assert error.value.where == str(file)
