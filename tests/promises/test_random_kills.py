"""Promise 5, of what is worked out on the way: the base's own text, the ratio of a budget, the Fisher information."""

import random
from pathlib import Path

import pytest

from tests.promises.random_kills import compare


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_works_out_its_specification_ends_alike_after_kills(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)  # other instants every time
    print("seed", seed)
    landed = compare(tmp_path, kills=4, seed=seed)
    assert len(landed) == 4, landed
