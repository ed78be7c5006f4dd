"""A specification whose settings contradict each other, or would do nothing, is refused; all problems at once."""

import pytest
from pydantic import ValidationError

from schemas.spec.run import RunSpec
from schemas.spec.source_rules import told_format
from schemas.spec.sources import Source

SOURCE = {"path": "a.txt", "contract": "c"}
WHOLE = {
    "name": "n",
    "base": "models/base",
    "domain": [SOURCE],
    "replay": [SOURCE],
    "mixture": {"replay_ratio": 0.2},
    "training": {"steps": 5},
    "evaluation": {"domain_holdout": 0.1, "general": [SOURCE]},
}
SCRATCH = {"from_scratch": {}}


def problems(**changes) -> str:
    """What is wrong with the whole specification after these changes (None removes a key); empty if nothing."""
    keys = {key: value for key, value in {**WHOLE, **changes}.items() if value is not None}
    try:
        RunSpec.model_validate(keys)
    except ValidationError as error:
        return str(error)
    return ""


def test_the_whole_specification_is_accepted():
    assert problems() == ""


def test_exactly_one_base_is_named():
    assert problems(base=None, base_from="champion") == ""
    assert "exactly one of base and base_from" in problems(base=None)
    assert "exactly one of base and base_from" in problems(base_from="champion")


def test_a_model_from_scratch_is_trained_in_full_and_has_nothing_to_forget():
    fine = {"base": SCRATCH, "evaluation": {"domain_holdout": 0.1}}
    assert problems(**fine) == ""
    assert "can only be trained with method 'full'" in problems(**fine, method={"kind": "lora"})
    assert "nothing to forget" in problems(base=SCRATCH)


def test_replay_needs_sources():
    assert "no replay sources" in problems(replay=None)
    assert problems(replay=None, mixture={"replay_ratio": 0}) == ""
    assert problems(mixture={"replay_ratio": 0}) == "", "one override must be enough to leave replay out"
    assert "no replay sources" in problems(replay=None, mixture=None), "the default ratio is above 0"


def test_the_domain_is_scored_in_exactly_one_way():
    assert problems(evaluation={"domain": [SOURCE], "general": [SOURCE]}) == ""
    assert "exactly one of domain_holdout and domain" in problems(evaluation={"general": [SOURCE]})
    both = {"domain": [SOURCE], "domain_holdout": 0.1, "general": [SOURCE]}
    assert "exactly one of domain_holdout and domain" in problems(evaluation=both)


def test_forgetting_must_be_measured():
    assert "at least one general suite" in problems(evaluation={"domain_holdout": 0.1})


@pytest.mark.parametrize(
    ("key", "setting", "named"),
    [
        ("domain", {"weight": 2.0}, "domain.0.weight"),
        ("domain", {"group": "g"}, "domain.0.group"),
        ("domain", {"columns": {"text": "body"}}, "domain.0.columns"),
        ("replay", {"path": "a.csv", "document": "paragraph"}, "replay.0.document"),
        ("replay", {"format": "jsonl", "document": "paragraph"}, "replay.0.document"),
    ],
)
def test_a_setting_of_a_source_that_nothing_reads_is_refused(key, setting, named):
    assert named in problems(**{key: [{**SOURCE, **setting}]})


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("replay", {"weight": 2.0}),
        ("domain", {"path": "a.jsonl", "group": "g", "columns": {"text": "body"}}),
        ("domain", {"path": "a.md", "document": "paragraph"}),
        ("domain", {"path": "a.dat", "format": "csv", "group": "g"}),
    ],
)
def test_a_setting_of_a_source_that_is_read_is_accepted(key, setting):
    assert problems(**{key: [{**SOURCE, **setting}]}) == ""


def test_all_problems_come_at_once():
    said = problems(base=None, replay=None, evaluation={}, domain=[{**SOURCE, "weight": 3}])
    for part in ("base_from", "no replay sources", "domain_holdout", "general suite", "domain.0.weight"):
        assert part in said


@pytest.mark.parametrize(
    ("training", "part"),
    [
        ({}, "length"),
        ({"steps": 5, "epochs": 1}, "length"),
        ({"steps": 0}, "steps"),
        ({"epochs": float("inf")}, "epochs"),
        ({"steps": 5, "sequence_length": 48, "batch_tokens": 100}, "whole number of sequences"),
        (
            {"steps": 5, "sequence_length": 8, "batch_tokens": 64, "micro_batch_tokens": 24},
            "micro_batch_tokens",
        ),
        ({"steps": 5, "learning_rate": 2}, "learning_rate"),
        ({"steps": 5, "learning_rate": float("nan")}, "learning_rate"),
        ({"steps": 5, "seed": -1}, "seed"),
        ({"steps": 5, "seed": 2**32}, "seed"),
        ({"steps": 5, "no_such_key": 1}, "no_such_key"),
    ],
)
def test_training_settings_that_cannot_work_are_refused(training, part):
    assert part in problems(training=training)


@pytest.mark.parametrize("name", ["", "Upper", "has space", "-dash", "a" * 64, "dots.", "../up"])
def test_a_name_that_is_no_folder_name_is_refused(name):
    assert "name" in problems(name=name)


def test_a_specification_cannot_be_changed_after_it_was_read():
    spec = RunSpec.model_validate(WHOLE)
    with pytest.raises(ValidationError, match="frozen"):
        spec.training.seed = 5
    assert RunSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.txt", "txt"), ("a.md", "txt"), ("a", "txt"), ("A.JSONL", "jsonl"), ("a.csv.gz", "csv"),
        ("a.tsv.zst", "tsv"), ("d.jsonl/a", "txt"), ("x/*.json", "json"), ("a.iob2", "conll"), ("a.BIO.gz", "conll"),
    ],
)  # fmt: skip
def test_the_format_is_told_by_the_extension(path, expected):
    assert told_format(Source(path=path, contract="c")) == expected
    assert told_format(Source(path=path, contract="c", format="csv")) == "csv"


TEXTS = {"path": "a.csv", "contract": "c"}
WORDS = {"path": "a.conll", "contract": "c"}
HEAD = {
    "objective": {"kind": "text_classification"},
    "domain": [TEXTS],
    "replay": None,
    "mixture": {"replay_ratio": 0},
    "evaluation": {"domain_holdout": 0.1},
}
TAGGER = {**HEAD, "objective": {"kind": "token_classification"}, "domain": [WORDS]}


def test_a_head_needs_no_general_suite_and_may_have_one():
    assert problems(**HEAD) == ""
    assert problems(**TAGGER) == ""
    assert problems(**{**HEAD, "evaluation": {"domain_holdout": 0.1, "general": [TEXTS]}}) == ""
    assert problems(**{**HEAD, "replay": [TEXTS], "mixture": {"replay_ratio": 0.2}}) == ""


@pytest.mark.parametrize(
    ("base", "change", "named"),
    [
        (HEAD, {"domain": [SOURCE]}, "domain.0.path: a txt file does not hold texts with a label"),
        (HEAD, {"domain": [WORDS]}, "domain.0.path: a conll file does not hold texts with a label"),
        (TAGGER, {"domain": [TEXTS]}, "domain.0.path: a csv file does not hold tagged words"),
        (TAGGER, {"domain": [SOURCE]}, "domain.0.path: a txt file does not hold tagged words"),
        (HEAD, {"domain": [{**TEXTS, "columns": {"tags": "x"}}]}, "domain.0.columns.tags: this objective does not read it"),
        (TAGGER, {"domain": [{**WORDS, "columns": {"text": 1}}]}, "domain.0.columns.text: this objective does not read it"),
        (TAGGER, {"domain": [{**WORDS, "columns": {"tokens": "word", "tags": "tag"}}]}, "write both as numbers"),
        (TAGGER, {"domain": [{**WORDS, "columns": {"tags": 3}}]}, "write both as numbers"),
        (TAGGER, {"domain": [{**WORDS, "columns": {"tokens": 2, "tags": 2}}]}, "two fields are read from one column"),
        (TAGGER, {"domain": [{**WORDS, "group": "doc"}]}, "domain.0.group: a conll file has no column for it"),
        (HEAD, {"domain": [{**TEXTS, "columns": {"label": 1}}]}, "give text as a number too"),
        (HEAD, {"domain": [{**TEXTS, "columns": {"label": 1, "text": 2}, "group": "g"}]}, "give group as a number too"),
        (HEAD, {"domain": [{"path": "a.jsonl", "contract": "c", "columns": {"label": 1, "text": 2}}]}, "keys, not column numbers"),
        (HEAD, {"domain": [{**TEXTS, "columns": {"label": "text"}}]}, "two fields are read from one column"),
        (HEAD, {"promotion": {"min_gain": 2}}, "promotion.min_gain: is a fraction of 1 here"),
        (TAGGER, {"promotion": {"max_forgetting": 1}}, "promotion.max_forgetting: is a fraction of 1 here"),
        (HEAD, {"objective": {"kind": "text_classification", "labels": ["a"]}}, "labels"),
        (HEAD, {"objective": {"kind": "text_classification", "labels": ["a", "a"]}}, "given twice"),
        (HEAD, {"objective": {"kind": "text_classification", "labels": ["a", " b"]}}, "labels"),
        (TAGGER, {"objective": {"kind": "token_classification", "metric": "accuracy"}}, "metric"),
    ],
)  # fmt: skip
def test_what_a_head_cannot_use_is_refused(base, change, named):
    assert named in problems(**{**base, **change})


@pytest.mark.parametrize("columns", [{"label": 1, "text": 2}, {"label": "category"}])
def test_columns_are_names_or_numbers(columns):
    assert problems(**{**HEAD, "domain": [{**TEXTS, "columns": columns}]}) == ""


def test_language_modeling_reads_neither_labels_nor_tagged_words():
    assert "this objective does not read it" in problems(domain=[{**TEXTS, "columns": {"label": "x"}}])
    assert "does not hold running text" in problems(domain=[WORDS])


def test_settings_of_other_schedules_and_phases_that_do_not_fit_are_refused():
    def training(**keys):
        return problems(training={"steps": 5, **keys})

    assert training(schedule="wsd", decay_ratio=0.3) == ""
    assert training(schedule="infinite", decay_ratio=0.3, cooldown_ratio=0.6, min_ratio=0.5) == ""
    assert "'cosine' does not read it" in training(decay_ratio=0.3)
    assert "belongs to infinite" in training(schedule="wsd", constant_ratio=0.3)
    assert "longer than the training" in training(schedule="wsd", decay_ratio=0.98)
    assert "longer than the training" in training(schedule="infinite", cooldown_ratio=0.9)
    assert "rise at the end" in training(schedule="infinite", constant_ratio=0.3, min_ratio=0.4)


def test_remedies_that_cannot_work_are_refused_with_what_to_use_instead():
    def remedies(*kinds, **changes):
        return problems(remedies=[{"kind": kind} for kind in kinds], **changes)

    assert remedies("ewc", "distillation", "ema") == ""
    assert remedies("ewc", mixture={"replay_ratio": 0}) == "", "measured on, not trained on"
    assert "ewc is named twice" in remedies("ewc", "ewc")
    assert "ewc needs general text; add replay sources" in remedies(
        "ewc", replay=None, mixture={"replay_ratio": 0}
    )
    scratch = {"base": SCRATCH, "evaluation": {"domain_holdout": 0.1}}
    assert "nothing to forget; remove remedies" in remedies("ema", **scratch)
    rows = [{"path": "a.csv", "contract": "c"}]
    head = {
        "objective": {"kind": "text_classification"},
        "domain": rows,
        "replay": rows,
        "evaluation": {"domain_holdout": 0.1},
    }
    assert remedies("ema", **head) == ""
    assert "of a batch; set target" in remedies("step_scaling", **head)
    assert "step_scaling needs general text" in remedies(
        "step_scaling", replay=None, mixture={"replay_ratio": 0}
    )
    assert "works with language_modeling, not with text_classification; use replay" in remedies("ewc", **head)
    lora = {"kind": "lora", "weight_decomposed": True}
    assert "starts at zero; set method.weight_decomposed" in remedies("ewc", method=lora)
    assert remedies("distillation", method=lora) == ""


def test_replay_is_read_only_where_something_reads_it():
    def reads(*kinds, ratio=0.0):
        keys = {"mixture": {"replay_ratio": ratio}, "remedies": [{"kind": kind} for kind in kinds]}
        return RunSpec.model_validate({**WHOLE, **keys}).reads_replay

    assert [reads(), reads(ratio=0.1), reads("ewc"), reads("ema")] == [False, True, True, False]
    assert reads("weight_averaging")


def test_what_chooses_replay_needs_replay_to_choose():
    def mixture(**keys):
        return problems(mixture=keys, replay=[SOURCE, SOURCE])

    assert mixture(replay_ratio=0.2, temperature=2, importance="towards_domain") == ""
    assert "mixture.temperature: chooses replay text" in mixture(replay_ratio=0, temperature=2)
    assert "mixture.importance: chooses replay text" in mixture(replay_ratio=0, importance="towards_domain")
    assert "name two or more" in problems(mixture={"replay_ratio": 0.2, "temperature": 2})
