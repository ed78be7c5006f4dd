"""What a specification of objective instruction may say, and what it is told otherwise."""

import copy

import pytest
from pydantic import ValidationError

from schemas.spec.run import RunSpec

SPEC = {
    "name": "a",
    "base": "b",
    "objective": {"kind": "instruction", "metric": "exact_match"},
    "domain": [{"path": "d.jsonl", "contract": "instruction"}],
    "replay": [{"path": "r.txt", "contract": "general_text", "record": "text"}],
    "training": {"steps": 1, "sequence_length": 32, "batch_tokens": 32},
    "evaluation": {
        "domain_holdout": 0.1,
        "general": [{"path": "g.txt", "contract": "general_text", "record": "text"}],
    },
}


def changed(**keys):
    spec = copy.deepcopy(SPEC)
    for path, value in keys.items():
        node = spec
        *parents, last = path.split("__")
        for key in parents:
            node = node[int(key) if isinstance(node, list) else key]
        node[int(last) if isinstance(node, list) else last] = value
    return spec


def test_text_may_stand_beside_instructions() -> None:
    spec = RunSpec.model_validate(SPEC)
    assert spec.objective.record == "instruction"
    assert spec.record_of(spec.domain[0]) == "instruction"
    assert spec.record_of(spec.replay[0]) == spec.record_of(spec.evaluation.general[0]) == "text"


def test_a_source_without_a_record_holds_instructions_so_a_txt_file_is_refused() -> None:
    with pytest.raises(ValidationError, match="a txt file does not hold prompts and responses"):
        RunSpec.model_validate(changed(replay__0={"path": "r.txt", "contract": "general_text"}))


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"domain__0__record": "text"}, "domain.0.record: only replay and general suites"),
        (
            {"objective": {"kind": "language_modeling"}},
            "replay.0.record: only replay and general suites of objective",
        ),
        ({"objective": {"kind": "instruction", "max_new_tokens": 9}}, "metric 'loss' generates nothing"),
        ({"domain__0__columns": {"prompt": "q"}}, "give both prompt and response, or none"),
        ({"domain__0__columns": {"context": "q"}}, "give both prompt and response, or none"),
        ({"domain__0__columns": {"prompt": "q", "response": "q"}}, "two fields are read from one column"),
        ({"domain__0__columns": {"text": "q"}}, "columns.text: this objective does not read it"),
        ({"replay__0__columns": {"prompt": "q", "response": "r"}}, "columns: a txt file has no columns"),
        (
            {"base": {"from_scratch": {}}, "evaluation__general": []},
            "a model from scratch knows no language yet",
        ),
        ({"promotion": {"min_gain": 1.0}}, "promotion.min_gain: is a fraction of 1"),
        ({"method": {"kind": "head_only"}}, "trains a task's new head, and this objective has none"),
        (
            {
                "evaluation__general": [
                    {"path": "g.txt", "contract": "c", "record": "text"},
                    {"path": "g.jsonl", "contract": "c"},
                ]
            },
            "suites of text are measured in nats per token and those of instructions in right answers",
        ),
        (
            {
                "evaluation__general": [{"path": "g.jsonl", "contract": "c"}],
                "promotion": {"max_forgetting": 1.0},
            },
            "promotion.max_forgetting: is a fraction of 1",
        ),
    ],
)
def test_what_contradicts_itself_or_does_nothing_is_refused(keys, what) -> None:
    with pytest.raises(ValidationError) as error:
        RunSpec.model_validate(changed(**keys))
    assert what in str(error.value)


def test_forgetting_of_text_may_be_any_number_of_nats() -> None:
    RunSpec.model_validate(changed(promotion={"max_forgetting": 2.0}))
