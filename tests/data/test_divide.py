"""Every row has exactly one fate; what is scored is never trained; groups stay together."""

import functools
import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from schemas.errors import LedgerImbalance
from tasks.data.read.shards import plan_shards
from tasks.data.split.divide import Fate, build_ledger, load_fates, load_ledger
from tasks.data.validate import file_steps as reading
from tasks.storage.workers import map_in_processes
from tests.corpora import here, make_spec, prepare_rows, source, write_rows

WORDS = ["river", "stone", "café", "cafe\u0301", "北方", "lamp", "quiet", "seven"]
NOT_ROWS = ["", "{not json", '{"text": 5}', '{"text": "  "}', '{"other": "x"}', '{"text": "nul \\u0000"}']


def random_rows(rng: np.random.Generator, count: int) -> list[str]:
    """Lines of jsonl: texts that often repeat (up to white space and composition), topics, and broken rows."""
    lines = []
    for _ in range(count):
        if rng.random() < 0.1:
            lines.append(NOT_ROWS[rng.integers(len(NOT_ROWS))])
            continue
        space = ["  ", " ", "\t"][rng.integers(3)]
        text = space.join(WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, 4)))
        topic = [None, "a", "b", "c", 7, "7"][rng.integers(6)]
        lines.append(json.dumps({"text": text, "topic": topic}))
    return lines


def make_corpus(folder: Path, seed: int) -> dict[str, list[dict]]:
    """Random files for all four roles; the specification's sections that name them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("domain-a", "domain-b", "other", "replay", "general"):
        lines = random_rows(rng, 4 if name == "general" else 150)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "domain": [source(folder / "domain-*.jsonl", group="topic"), source(folder / "other.jsonl")],
        "replay": [source(folder / "replay.jsonl")],
        "evaluation": {"domain_holdout": 0.4, "general": [source(folder / "general.jsonl")]},
        "mixture": {"replay_ratio": 0.2},
    }


def rows_with_fates(prepared) -> list[tuple[str, str, int, str, str | None, Fate]]:
    """(label, file, line, text, group, fate) of every validated row, in order."""
    rows = []
    for prepared_source in prepared.sources:
        for part, fates in zip(
            prepared_source.parts, load_fates(prepared.divided, prepared_source), strict=True
        ):
            table = pq.read_table(part).to_pylist()
            assert len(table) == len(fates)
            rows += [
                (prepared_source.label, row["file"], row["line"], row["text"], row["group"], Fate(fate))
                for row, fate in zip(table, fates, strict=True)
            ]
    return rows


def normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


@pytest.mark.parametrize("seed", range(8))
def test_every_row_of_a_random_corpus_is_in_exactly_one_place(tmp_path, seed):
    prepared = prepare_rows(tmp_path / "state", make_spec(**make_corpus(tmp_path / "data", seed)))
    ledger = load_ledger(prepared.divided).require_balance()
    fates = Counter((label, file, fate) for label, file, _, _, _, fate in rows_with_fates(prepared))
    assert len(ledger.files) == 5
    for file in ledger.files:
        lines = Path(file.file).read_text(encoding="utf-8").splitlines()
        assert file.read == sum(1 for line in lines if line), "blank lines are not rows"
        counted = [fates[f"{file.role}-{file.source}", file.file, fate] for fate in Fate]
        assert counted == [file.accepted, file.duplicate, file.leaked, file.held_out]
        assert file.quarantined == file.read - sum(counted)


@pytest.mark.parametrize("seed", range(8))
def test_fates_are_those_a_plain_reading_gives(tmp_path, seed):
    prepared = prepare_rows(tmp_path / "state", make_spec(**make_corpus(tmp_path / "data", seed)))
    rows = rows_with_fates(prepared)
    scored = {normal(text) for label, _, _, text, _, _ in rows if label.startswith("general_suite")}
    seen: set[str] = set()
    found = Counter()
    for label, _, _, text, _, fate in rows:
        if label.startswith("general_suite"):
            continue
        key = normal(text)
        if key in seen:
            assert fate == Fate.DUPLICATE
        elif key in scored:
            assert fate == Fate.LEAKED
        elif label.startswith("replay"):
            assert fate == Fate.ACCEPTED
        else:
            assert fate in (Fate.ACCEPTED, Fate.HELD_OUT)
        seen.add(key)
        found[fate] += 1
    assert min(found[fate] for fate in Fate) > 0, "the corpus does not show every fate"


@pytest.mark.parametrize("seed", range(8))
def test_a_group_is_never_in_two_splits(tmp_path, seed):
    prepared = prepare_rows(tmp_path / "state", make_spec(**make_corpus(tmp_path / "data", seed)))
    sides: dict[str, set[Fate]] = {}
    for label, _, _, text, group, fate in rows_with_fates(prepared):
        if label.startswith("domain-") and fate in (Fate.ACCEPTED, Fate.HELD_OUT):
            sides.setdefault(group if group is not None else f"text {normal(text)}", set()).add(fate)
    assert all(len(fates) == 1 for fates in sides.values())
    assert {fate for fates in sides.values() for fate in fates} == {Fate.ACCEPTED, Fate.HELD_OUT}


@pytest.mark.parametrize("seed", range(4))
def test_no_text_is_both_trained_and_scored(tmp_path, seed):
    prepared = prepare_rows(tmp_path / "state", make_spec(**make_corpus(tmp_path / "data", seed)))
    rows = rows_with_fates(prepared)
    trained = [normal(r[3]) for r in rows if r[5] == Fate.ACCEPTED and not r[0].startswith("general")]
    scored = {normal(r[3]) for r in rows if r[5] == Fate.HELD_OUT or r[0].startswith("general")}
    assert not scored & set(trained)
    assert len(trained) == len(set(trained))


def test_a_row_in_domain_and_replay_is_kept_once_as_domain(tmp_path):
    write_rows(tmp_path / "d.jsonl", ["both", "domain only"])
    write_rows(tmp_path / "r.jsonl", ["replay only", "both"])
    write_rows(tmp_path / "g.jsonl", ["scored"])
    spec = make_spec(
        domain=[source(tmp_path / "d.jsonl")],
        replay=[source(tmp_path / "r.jsonl")],
        mixture={"replay_ratio": 0.5},
        evaluation={"domain_holdout": 1e-9, "general": [source(tmp_path / "g.jsonl")]},
    )
    prepared = prepare_rows(tmp_path / "state", spec)
    assert [(row[3], row[5]) for row in rows_with_fates(prepared)] == [
        ("both", Fate.ACCEPTED),
        ("domain only", Fate.ACCEPTED),
        ("replay only", Fate.ACCEPTED),
        ("both", Fate.DUPLICATE),
        ("scored", Fate.ACCEPTED),
    ]


def test_a_text_in_two_sources_of_the_domain_suite_is_scored_once_and_in_two_suites_twice(tmp_path):
    for name in ("d", "e1", "e2", "g1", "g2"):
        write_rows(tmp_path / f"{name}.jsonl", ["shared", f"{name} only"])
    spec = make_spec(
        domain=[source(tmp_path / "d.jsonl")],
        evaluation={
            "domain": [source(tmp_path / "e1.jsonl"), source(tmp_path / "e2.jsonl")],
            "general": [source(tmp_path / "g1.jsonl"), source(tmp_path / "g2.jsonl")],
        },
    )
    fates = {(r[0], r[3]): r[5] for r in rows_with_fates(prepare_rows(tmp_path / "state", spec))}
    assert fates["domain-0", "shared"] == Fate.LEAKED
    assert fates["domain_suite-0", "shared"] == Fate.ACCEPTED
    assert fates["domain_suite-1", "shared"] == Fate.DUPLICATE
    assert fates["general_suite-0", "shared"] == fates["general_suite-1", "shared"] == Fate.ACCEPTED


def fates_by_text(prepared) -> dict[str, Fate]:
    """Fate of the kept copy of every training text."""
    rows = [r for r in rows_with_fates(prepared) if not r[0].startswith("general_suite")]
    return {r[3]: r[5] for r in rows if r[5] != Fate.DUPLICATE}


def split_spec(folder: Path, seed: int = 17):
    return make_spec(
        domain=[source(folder / "*.jsonl", group="topic")],
        evaluation={"domain_holdout": 0.4, "general": [source(folder / "general" / "g.jsonl")]},
        training={"seed": seed},
    )


def write_split(folder: Path, names: list[str], count: int = 120) -> None:
    rows = [{"text": f"text {n}", "topic": f"t{n % 40}" if n % 3 else None} for n in range(count)]
    for index, name in enumerate(names):
        write_rows(folder / f"{name}.jsonl", rows[index :: len(names)])
    write_rows(folder / "general" / "g.jsonl", ["text 5", "scored"])


def test_the_split_does_not_depend_on_names_or_order_of_files(tmp_path):
    splits = []
    for number, names in enumerate((["a", "b", "c"], ["c", "b", "a"], ["only"])):
        write_split(tmp_path / str(number), names)
        splits.append(fates_by_text(prepare_rows(tmp_path / "state", split_spec(tmp_path / str(number)))))
    assert splits[0] == splits[1] == splits[2]
    assert set(splits[0].values()) == {Fate.ACCEPTED, Fate.HELD_OUT, Fate.LEAKED}


@pytest.mark.parametrize("shard_bytes", [200, 1500])
def test_the_split_does_not_depend_on_the_number_of_shards(tmp_path, monkeypatch, shard_bytes):
    write_split(tmp_path / "data", ["a", "b"])
    spec = split_spec(tmp_path / "data")
    whole = prepare_rows(tmp_path / "one", spec)
    small = functools.partial(plan_shards, shard_bytes=shard_bytes)
    monkeypatch.setattr(reading, "plan_shards", small)
    cut = prepare_rows(tmp_path / "many", spec)
    assert len(cut.sources[0].parts) > len(whole.sources[0].parts)
    assert rows_with_fates(cut) == rows_with_fates(whole)
    assert cut.ledger == whole.ledger


def test_the_split_does_not_depend_on_the_number_of_workers(tmp_path, workers_for_few):
    write_split(tmp_path / "data", ["a", "b", "c"])
    spec = split_spec(tmp_path / "data")
    alone = prepare_rows(tmp_path / "one", spec, here)
    together = prepare_rows(tmp_path / "two", spec, map_in_processes)
    for first, second in zip(
        (alone.divided, *(s.validated for s in alone.sources)),
        (together.divided, *(s.validated for s in together.sources)),
        strict=True,
    ):
        assert first.manifest == second.manifest


def test_another_seed_holds_out_other_groups(tmp_path):
    write_split(tmp_path / "data", ["a"])
    splits = [
        fates_by_text(prepare_rows(tmp_path / "state", split_spec(tmp_path / "data", seed)))
        for seed in (1, 2)
    ]
    assert splits[0] != splits[1]
    assert splits[0].keys() == splits[1].keys()


def test_about_the_share_asked_for_is_held_out(tmp_path):
    write_rows(tmp_path / "a.jsonl", [f"text {n}" for n in range(3000)])
    write_rows(tmp_path / "g.jsonl", ["scored"])
    for share in (0.05, 0.5, 0.9):
        spec = make_spec(
            domain=[source(tmp_path / "a.jsonl")],
            evaluation={"domain_holdout": share, "general": [source(tmp_path / "g.jsonl")]},
        )
        held_out = prepare_rows(tmp_path / "state", spec).ledger.total.held_out
        assert abs(held_out / 3000 - share) < 4 * (share * (1 - share) / 3000) ** 0.5


def test_a_lost_row_stops_the_run(tmp_path):
    write_split(tmp_path / "data", ["a"])
    prepared = prepare_rows(tmp_path / "state", split_spec(tmp_path / "data"))
    fates = {s.label: load_fates(prepared.divided, s) for s in prepared.sources}
    ledger = build_ledger(prepared.sources, fates)
    lost = ledger.files[0].model_copy(update={"accepted": ledger.files[0].accepted - 1})
    with pytest.raises(LedgerImbalance, match=r"a\.jsonl"):
        ledger.model_copy(update={"files": (lost, *ledger.files[1:])}).require_balance()
