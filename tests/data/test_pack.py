"""Best-fit decreasing: nothing lost, nothing too long, at least as dense as first fit."""

import numpy as np
import pytest

from tasks.data.plan import pack
from tasks.data.plan.pack import pack_best_fit


def first_fit(lengths: np.ndarray, capacity: int) -> int:
    """Sequences that first fit needs, in the order given."""
    rooms: list[int] = []
    for length in lengths.tolist():
        for index, room in enumerate(rooms):
            if room >= length:
                rooms[index] -= length
                break
        else:
            rooms.append(capacity - length)
    return len(rooms)


def random_lengths(seed: int, capacity: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = rng.integers(4)
    if shape == 0:
        lengths = rng.integers(1, capacity + 1, 300)
    elif shape == 1:
        lengths = rng.lognormal(np.log(capacity / 8), 1, 300)
    elif shape == 2:
        lengths = rng.choice([1, 2, capacity // 3, capacity // 2, capacity // 2 + 1, capacity], 300)
    else:
        lengths = rng.integers(1, max(2, capacity // 10), 300)
    return np.clip(lengths, 1, capacity).astype(np.int64)


@pytest.mark.parametrize("capacity", [8, 31, 256, 4096])
@pytest.mark.parametrize("seed", range(8))
def test_every_piece_is_placed_once_and_no_sequence_overflows(seed, capacity):
    lengths = random_lengths(seed, capacity)
    packs = pack_best_fit(lengths, capacity)
    assert sorted(index for members in packs for index in members) == list(range(len(lengths)))
    assert max(int(lengths[members].sum()) for members in packs) <= capacity
    assert all(packs)


@pytest.mark.parametrize("seed", range(24))
def test_best_fit_decreasing_needs_no_more_sequences_than_first_fit(seed):
    lengths = random_lengths(seed, 128)
    assert len(pack_best_fit(lengths, 128)) <= first_fit(lengths, 128)


def test_each_piece_goes_where_the_least_room_is_left():
    lengths = np.array([60, 70, 30, 25])  # 70 + 30 = 100 is tighter than 60 + 30, then 60 + 25
    assert sorted(map(sorted, pack_best_fit(lengths, 100))) == [[0, 3], [1, 2]]


def test_windows_bound_memory_and_lose_nothing(monkeypatch):
    monkeypatch.setattr(pack, "PIECES_PER_WINDOW", 37)
    lengths = random_lengths(1, 64)
    packs = pack_best_fit(lengths, 64)
    assert sorted(index for members in packs for index in members) == list(range(len(lengths)))
    assert max(int(lengths[members].sum()) for members in packs) <= 64
    assert all(max(members) // 37 == min(members) // 37 for members in packs)


def test_nothing_packs_into_nothing():
    assert pack_best_fit(np.zeros(0, np.int64), 16) == []
