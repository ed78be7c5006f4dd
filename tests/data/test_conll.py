"""CoNLL files as they are in the wild: every sentence is a row at its first word's line, or refused with a reason."""

from collections import Counter
from pathlib import Path

import pytest

from schemas.errors import UserError
from schemas.spec.records import ReasonCode
from schemas.spec.sources import Source
from tasks.data.read.entity_schemes import with_schemes
from tasks.data.read.shards import plan_shards
from tests.corpora import here
from tests.data.test_validate import accepted, refused


def read(path: Path, out: Path, labels=None, **settings):
    from tasks.data.validate.validate_shard import validate_shards

    source = Source(path=str(path), contract="any", format="conll", **settings)
    shards = with_schemes(plan_shards(source, [str(path)], record="tagged_tokens", labels=labels), here)
    out.mkdir(exist_ok=True)
    results = [validate_shards([shard], out) for shard in shards]
    return shards[0].scheme, results[0].counts[0], accepted(results, out), refused(out)


def rows_of(tmp_path: Path, text: str, **settings):
    file = tmp_path / "a.conll"
    file.write_text(text, encoding="utf-8")
    return read(file, tmp_path / "out", **settings)


REAL = {
    "wnut17train_1-2200.conll": (2200, 42723, {"O": 40749, "B-person": 438, "I-creative-work": 143}, 1, 29),
    "uner_zh_gsdsimp_dev.iob2": (500, 12663, {"O": 11230, "B-LOC": 375, "I-LOC": 285, "B-PER": 245, "I-ORG": 226, "I-PER": 169, "B-ORG": 133}, 4, 37),
    "weiboNER_2nd_conll.dev": (270, 14509, {"O": 13538, "I-PER.NOM": 239, "B-GPE.NOM": 1}, 1, 20),
    "bc5cdr_devel_1-2300.tsv": (2300, 58761, {"O": 52124, "B-Chemical": 2507, "B-Disease": 2164, "I-Disease": 1395, "I-Chemical": 571}, 1, 19),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_whole(tmp_path, data_root, name) -> None:
    scheme, ledger, rows, _ = read(data_root / "data/ner" / name, tmp_path / "out")
    sentences, words, tags, first, second = REAL[name]
    counts = Counter(tag for row in rows for tag in row["tags"])
    assert (scheme, ledger.read, ledger.accepted) == ("IOB2", sentences, sentences)
    assert sum(len(row["tokens"]) for row in rows) == words == counts.total()
    assert {tag: counts[tag] for tag in tags} == tags
    assert rows[0]["line"] == first
    assert all(row["text"] == " ".join(row["tokens"]) for row in rows)
    assert rows[1]["line"] == second


def test_columns_are_found_comments_and_document_marks_are_no_words(tmp_path) -> None:
    text = "-DOCSTART- -X- O O\n\n# id = 1\n1\tAnna\tB-PER\t-\n2\t#1\tO\t-\n\n\n# id = 2\n1\tOslo\tB-LOC\t-\n"
    _, ledger, rows, _ = rows_of(tmp_path, text)
    assert [(row["line"], row["tokens"], row["tags"]) for row in rows] == [
        (4, ["Anna", "#1"], ["B-PER", "O"]), (9, ["Oslo"], ["B-LOC"])
    ]  # fmt: skip
    assert ledger.read == 2


def test_the_last_of_several_columns_that_hold_tags_is_taken(tmp_path) -> None:
    _, _, rows, _ = rows_of(
        tmp_path, "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n-DOCSTART- -X- O O\n\n# O O O\n"
    )
    assert [(row["tokens"], row["tags"]) for row in rows] == [
        (["EU", "rejects"], ["B-ORG", "O"]), (["#"], ["O"])
    ]  # fmt: skip


def test_columns_may_be_given_by_number(tmp_path) -> None:
    text = "a\tO\tx\tB-PER\nb\tO\ty\tI-PER\n"
    _, _, rows, _ = rows_of(tmp_path, text, columns={"tokens": 3, "tags": 2})
    assert (rows[0]["tokens"], rows[0]["tags"]) == (["x", "y"], ["O", "O"])
    with pytest.raises(UserError, match=r"no column 5 \(columns.tags\): lines have 4"):
        rows_of(tmp_path, text, columns={"tokens": 1, "tags": 5})


def test_another_scheme_is_normalised_and_named(tmp_path) -> None:
    scheme, _, rows, _ = rows_of(tmp_path, "a I-PER\nb B-PER\nc O\n\nd I-LOC\n")
    assert scheme == "IOB1"
    assert [row["tags"] for row in rows] == [["B-PER", "B-PER", "O"], ["B-LOC"]]


def test_broken_sentences_are_refused_each_with_its_line_and_reason(tmp_path) -> None:
    good = "fine O\nAnna B-PER\n\n"
    text = good + "# note\nx O\nsecret\n\n" + good + "secret I-PER\n\n" + "secret B-PER\nx I-LOC\n\n" + good
    _, ledger, rows, entries = rows_of(tmp_path, text)
    assert [row["line"] for row in rows] == [1, 8, 16]
    assert [(e["line"], e["code"]) for e in entries] == [
        (5, ReasonCode.WRONG_COLUMN_COUNT), (11, ReasonCode.BAD_TAG), (13, ReasonCode.BAD_TAG)
    ]  # fmt: skip
    assert "secret" not in str(entries)
    assert "line 6 has 1 columns, the file has 2" in entries[0]["detail"]
    assert ledger.read == (ledger.accepted + ledger.quarantined) == 6


def test_a_byte_that_does_not_decode_refuses_its_sentence_alone(tmp_path) -> None:
    file = tmp_path / "a.conll"
    file.write_bytes(b"a O\nb\xff B-PER\n\nc B-PER\r\nd I-PER\r\n\r\n")
    _, ledger, rows, entries = read(file, tmp_path / "out", encoding="utf-8")
    assert [row["tokens"] for row in rows] == [["c", "d"]]
    assert [(e["line"], e["code"]) for e in entries] == [(1, ReasonCode.UNDECODABLE)]
    assert ledger.read == 2


def test_an_empty_word_refuses_its_sentence(tmp_path) -> None:
    _, _, rows, entries = rows_of(tmp_path, "a\tO\n\tO\n\nb\tB-PER\n")
    assert [row["tokens"] for row in rows] == [["b"]]
    assert [(e["line"], e["code"]) for e in entries] == [(1, ReasonCode.EMPTY_TEXT)]


def test_sentences_with_other_types_than_those_asked_for_are_refused(tmp_path) -> None:
    _, ledger, rows, _ = rows_of(tmp_path, "a B-PER\n\nb B-LOC\n\nc O\n", labels=("PER",))
    assert [row["tokens"] for row in rows] == [["a"], ["c"]]
    assert ledger.reasons == {ReasonCode.UNKNOWN_LABEL: 1}


def test_a_file_without_tags_is_refused_as_a_whole(tmp_path) -> None:
    with pytest.raises(UserError, match="no column holds only tags") as error:
        rows_of(tmp_path, "one two\nthree four\n")
    assert error.value.where.startswith(f"{tmp_path / 'a.conll'}:1")
    assert "columns: {tokens: 1, tags: 4}" in error.value.fix


def test_a_sentence_without_end_is_not_held_in_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tasks.data.read.conll.MAX_SENTENCE_LINES", 10)
    _, ledger, rows, entries = rows_of(tmp_path, "a O\n" * 50 + "\nb B-PER\n")
    assert [row["line"] for row in rows] == [52]
    assert [(e["line"], e["code"]) for e in entries] == [(1, ReasonCode.LINE_TOO_LONG)]
    assert ledger.read == 2
