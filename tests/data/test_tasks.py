"""Rows of several tasks: one text may serve them all, and each task numbers its own labels."""

import numpy as np
import pytest

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.labels.labels import IGNORED, find_labels
from tasks.data.labels.model_head import TaskOutputs
from tasks.data.split.divide import Fate, load_fates
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tests.corpora import here, prepare_rows
from tests.toy_heads import labelled_rows, tagged_rows, write_labelled
from tests.toy_tasks import TASKS, tasks_spec, temper_rows


def find(root, spec, folder, known=()):
    prepared = prepare_rows(root, spec)
    steps = {
        s.label: tokenize_source(root, s, folder, here, spec.record_of(s.source)) for s in prepared.sources
    }
    size = special_ids(folder, framed=True).vocab_size
    return prepared, find_labels(root, spec, prepared.sources, steps, prepared.divided, size, known)


def make(folder, *tasks, **keys) -> RunSpec:
    return RunSpec.model_validate(tasks_spec(folder, "assets/base", tasks, 90, **keys))


def test_the_labels_of_each_task_are_numbered_after_those_of_the_task_before(tmp_path, tokenizer_folder):
    spec = make(tmp_path / "d", "trades", "tempers", "names")
    prepared, labels = find(tmp_path / "state", spec, tokenizer_folder)
    assert labels.names == (
        "trades/gardening", "trades/sailing", "trades/烹饪", "tempers/calm", "tempers/hasty",
        "names/O", "names/B-LOC", "names/I-LOC", "names/B-PER", "names/I-PER",
    )  # fmt: skip
    assert labels.tasks == (
        TaskOutputs("trades", 0, 3), TaskOutputs("tempers", 3, 5), TaskOutputs("names", 5, 10),
    )  # fmt: skip
    (trades,), (tempers,), (names,) = (labels.open(source) for source in prepared.sources)
    assert [labels.names[n] for n in trades] == [f"trades/{row['label']}" for row in labelled_rows(90)]
    assert [labels.names[n] for n in tempers] == [f"tempers/{row['label']}" for row in temper_rows(90)]
    written = [labels.names[n] for n in names if n != IGNORED]
    assert written == [f"names/{tag}" for _, tags in tagged_rows(90) for tag in tags]
    (fates,) = load_fates(prepared.divided, prepared.sources[1])
    trained = [
        row["label"] for row, fate in zip(temper_rows(90), fates, strict=True) if fate == Fate.ACCEPTED
    ]
    assert labels.of_task("tempers") == {name: trained.count(name) for name in ("calm", "hasty")}


def test_a_base_that_knows_a_task_keeps_its_labels_first(tmp_path, tokenizer_folder):
    spec = make(tmp_path / "d", "trades", "tempers")
    known = ("tempers/hasty", "tempers/angry", "other/calm")
    _, labels = find(tmp_path / "state", spec, tokenizer_folder, known)
    assert labels.names[3:] == ("tempers/hasty", "tempers/angry", "tempers/calm")


def test_a_label_that_no_row_of_the_task_has_is_refused_by_the_task_s_name(tmp_path, tokenizer_folder):
    spec = tasks_spec(tmp_path / "d", "assets/base", ("trades", "tempers"), 90)
    spec["objective"]["tasks"] = [TASKS["trades"], {**TASKS["tempers"], "labels": ["calm", "sailing"]}]
    with pytest.raises(UserError, match="no training row has the label sailing") as error:
        find(tmp_path / "state", RunSpec.model_validate(spec), tokenizer_folder)
    assert error.value.where == "objective.tasks, task tempers: labels"


def test_one_text_may_be_labelled_for_several_tasks_but_is_trained_once_for_each(tmp_path):
    spec = make(tmp_path / "d", "trades", "tempers")
    texts = [row["text"] for row in labelled_rows(90)]
    rows = [{"text": text, "label": "calm" if n % 2 else "hasty"} for n, text in enumerate(texts)]
    write_labelled(tmp_path / "d" / "tempers.jsonl", [*rows, rows[0]])
    prepared = prepare_rows(tmp_path / "state", spec)
    trades, tempers = (load_fates(prepared.divided, source)[0] for source in prepared.sources)
    assert (trades == tempers[:-1]).all(), "a text is held out for both or for none"
    assert set(trades.tolist()) == {Fate.ACCEPTED, Fate.HELD_OUT}
    assert tempers[-1] == Fate.DUPLICATE


def test_a_text_scored_for_one_task_is_trained_for_none(tmp_path):
    """Groups of its own may hold a text out in one task and not in the other."""
    spec = tasks_spec(tmp_path / "d", "assets/base", ("trades", "tempers"), 90)
    spec["domain"][1]["group"] = "author"
    texts = [row["text"] for row in labelled_rows(90)]
    write_labelled(
        tmp_path / "d" / "tempers.jsonl",
        [
            {"text": text, "label": "calm" if n % 2 else "hasty", "author": f"a{n}"}
            for n, text in enumerate(texts)
        ],
    )
    prepared = prepare_rows(tmp_path / "state", RunSpec.model_validate(spec))
    trades, tempers = (load_fates(prepared.divided, source)[0] for source in prepared.sources)
    scored = (trades == Fate.HELD_OUT) | (tempers == Fate.HELD_OUT)
    trained = (trades == Fate.ACCEPTED) | (tempers == Fate.ACCEPTED)
    assert np.count_nonzero(trades != tempers) > 5
    assert not (scored & trained).any()
    assert ((trades == Fate.LEAKED) <= (tempers == Fate.HELD_OUT)).all()
    assert prepared.ledger.total.leaked > 0
