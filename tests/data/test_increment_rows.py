"""Rows of an increment: what is new, what is replayed and scored of earlier ones, and how often."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import NoNewData, UserError
from schemas.spec.increments import Increment, PastRows, PickedSource
from schemas.spec.run import RunSpec
from tasks.data.plan.past_rows import require_new_rows, weigh_past
from tasks.data.prepare import Prepared
from tasks.data.split.consumed import load_rows, rows_file, save_rows
from tasks.data.split.divide import Fate, load_fates
from tests.corpora import made_corpus, made_source, make_spec, prepare_rows, source, write_rows


def texts(name: str, start: int, stop: int) -> list[str]:
    return [f"{name} sentence number {i} stands here for itself" for i in range(start, stop)]


def picked(*files: Path) -> PickedSource:
    return PickedSource(
        path=str(files[0].parent / "*.jsonl"), contract="general_text", files=tuple(map(str, files))
    )


def spec_of(folder: Path, **increment: Any) -> RunSpec:
    write_rows(folder / "general.jsonl", texts("general", 0, 30))
    spec = make_spec(
        domain=[source(folder / "new" / "*.jsonl")],
        evaluation={"domain_holdout": 0.3, "general": [source(folder / "general.jsonl")]},
        increments={},
    )
    now = Increment(number=2, original="assets/base", **increment)
    return RunSpec.model_validate({**spec.model_dump(), "increment": now})


def fates_of(prepared: Prepared, label: str) -> list[int]:
    (found,) = (s for s in prepared.sources if s.label == label)
    return np.concatenate(load_fates(prepared.divided, found)).tolist()


@pytest.fixture
def after_first(tmp_path: Path) -> tuple[Path, RunSpec, Prepared, PastRows]:
    """A first increment of 40 rows in one file."""
    file = write_rows(tmp_path / "new" / "1.jsonl", texts("first", 0, 40))
    spec = spec_of(tmp_path, new=(picked(file),))
    prepared = prepare_rows(tmp_path / "state", spec)
    parts = [part for s in prepared.sources if s.role == "domain" for part in s.parts]
    sha256, number = save_rows(tmp_path / "state", parts, load_rows(tmp_path / "state", []))
    assert number == 40
    return file, spec, prepared, PastRows(number=1, rows=sha256)


def test_of_a_changed_file_only_the_rows_not_consumed_before_are_new(
    tmp_path: Path, after_first: tuple[Path, RunSpec, Prepared, PastRows]
) -> None:
    file, _, before, rows = after_first
    write_rows(file, texts("first", 0, 50))
    spec = spec_of(tmp_path, new=(picked(file),), past=(picked(file),), remembered=(rows,), consumed=(rows,))
    prepared = prepare_rows(tmp_path / "state", spec)
    new, past = fates_of(prepared, "domain-0"), fates_of(prepared, "replay-0")
    assert set(new[:40]) == {Fate.DUPLICATE}
    assert set(new[40:]) <= {Fate.ACCEPTED, Fate.HELD_OUT}
    assert past[:40] == fates_of(before, "domain-0"), (
        "what was trained on is trained on, what was scored is scored"
    )
    assert set(past[40:]) == {Fate.DUPLICATE}
    assert all(ledger.read == ledger.placed for ledger in prepared.ledger.files)


def test_a_new_file_with_old_rows_among_new_ones_gives_the_new_ones(
    tmp_path: Path, after_first: tuple[Path, RunSpec, Prepared, PastRows]
) -> None:
    file, _, _, rows = after_first
    late = write_rows(tmp_path / "new" / "0-late.jsonl", texts("first", 35, 45))
    spec = spec_of(tmp_path, new=(picked(late),), past=(picked(file),), remembered=(rows,), consumed=(rows,))
    assert [
        fate == Fate.DUPLICATE for fate in fates_of(prepare_rows(tmp_path / "state", spec), "domain-0")
    ] == ([True] * 5 + [False] * 5)


def test_rows_of_a_rejected_increment_are_neither_new_nor_replayed(
    tmp_path: Path, after_first: tuple[Path, RunSpec, Prepared, PastRows]
) -> None:
    file, _, _, rows = after_first
    write_rows(file, texts("first", 0, 50))
    spec = spec_of(tmp_path, new=(picked(file),), consumed=(rows,))
    prepared = prepare_rows(tmp_path / "state", spec)
    assert [s.label for s in prepared.sources] == ["domain-0", "general_suite-0"]
    assert set(fates_of(prepared, "domain-0")[:40]) == {Fate.DUPLICATE}


def test_the_rows_an_increment_consumes_are_those_that_none_before_had(
    tmp_path: Path, after_first: tuple[Path, RunSpec, Prepared, PastRows]
) -> None:
    file, _, _, rows = after_first
    write_rows(file, texts("first", 0, 50))
    spec = spec_of(tmp_path, new=(picked(file),), past=(picked(file),), remembered=(rows,), consumed=(rows,))
    state = tmp_path / "state"
    parts = [part for s in prepare_rows(state, spec).sources if s.role == "domain" for part in s.parts]
    second, number = save_rows(state, parts, load_rows(state, [rows]))
    assert number == 10
    both = load_rows(state, [rows, PastRows(number=2, rows=second)])
    assert len(both) == 50


def test_a_list_of_rows_that_was_removed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the list of rows of an earlier increment is gone") as error:
        load_rows(tmp_path, [PastRows(number=1, rows="f" * 64)])
    assert error.value.where == str(rows_file(tmp_path, "f" * 64))


def weighed(spec: RunSpec, general: int, past: int) -> tuple[RunSpec, dict[str, float]]:
    sources = [made_source("domain", 0), made_source("replay", 0, 3), made_source("replay", 1)]
    sources = (
        [*sources[:2], *([] if not past else [_past(sources[2])])]
        if general
        else [sources[0], _past(sources[2])]
    )
    sizes = {"domain-0": 1000, "replay-0": general, "replay-1": past}
    corpora = [made_corpus(n, np.full(sizes[s.label] // 10, 11)) for n, s in enumerate(sources)]
    now, found = weigh_past(spec, sources, corpora)
    return now, {s.label: s.source.weight for s in found if s.role == "replay"}


def _past(made: Any) -> Any:
    from dataclasses import replace

    return replace(made, past=True)


def increment_spec(**increments: float) -> RunSpec:
    spec = make_spec(
        replay=[source("g")], mixture={"replay_ratio": 0.5}, increments=increments,
        training={"tokens": 2000, "epochs": None},
    )  # fmt: skip
    one = Increment(number=2, original="b", new=(picked(Path("a")),))
    return RunSpec.model_validate({**spec.model_dump(), "increment": one})


def test_earlier_increments_get_their_share_of_the_replay_tokens() -> None:
    spec, weights = weighed(increment_spec(past_ratio=0.3), general=5000, past=1000)
    assert weights == pytest.approx({"replay-0": 0.7, "replay-1": 0.3})
    assert spec.mixture.replay_ratio == 0.5


def test_the_past_is_repeated_at_most_so_often_and_general_text_gives_the_rest() -> None:
    """1000 replay tokens, half of them wanted from 100 tokens of the past, at most twice: 200."""
    _, weights = weighed(increment_spec(past_ratio=0.5, max_repetitions=2), general=5000, past=100)
    assert weights == pytest.approx({"replay-0": 0.8, "replay-1": 0.2})


def test_without_general_text_what_the_past_cannot_give_is_domain() -> None:
    """1000 replay tokens of 2000 wanted, 100 tokens of the past at most 4 times: 400 of 2000."""
    spec, weights = weighed(increment_spec(max_repetitions=4), general=0, past=100)
    assert weights == {"replay-1": 1.0}
    assert spec.mixture.replay_ratio == pytest.approx(0.2)


def test_a_past_without_a_training_row_leaves_all_to_general_text() -> None:
    _, weights = weighed(increment_spec(past_ratio=0.5), general=5000, past=0)
    assert weights == {"replay-0": 1.0}


def test_of_other_runs_no_weight_is_changed() -> None:
    sources = [made_source("domain", 0), made_source("replay", 0, 3)]
    assert weigh_past(make_spec(), sources, [])[1] is sources


def test_files_without_a_new_row_are_no_new_data() -> None:
    sources = [made_source("domain", 0), made_source("domain", 1)]
    empty, some = made_corpus(0, np.zeros(0)), made_corpus(1, np.array([5]), parts=1)
    require_new_rows(sources, [empty, some])
    with pytest.raises(NoNewData, match="no row to train on that is new"):
        require_new_rows(sources, [empty, empty])
