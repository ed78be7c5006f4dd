"""Suites hold exactly the rows that were kept for them, and each model is scored once per content."""

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.spec.increments import Increments
from tasks.data.plan.plan import plan_training
from tasks.data.prepare import Tokenized
from tasks.data.split.divide import Fate, load_fates
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tasks.evaluation.scoring.loss import score_documents
from tasks.evaluation.scoring.score_model import assemble_scores, score_model
from tasks.evaluation.suites.build import build_development, build_suites, suite_names
from tasks.training.models.load import load_model
from tests.corpora import here, make_spec, prepare_rows, source, write_rows
from tests.tiny_base import make_base, prose


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    english, chinese = prose("en_*"), prose("zh_*")
    rows = [{"text": text[:400], "topic": f"t{n // 3}"} for n, text in enumerate(english[:90])]
    write_rows(folder / "domain.jsonl", rows)
    write_rows(folder / "a.jsonl", [*chinese[:9], chinese[0]])
    write_rows(folder / "model.jsonl", chinese[9:15])
    write_rows(folder / "e1.jsonl", english[90:95])
    write_rows(folder / "e2.jsonl", english[93:99])
    return folder


def spec_of(files, evaluation=None, **training):
    general = [source(files / "a.jsonl"), source(files / "model.jsonl")]
    return make_spec(
        domain=[source(files / "domain.jsonl", group="topic")],
        evaluation={"domain_holdout": 0.3, "general": general, **(evaluation or {})},
        training={"steps": 3, "sequence_length": 64, **training},
    )


def build(root, spec, base, turn=None):
    prepared, tokenized = laid_out(root, spec, base)
    return prepared, build_suites(spec, prepared, tokenized, turn)


def laid_out(root, spec, base):
    prepared = prepare_rows(root, spec)
    special = special_ids(base)
    steps = {s.label: tokenize_source(root, s, base, here) for s in prepared.sources}
    training = [steps[s.label] for s in prepared.training]
    plan = plan_training(root, spec, prepared.training, training, prepared.divided, special)
    return prepared, Tokenized(special, steps, plan)


def test_the_domain_suite_is_what_was_held_out_with_its_groups(files, base, tmp_path):
    prepared, suites = build(tmp_path, spec_of(files), base)
    (fates,) = load_fates(prepared.divided, prepared.sources[0])
    held_out = np.flatnonzero(fates == Fate.HELD_OUT)
    assert [suite.name for suite in suites] == ["domain", "a", "model"]
    assert [item.id for item in suites[0].items] == [
        f"{files / 'domain.jsonl'}:{row + 1}" for row in held_out
    ]
    assert [item.group for item in suites[0].items] == [f"group:t{row // 3}" for row in held_out]
    special = special_ids(base)
    for item in suites[0].items:
        assert (item.input_ids[0], item.input_ids[-1]) == (special.bos, special.eos)


def test_a_general_suite_keeps_each_text_once(files, base, tmp_path):
    _, suites = build(tmp_path, spec_of(files), base)
    assert [item.id.rpartition(":")[2] for item in suites[1].items] == [str(n) for n in range(1, 10)]
    assert len({item.group for item in suites[1].items}) == 9


def test_sources_of_the_domain_suite_are_one_suite_without_repeats(files, base, tmp_path):
    evaluation = {"domain_holdout": None, "domain": [source(files / "e1.jsonl"), source(files / "e2.jsonl")]}
    _, suites = build(tmp_path, spec_of(files, evaluation), base)
    places = [item.id.rpartition("/")[2] for item in suites[0].items]
    assert places == [f"e1.jsonl:{n}" for n in range(1, 6)] + [f"e2.jsonl:{n}" for n in range(3, 7)]


def test_a_budget_keeps_whole_documents_up_to_it(files, base, tmp_path):
    _, whole = build(tmp_path, spec_of(files), base)
    _, suites = build(tmp_path, spec_of(files, {"max_tokens": 900}), base)
    for suite, everything in zip(suites, whole, strict=True):
        tokens = sum(len(item.input_ids) - 1 for item in suite.items)
        assert 300 < tokens <= 900
        by_id = {item.id: item.input_ids.tolist() for item in everything.items}
        assert all(by_id[item.id] == item.input_ids.tolist() for item in suite.items)
        assert suite.key != everything.key
    _, one = build(tmp_path, spec_of(files, {"max_tokens": 1}), base)
    assert [len(suite.items) for suite in one] == [1, 1, 1]


def test_a_budget_prefers_whole_groups(files, base, tmp_path):
    """Documents of one group come together: at most one group is cut."""
    _, whole = build(tmp_path, spec_of(files), base)
    _, cut = build(tmp_path, spec_of(files, {"max_tokens": 900}), base)
    size = {g: sum(i.group == g for i in whole[0].items) for g in {i.group for i in whole[0].items}}
    kept = {g: sum(i.group == g for i in cut[0].items) for g in {i.group for i in cut[0].items}}
    assert sum(kept[group] < size[group] for group in kept) <= 1


def test_parts_take_turns_and_share_no_group(files, base, tmp_path):
    spec = spec_of(files, {"parts": 2})
    _, whole = build(tmp_path, spec, base)
    turns = [build(tmp_path, spec, base, turn)[1] for turn in range(3)]
    for number, suite in enumerate(whole):
        first, second, third = ([item.id for item in suites[number].items] for suites in turns)
        assert sorted(first + second) == sorted(item.id for item in suite.items)
        assert third == first
        assert turns[0][number].key != turns[1][number].key
    groups = [{item.group for item in suites[0].items} for suites in turns[:2]]
    assert not groups[0] & groups[1]
    _, unrotated = build(tmp_path, spec_of(files), base, 1)
    assert [suite.key for suite in unrotated] == [suite.key for suite in whole]


def tokens_of(suite):
    return sum(item.labels for item in suite.items)


def test_with_increments_a_general_suite_turns_as_often_as_it_fills_the_budget(files, base, tmp_path):
    """What is held out of an increment is new each time, and suites of earlier ones are compared over time: both stay."""
    _, whole = build(tmp_path, spec_of(files), base)
    budget = tokens_of(whole[1]) // 3
    spec = spec_of(files, {"max_tokens": budget}).model_copy(update={"increments": Increments()})
    turns = [build(tmp_path, spec, base, turn)[1] for turn in range(4)]
    assert [suites[1].part for suites in turns] == [(1, 3), (2, 3), (3, 3), (1, 3)]
    groups = [{item.group for item in suites[1].items} for suites in turns]
    assert groups[3] == groups[0]
    assert all(not one & other for n, one in enumerate(groups[:3]) for other in groups[n + 1 : 3])
    assert {suites[0].part for suites in turns} == {None}
    assert len({suites[0].key for suites in turns}) == 1
    small = tokens_of(whole[2]) // budget
    assert {suites[2].part for suites in turns} == ({None} if small < 2 else {(1, small), (2, small)})
    without = spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"parts": 1})})
    assert {suite.part for turn in range(3) for suite in build(tmp_path, without, base, turn)[1]} == {None}


def test_no_part_holds_what_a_replay_ratio_is_chosen_on(files, base, tmp_path):
    """The development part is the same in every turn, and no verdict reads it."""
    text = [{"text": text[:200]} for text in prose("en_*")[:120]]
    write_rows(tmp_path / "many.jsonl", text)
    general = [source(tmp_path / "many.jsonl")]
    spec = spec_of(files, {"general": general, "parts": 3})
    mixture = spec.mixture.model_copy(update={"replay_ratio": None, "forgetting_budget": 0.05})
    asked = spec.model_copy(update={"mixture": mixture})
    prepared, tokenized = laid_out(tmp_path, spec, base)
    (development,) = build_development(asked, prepared, tokenized)
    turns = [build_suites(asked, prepared, tokenized, turn)[1] for turn in range(3)]
    read = [{item.id for item in suite.items} for suite in turns]
    assert all(ids and not ids & {item.id for item in development.items} for ids in read)
    assert sum(map(len, read)) + len(development.items) == 120


def test_a_suite_without_a_document_is_named(files, base, tmp_path):
    spec = spec_of(files)
    spec = spec.model_copy(
        update={"evaluation": spec.evaluation.model_copy(update={"domain_holdout": 1e-12})}
    )
    with pytest.raises(UserError, match="the suite domain has no document") as error:
        build(tmp_path, spec, base)
    assert error.value.where == str(files / "domain.jsonl")
    assert "domain_holdout" in error.value.fix


def test_suites_are_named_by_what_people_called_the_files():
    assert suite_names(["d/en_*.txt", "d/stories.jsonl.gz", "news/*.txt", "deep/**/*.txt"]) == [
        "en", "stories", "news", "deep"
    ]  # fmt: skip
    assert suite_names(["*.txt", "**/*", "/*.txt"]) == ["general", "general-2", "general-3"]
    assert suite_names(["x/domain.txt"]) == ["domain-2"]


@pytest.mark.parametrize(
    "paths",
    [["a-2.txt", "x/a.txt", "y/a.txt"], ["x/a.txt", "y/a.txt", "a-2.txt"], ["domain.txt", "domain-2.txt"]],
)
def test_two_suites_never_share_a_name(paths):
    assert len(set(suite_names(paths))) == len(paths)


def test_every_model_is_scored_by_itself_even_beside_a_suite_named_model(files, base, tmp_path):
    spec = spec_of(files)
    _, suites = build(tmp_path, spec, base)
    other = make_base(tmp_path / "other", seed=4)
    before, after = (score_model(tmp_path, spec, suites, folder) for folder in (base, other))
    assert before.key != after.key
    scores = assemble_scores(suites, {"base": before, "candidate": after}, special_ids(base).vocab_size)
    model = load_model(base)
    for suite, scored in zip(suites, scores.suites, strict=True):
        documents = [item.input_ids for item in suite.items]
        expected = score_documents(model, documents, 64, 4096, "cpu")
        assert [item.nats["base"] for item in scored.items] == pytest.approx(expected.tolist(), rel=1e-5)
        assert [item.tokens for item in scored.items] == [len(ids) - 1 for ids in documents]
        assert all(item.nats["base"] != item.nats["candidate"] for item in scored.items)
        assert scored.kind == ("domain" if suite.name == "domain" else "general")


def test_a_scored_model_is_not_scored_again_and_progress_counts_label_tokens(files, base, tmp_path):
    spec = spec_of(files)
    _, suites = build(tmp_path, spec, base)
    seen: list[tuple[int, int]] = []
    first = score_model(tmp_path, spec, suites, base, lambda done, total: seen.append((done, total)))
    total = sum(len(item.input_ids) - 1 for suite in suites for item in suite.items)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    count = len(seen)
    assert score_model(tmp_path, spec, suites, base, lambda done, total: seen.append((done, total))) == first
    assert len(seen) == count
    assert score_model(tmp_path, spec_of(files, sequence_length=32), suites, base).key != first.key
