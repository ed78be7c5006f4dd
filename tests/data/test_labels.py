"""Labels come from the training rows, and stand beside the right tokens."""

import numpy as np
import pytest

from schemas.errors import UserError
from tasks.data.labels.labels import IGNORED, find_labels
from tasks.data.split.divide import Fate, load_fates
from tasks.data.tokens.token_files import open_tokens
from tasks.data.tokens.tokenize import tokenize_source
from tasks.data.tokens.tokenizer import special_ids
from tests.corpora import here, make_spec, prepare_rows, source
from tests.toy_heads import labelled_rows, tagged_rows, write_labelled, write_tagged


def find(root, folder, spec, known=()):
    prepared = prepare_rows(root, spec)
    steps = {s.label: tokenize_source(root, s, folder, here, spec.objective.record) for s in prepared.sources}
    size = special_ids(folder, framed=True).vocab_size
    labels = find_labels(root, spec, prepared.sources, steps, prepared.divided, size, known)
    return prepared, steps, labels, size


def classification(tmp_path, rows, scored=None, **objective):
    write_labelled(tmp_path / "a.jsonl", rows)
    evaluation = {"domain_holdout": 0.3}
    if scored is not None:
        write_labelled(tmp_path / "scored.jsonl", scored)
        evaluation = {"domain": [source(tmp_path / "scored.jsonl")]}
    return make_spec(
        objective={"kind": "text_classification", **objective},
        domain=[source(tmp_path / "a.jsonl")],
        evaluation=evaluation,
    )


def test_labels_are_those_of_the_training_rows_sorted_with_their_counts(tmp_path, tokenizer_folder) -> None:
    spec = classification(tmp_path, labelled_rows(90))
    prepared, _, labels, _ = find(tmp_path / "state", tokenizer_folder, spec)
    (fates,) = load_fates(prepared.divided, prepared.sources[0])
    trained = [
        row["label"] for row, fate in zip(labelled_rows(90), fates, strict=True) if fate == Fate.ACCEPTED
    ]
    assert labels.names == ("gardening", "sailing", "烹饪")
    assert labels.counts == {name: trained.count(name) for name in labels.names}
    (numbers,) = labels.open(prepared.sources[0])
    assert [labels.names[n] for n in numbers] == [row["label"] for row in labelled_rows(90)]


def test_the_order_asked_for_is_kept_and_other_rows_are_in_quarantine(tmp_path, tokenizer_folder) -> None:
    spec = classification(tmp_path, labelled_rows(90), labels=["sailing", "gardening"])
    prepared, _, labels, _ = find(tmp_path / "state", tokenizer_folder, spec)
    assert labels.names == ("sailing", "gardening")
    total = prepared.ledger.total
    assert total.quarantined == sum(row["label"] == "烹饪" for row in labelled_rows(90)) > 0
    assert total.read == total.placed == 90


def test_a_scored_label_that_was_never_trained_is_named_by_its_place(tmp_path, tokenizer_folder) -> None:
    scored = [*labelled_rows(10, seed=9), {"text": "secret words", "label": "mining"}]
    spec = classification(tmp_path, labelled_rows(60), scored)
    with pytest.raises(UserError, match="1 scored row has a label that no training row has") as error:
        find(tmp_path / "state", tokenizer_folder, spec)
    assert error.value.where == f"{tmp_path / 'scored.jsonl'}:11"
    assert "secret" not in str(error.value)
    assert "objective.labels" in error.value.fix
    listed = classification(tmp_path, labelled_rows(60), scored, labels=["gardening", "sailing", "烹饪"])
    prepared, *_ = find(tmp_path / "state", tokenizer_folder, listed)
    assert [file.reasons for file in prepared.ledger.files] == [{}, {"unknown_label": 1}]


def test_a_label_that_no_training_row_has_is_refused(tmp_path, tokenizer_folder) -> None:
    spec = classification(tmp_path, labelled_rows(60), labels=["gardening", "sailling"])
    with pytest.raises(UserError, match="no training row has the label sailling") as error:
        find(tmp_path / "state", tokenizer_folder, spec)
    assert "known: gardening" in error.value.fix


def test_one_label_is_nothing_to_tell_apart(tmp_path, tokenizer_folder) -> None:
    rows = [row for row in labelled_rows(90) if row["label"] == "sailing"]
    with pytest.raises(UserError, match="hold 1 label: nothing to tell apart"):
        find(tmp_path / "state", tokenizer_folder, classification(tmp_path, rows))


def test_the_labels_of_a_bases_head_come_first_if_it_shares_one(tmp_path, tokenizer_folder) -> None:
    spec = classification(tmp_path, labelled_rows(90))
    *_, labels, _ = find(tmp_path / "state", tokenizer_folder, spec, known=("sailing", "mining"))
    assert labels.names == ("sailing", "mining", "gardening", "烹饪")
    assert labels.counts["mining"] == 0
    *_, labels, _ = find(tmp_path / "state", tokenizer_folder, spec, known=("POSITIVE", "NEGATIVE"))
    assert labels.names == ("gardening", "sailing", "烹饪")


def test_a_tag_stands_at_the_first_id_of_its_word_and_nowhere_else(tmp_path, tokenizer_folder) -> None:
    rows = tagged_rows(60)
    write_tagged(tmp_path / "a.conll", rows)
    spec = make_spec(
        objective={"kind": "token_classification"},
        domain=[source(tmp_path / "a.conll")],
        evaluation={"domain_holdout": 0.3},
    )
    prepared, steps, labels, size = find(tmp_path / "state", tokenizer_folder, spec)
    assert labels.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"), "IOB2 is whole: I-LOC was never seen"
    (part,) = open_tokens(steps["domain-0"], 1, size)
    (numbers,) = labels.open(prepared.sources[0])
    assert len(numbers) == len(part.tokens)
    for row, (_, tags) in enumerate(rows):
        words = part.words_of(row)
        here_ = numbers[part.offsets[row] : part.offsets[row + 1]]
        assert [labels.names[n] for n in here_[words >= 0]] == tags
        assert (here_[words < 0] == IGNORED).all()
    assert np.count_nonzero(numbers != IGNORED) == sum(len(tags) for _, tags in rows)
