"""Equal digests are found across parts, in any number of passes, as a plain dictionary would find them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data.split import duplicates
from tasks.data.split.duplicates import first_occurrences, occur_in, read_digests, sort_digests


def write_parts(folder: Path, digests: list[list[bytes]]) -> list[Path]:
    paths = []
    for number, rows in enumerate(digests):
        paths.append(folder / f"{number}.parquet")
        pq.write_table(pa.table({"digest": pa.array(rows, pa.binary(16))}), paths[-1], row_group_size=7)
    return paths


def random_digests(seed: int, parts: int = 4) -> list[list[bytes]]:
    """Few distinct values, some that agree in one of their two halves only."""
    rng = np.random.default_rng(seed)
    halves = [int(half).to_bytes(8, "little") for half in rng.integers(0, 2**63, 4)]
    known = [a + b for a in halves for b in halves]
    return [[known[i] for i in rng.integers(0, len(known), rng.integers(0, 30))] for _ in range(parts)]


@pytest.mark.parametrize("rows_per_pass", [1_000_000, 11, 3])
@pytest.mark.parametrize("seed", range(4))
def test_first_occurrences_are_those_a_dictionary_finds(tmp_path, monkeypatch, seed, rows_per_pass):
    monkeypatch.setattr(duplicates, "ROWS_PER_PASS", rows_per_pass)
    digests = random_digests(seed)
    parts = write_parts(tmp_path, digests)
    seen: set[bytes] = set()
    expected = [[not (digest in seen or seen.add(digest)) for digest in rows] for rows in digests]
    found = first_occurrences(parts, sum(map(len, digests)))
    assert [mask.tolist() for mask in found] == expected


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_occur_in_other_parts_are_found(tmp_path, seed):
    digests = random_digests(seed, parts=3)
    parts = write_parts(tmp_path, digests)
    known = sort_digests(parts[:1])
    for part, rows in zip(parts, digests, strict=True):
        assert occur_in(part, known).tolist() == [digest in set(digests[0]) for digest in rows]


def test_one_changed_bit_anywhere_is_another_digest(tmp_path):
    rng = np.random.default_rng(0)
    digest = rng.bytes(16)
    changed = [
        bytes(b ^ (1 << bit) * (i == place) for i, b in enumerate(digest))
        for place in range(16)
        for bit in (0, 7)
    ]
    original, others = write_parts(tmp_path, [[digest], changed])
    assert not occur_in(others, sort_digests([original])).any()
    assert all(mask.all() for mask in first_occurrences([original, others], 1 + len(changed)))


def test_without_suites_nothing_is_leaked(tmp_path):
    (part,) = write_parts(tmp_path, [[b"x" * 16, b"y" * 16]])
    assert not occur_in(part, sort_digests([])).any()
    assert first_occurrences([], 0) == []


def test_digests_survive_row_groups_and_empty_parts(tmp_path):
    rng = np.random.default_rng(1)
    rows = [rng.bytes(16) for _ in range(50)]
    part, empty = write_parts(tmp_path, [rows, []])
    assert read_digests(part).tobytes() == b"".join(rows)
    assert read_digests(empty).shape == (0, 2)
