"""Which increment is due: a pure function of specification, watermark, champion and files."""

from typing import Any

import pytest

from schemas.errors import NoNewData, UserError
from schemas.results.watermark import IncrementRecord, Watermark
from schemas.spec.run import RunSpec
from tasks.release.increments.resolve import resolve
from tests.corpora import make_spec, source

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
ROWS = "e" * 64


def growing(**keys: Any) -> RunSpec:
    return make_spec(
        domain=[source("new/*.txt"), source("late/*.txt")],
        replay=[source("prose.txt")],
        mixture={"replay_ratio": 0.25},
        **{"increments": {}, **keys},
    )


def record(
    number: int, files: dict[str, str], parent: int | None, verdict: str = "promote"
) -> IncrementRecord:
    return IncrementRecord(
        number=number, run=f"run-{number}", parent=None if parent is None else f"run-{parent}", verdict=verdict,
        files=files, rows=str(number) * 64, num_rows=5, seed=17, holdout=0.2, unit="nats per token",
        scores={}, before={}, base={}, suites={},
    )  # fmt: skip


def marked(*records: IncrementRecord) -> Watermark:
    return Watermark(name="test", records=records)


def new_files(spec: RunSpec) -> list[str]:
    assert spec.increment is not None
    return [file for picked in spec.increment.new for file in picked.files]


def past_files(spec: RunSpec) -> list[str]:
    assert spec.increment is not None
    return [file for picked in spec.increment.past for file in picked.files]


def test_the_first_increment_is_everything_and_starts_from_the_base() -> None:
    now = resolve(growing(), marked(), None, [{"new/1.txt": A, "new/2.txt": B}, {}])
    assert now.increment is not None
    assert (now.increment.number, now.base, now.base_from) == (1, "assets/base", None)
    assert new_files(now) == ["new/1.txt", "new/2.txt"]
    assert now.increment.past == now.increment.remembered == now.increment.consumed == ()


def test_the_next_one_is_what_is_new_and_goes_on_from_the_champion() -> None:
    known = marked(record(1, {"new/1.txt": A}, None))
    now = resolve(growing(), known, "run-1", [{"new/1.txt": A, "new/2.txt": B}, {}])
    assert now.increment is not None
    assert (now.increment.number, now.base, now.base_from) == (2, None, "champion")
    assert (now.increment.original, now.increment.parent) == ("assets/base", "run-1")
    assert (new_files(now), past_files(now)) == (["new/2.txt"], ["new/1.txt"])
    assert [past.number for past in now.increment.remembered] == [1]


def test_by_choice_each_candidate_starts_from_the_base() -> None:
    known = marked(record(1, {"new/1.txt": A}, None))
    now = resolve(growing(increments={"start": "base"}), known, "run-1", [{"new/2.txt": B}, {}])
    assert (now.base, now.base_from) == ("assets/base", None)


def test_the_same_state_of_things_resolves_to_the_same_specification() -> None:
    known = marked(record(1, {"new/1.txt": A}, None))
    found = [{"new/2.txt": B, "new/1.txt": A}, {}]
    backwards = [dict(reversed(found[0].items())), {}]
    assert resolve(growing(), known, "run-1", found) == resolve(growing(), known, "run-1", backwards)


def test_nothing_new_is_said_with_the_number_of_files() -> None:
    known = marked(record(1, {"new/1.txt": A, "new/2.txt": B}, None))
    with pytest.raises(NoNewData, match="all 2 files were decided on before") as nothing:
        resolve(growing(), known, "run-1", [{"new/1.txt": A, "new/2.txt": B}, {}])
    assert nothing.value.exit_code == 0


def test_a_late_file_is_new_whatever_its_name_and_a_renamed_one_is_not() -> None:
    known = marked(record(1, {"new/2.txt": A}, None))
    now = resolve(growing(), known, "run-1", [{"new/renamed.txt": A}, {"late/0.txt": B}])
    assert new_files(now) == ["late/0.txt"]
    assert past_files(now) == ["new/renamed.txt"]
    assert now.increment is not None
    assert now.increment.gone == ()


def test_a_changed_file_is_both_new_and_past_so_that_its_rows_decide() -> None:
    known = marked(record(1, {"new/1.txt": A}, None))
    now = resolve(growing(), known, "run-1", [{"new/1.txt": B}, {}])
    assert (new_files(now), past_files(now)) == (["new/1.txt"], ["new/1.txt"])


def test_a_file_that_was_changed_and_then_renamed_is_still_past() -> None:
    known = marked(record(1, {"new/1.txt": A}, None), record(2, {"new/1.txt": B}, 1, "reject"))
    now = resolve(growing(), known, "run-1", [{"archive/1.txt": B, "new/3.txt": C}, {}])
    assert (new_files(now), past_files(now)) == (["new/3.txt"], ["archive/1.txt"])


def test_a_deleted_file_is_named_and_not_replayed() -> None:
    known = marked(record(1, {"new/1.txt": A, "new/2.txt": B}, None))
    now = resolve(growing(), known, "run-1", [{"new/1.txt": A, "new/3.txt": C}, {}])
    assert now.increment is not None
    assert now.increment.gone == ("new/2.txt",)
    assert past_files(now) == ["new/1.txt"]


def test_what_was_rejected_is_consumed_but_neither_replayed_nor_scored() -> None:
    known = marked(record(1, {"new/1.txt": A}, None), record(2, {"new/2.txt": B}, 1, "reject"))
    now = resolve(growing(), known, "run-1", [{"new/1.txt": A, "new/2.txt": B, "new/3.txt": C}, {}])
    assert now.increment is not None
    assert (new_files(now), past_files(now)) == (["new/3.txt"], ["new/1.txt"])
    assert [past.number for past in now.increment.consumed] == [1, 2]
    assert [past.number for past in now.increment.remembered] == [1]


def test_after_a_rollback_the_restored_champion_goes_on_without_what_was_rolled_back() -> None:
    known = marked(record(1, {"new/1.txt": A}, None), record(2, {"new/2.txt": B}, 1))
    with pytest.raises(NoNewData):  # the same data would give the same model again
        resolve(growing(), known, "run-1", [{"new/1.txt": A, "new/2.txt": B}, {}])
    now = resolve(growing(), known, "run-1", [{"new/1.txt": A, "new/2.txt": B, "new/3.txt": C}, {}])
    assert now.increment is not None
    assert (now.increment.number, now.increment.parent) == (3, "run-1")
    assert (new_files(now), past_files(now)) == (["new/3.txt"], ["new/1.txt"])


def test_a_second_rollback_remembers_again_what_the_first_had_dropped() -> None:
    known = marked(record(1, {"new/1.txt": A}, None), record(2, {"new/2.txt": B}, 1))
    now = resolve(growing(), known, "run-2", [{"new/1.txt": A, "new/2.txt": B, "new/3.txt": C}, {}])
    assert past_files(now) == ["new/1.txt", "new/2.txt"]


def test_offered_again_is_all_that_the_champion_has_not_learned() -> None:
    known = marked(
        record(1, {"new/1.txt": A}, None),
        record(2, {"new/2.txt": B}, 1, "reject"),
        record(3, {"new/3.txt": C}, 1),
    )
    now = resolve(
        growing(), known, "run-1", [{"new/1.txt": A, "new/2.txt": B, "new/3.txt": C}, {}], again=True
    )
    assert new_files(now) == ["new/2.txt", "new/3.txt"]
    assert now.increment is not None
    assert [past.number for past in now.increment.consumed] == [1]


def test_only_the_latest_increments_are_remembered() -> None:
    known = marked(
        record(1, {"new/1.txt": A}, None), record(2, {"new/2.txt": B}, 1), record(3, {"new/3.txt": C}, 2)
    )
    found = [{"new/1.txt": A, "new/2.txt": B, "new/3.txt": C, "new/4.txt": D}, {}]
    now = resolve(growing(increments={"remembered": 2}), known, "run-3", found)
    assert now.increment is not None
    assert [past.number for past in now.increment.remembered] == [2, 3]
    assert past_files(now) == ["new/2.txt", "new/3.txt"]
    assert [past.number for past in now.increment.consumed] == [1, 2, 3]


@pytest.mark.parametrize(
    "changed", [{"training": {"seed": 3}}, {"evaluation": {"domain_holdout": 0.3, "general": [source("g")]}}]
)
def test_a_split_that_was_changed_is_refused(changed: dict[str, Any]) -> None:
    known = marked(record(1, {"new/1.txt": A}, None))
    with pytest.raises(UserError, match="the split was changed after increment 1") as error:
        resolve(growing(**changed), known, "run-1", [{"new/2.txt": B}, {}])
    assert error.value.where == "training.seed, evaluation.domain_holdout"
    assert "write seed 17 and domain_holdout 0.2 again" in error.value.fix


def test_without_general_text_the_first_increment_has_no_replay_and_later_ones_replay_the_past() -> None:
    spec = make_spec(domain=[source("new/*.txt")], mixture={"replay_ratio": 0.25}, increments={})
    first = resolve(spec, marked(), None, [{"new/1.txt": A}])
    later = resolve(
        spec, marked(record(1, {"new/1.txt": A}, None)), "run-1", [{"new/1.txt": A, "new/2.txt": B}]
    )
    assert (first.mixture.replay_ratio, later.mixture.replay_ratio) == (0.0, 0.25)


def test_the_specification_of_an_increment_can_be_read_back() -> None:
    known = marked(record(1, {"new/1.txt": A}, None))
    now = resolve(growing(), known, "run-1", [{"new/1.txt": A, "new/2.txt": B}, {}])
    assert RunSpec.model_validate_json(now.model_dump_json(exclude_none=True)) == now


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"base": {"from_scratch": {}}, "evaluation": {"domain_holdout": 0.2}}, "give base a folder or a Hub id"),
        ({"base": None, "base_from": "champion"}, "give base a folder or a Hub id"),
        ({"evaluation": {"domain": [source("d.txt")], "general": [source("g.txt")]}}, "give domain_holdout instead"),
        ({"increments": None, "increment": {"number": 1, "original": "b", "new": [source("a", files=["a"])]}}, "written by Rootstock"),
    ],
)  # fmt: skip
def test_what_increments_cannot_work_with_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        growing(**keys)
