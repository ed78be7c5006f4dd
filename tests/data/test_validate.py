"""No row is lost: each is in a part or in quarantine with its reason, and the bytes are always the same."""

import json
import os
import random
import subprocess
import sys
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from schemas.errors import UserError
from schemas.spec.records import ReasonCode
from schemas.spec.sources import Source
from tasks.data.read.shards import plan_shards
from tasks.data.validate import parquet_parts as parts
from tasks.data.validate.digest import text_digest, text_digests
from tasks.data.validate.validate_shard import validate_shards


def validate(path, folder, shard_bytes=64 * 2**20, record="text", labels=None, **settings):
    folder.mkdir(exist_ok=True)
    source = Source(path=str(path), contract="any", **settings)
    shards = plan_shards(source, [str(path)], 0, shard_bytes, record, labels)
    return [validate_shards([shard], folder) for shard in shards]


def accepted(results, folder):
    """Rows of all parts, in order."""
    return [
        row for result in results for name in result.parts for row in pq.read_table(folder / name).to_pylist()
    ]


def balanced(results):
    """Every row read is accepted or quarantined, and every quarantined one has its reason."""
    counts = [count for result in results for count in result.counts]
    assert all(c.read == c.accepted + c.quarantined == c.accepted + sum(c.reasons.values()) for c in counts)


def refused(folder):
    """Quarantined rows of all shards, in order."""
    return [
        json.loads(line)
        for file in sorted(folder.glob("quarantine-*"))
        for line in file.read_text().splitlines()
    ]


def test_an_accepted_row_has_its_place_text_group_digest_and_size(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('\n{"text": "a  b\\n", "who": 7}\n{"text": "é", "who": "x"}\n{"text": "c"}\n')
    results = validate(file, tmp_path / "out", group="who")
    table = pq.read_table(tmp_path / "out" / results[0].parts[0])
    assert table.schema.equals(parts.SCHEMA)
    assert results[0].parts == ("shard-00000-000.parquet",)
    assert accepted(results, tmp_path / "out") == [
        {"file": str(file), "line": line, "text": text, "group": group, "digest": digest, "bytes": size}
        for line, text, group, digest, size in (
            (2, "a  b\n", "7", xxhash.xxh3_128_digest(b"a b"), 5),
            (3, "é", "x", xxhash.xxh3_128_digest("é".encode()), 2),
            (4, "c", None, xxhash.xxh3_128_digest(b"c"), 1),
        )
    ]


LONG = b"x" * (16 * 2**20 + 1)
REFUSED = {
    ReasonCode.MALFORMED_JSON: ("jsonl", b"{bad}"),
    ReasonCode.TRUNCATED_LINE: ("jsonl", b'{"text": "a'),
    ReasonCode.NOT_AN_OBJECT: ("jsonl", b"[]"),
    ReasonCode.MISSING_FIELD: ("jsonl", b'{"Text": "secret"}'),
    ReasonCode.WRONG_TYPE: ("jsonl", b'{"text": 12345}'),
    ReasonCode.EMPTY_TEXT: ("jsonl", b'{"text": " \\n\\u3000"}'),
    ReasonCode.UNDECODABLE: ("txt", b"secret\xff"),
    ReasonCode.NUL_CHARACTER: ("jsonl", b'{"text": "secret\\u0000"}'),
    ReasonCode.LONE_SURROGATE: ("jsonl", b'{"text": "secret\\ud800"}'),
    ReasonCode.LINE_TOO_LONG: ("txt", LONG),
    ReasonCode.WRONG_COLUMN_COUNT: ("csv", b"secret,b"),
    ReasonCode.UNCLOSED_QUOTE: ("csv", b'"secret'),
    ReasonCode.EMPTY_LABEL: ("jsonl", b'{"text": "secret", "label": " "}'),
    ReasonCode.UNKNOWN_LABEL: ("jsonl", b'{"text": "secret", "label": "12345"}'),
    ReasonCode.LENGTH_MISMATCH: ("jsonl", b'{"tokens": ["secret", "b"], "tags": ["O"]}'),
    ReasonCode.BAD_TAG: ("jsonl", b'{"tokens": ["secret"], "tags": ["12345"]}'),
}
RECORDS = {
    ReasonCode.EMPTY_LABEL: "labeled_text",
    ReasonCode.UNKNOWN_LABEL: "labeled_text",
    ReasonCode.LENGTH_MISMATCH: "tagged_tokens",
    ReasonCode.BAD_TAG: "tagged_tokens",
}
GOOD_ROWS = {
    "labeled_text": {"jsonl": b'{"text": "good", "label": "ham"}'},
    "tagged_tokens": {"jsonl": b'{"tokens": ["good"], "tags": ["O"]}'},
}
GOOD = {"jsonl": b'{"text": "good"}', "txt": b"good", "csv": b"good"}


@pytest.mark.parametrize("code", ReasonCode)
def test_every_reason_is_given_for_its_fault_and_its_row_alone(tmp_path, code):
    form, row = REFUSED[code]
    record = RECORDS.get(code, "text")
    good_row = GOOD_ROWS.get(record, GOOD)[form]
    end = b"" if code == ReasonCode.TRUNCATED_LINE else b"\n" + good_row
    head = b"text" if form == "csv" else good_row
    file = tmp_path / f"a.{form}"
    file.write_bytes(head + b"\n" + row + end)
    labels = ("ham", "spam") if record == "labeled_text" else None
    (result,) = validate(file, tmp_path / "out", record=record, labels=labels, encoding="utf-8")
    good = len(GOOD) - (form == "csv") - (not end) - 1
    assert result.counts[0].reasons == {code: 1}
    assert (result.counts[0].read, result.counts[0].accepted) == (good + 1, good)
    (entry,) = refused(tmp_path / "out")
    assert (entry["file"], entry["line"], entry["code"]) == (str(file), 2, code)
    assert entry["byte_offset"] == len(head) + 1
    assert entry["detail"]
    assert "secret" not in json.dumps(entry)
    assert "12345" not in json.dumps(entry)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ('{"text": null}', "wrong_type"),
        ('{"text": ["a"]}', "wrong_type"),
        ('{"text": "a", "who": [1]}', "wrong_type"),
        ('{"text": "a", "who": true}', "wrong_type"),
        ('{"text": "a", "who": 1.5}', "wrong_type"),
        ('{"text": "a", "who": "\\udc00"}', "lone_surrogate"),
        ('{"text": ""}', "empty_text"),
        ('{"text": "a", "who": null}', None),
        ('{"text": "a", "who": ""}', None),
        ('{"text": "a", "group": [1], "other": {"x": "\\ud800"}}', None),
    ],
)
def test_types_are_strict_and_other_keys_nobodys_business(tmp_path, row, code):
    file = tmp_path / "a.jsonl"
    file.write_text(row)
    (result,) = validate(file, tmp_path / "out", group="who")
    assert result.counts[0].reasons == ({code: 1} if code else {})


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "text,who\na,\nb,x\n"), ("a.jsonl", '{"text": "a", "who": ""}\n{"text": "b", "who": "x"}')],
)
def test_an_empty_group_is_no_group(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    folder = tmp_path / "out"
    assert [row["group"] for row in accepted(validate(tmp_path / name, folder, group="who"), folder)] == [
        None,
        "x",
    ]


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ('{"text": "a", "label": " spam "}', "spam"),
        ('{"text": "a", "label": 0}', "0"),
        ('{"text": "a", "label": "垃圾"}', "垃圾"),
        ('{"text": "a", "label": true}', "wrong_type"),
        ('{"text": "a", "label": null}', "wrong_type"),
        ('{"text": "a", "label": ["x"]}', "wrong_type"),
        ('{"text": "a"}', "missing_field"),
        ('{"text": " ", "label": "x"}', "empty_text"),
        ('{"text": "a", "label": "x\\ud800"}', "lone_surrogate"),
        ('{"text": "a", "label": "x\\u0000"}', "nul_character"),
    ],
)
def test_a_label_is_text_or_a_whole_number(tmp_path, row, label):
    file = tmp_path / "a.jsonl"
    file.write_text(row, encoding="utf-8")
    (result,) = validate(file, tmp_path / "out", record="labeled_text")
    rows = accepted([result], tmp_path / "out")
    assert [row["label"] for row in rows] == ([] if result.counts[0].reasons else [label])
    assert result.counts[0].reasons == ({} if rows else {label: 1})


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ('{"tokens": ["上海", "is"], "tags": ["B-LOC", "O"]}', None),
        ('{"tokens": [], "tags": []}', "empty_text"),
        ('{"tokens": ["a", " "], "tags": ["O", "O"]}', "empty_text"),
        ('{"tokens": ["a", 1], "tags": ["O", "O"]}', "wrong_type"),
        ('{"tokens": "a", "tags": "O"}', "wrong_type"),
        ('{"tokens": ["a"], "tags": [0]}', "wrong_type"),
        ('{"tokens": ["a\\ud800"], "tags": ["O"]}', "lone_surrogate"),
        ('{"tokens": ["a\\u0000"], "tags": ["O"]}', "nul_character"),
    ],
)
def test_tagged_words_are_lists_of_texts(tmp_path, row, code):
    file = tmp_path / "a.jsonl"
    file.write_text(row, encoding="utf-8")
    (result,) = validate(file, tmp_path / "out", record="tagged_tokens")
    assert result.counts[0].reasons == ({code: 1} if code else {})


@pytest.mark.parametrize(
    ("name", "settings", "counts", "first"),
    [
        ("banking77_train.csv", {"columns": {"label": "category"}}, {"card_arrival": 153}, 2),
        ("sms_spam.tsv", {"columns": {"label": 1, "text": 2}}, {"ham": 3381, "spam": 519}, 1),
    ],
)
def test_real_labelled_files_are_read_whole(tmp_path, data_root, name, settings, counts, first):
    (result,) = validate(
        data_root / "data/classification" / name, tmp_path / "out", record="labeled_text", **settings
    )
    rows = accepted([result], tmp_path / "out")
    assert (result.counts[0].read, result.counts[0].quarantined) == ({"s": 3900, "b": 10003}[name[0]], 0)
    assert len({row["label"] for row in rows}) == {"s": 2, "b": 77}[name[0]]
    assert {label: sum(row["label"] == label for row in rows) for label in counts} == counts
    assert rows[0]["line"] == first


def test_a_number_beyond_the_columns_is_named(tmp_path):
    (tmp_path / "a.tsv").write_text("ham\thello\n")
    with pytest.raises(UserError, match="there is no column 3: the first line has 2"):
        validate(tmp_path / "a.tsv", tmp_path / "out", record="labeled_text", columns={"text": 3, "label": 1})


def test_a_row_mended_since_the_last_attempt_is_not_in_quarantine(tmp_path):
    file = tmp_path / "a.jsonl"
    for content, count in (("{bad\n" * 2, 2), ("{bad\n", 1), ('{"text": "a"}\n', 0)):
        file.write_text(content)
        validate(file, tmp_path / "out")
        assert len(refused(tmp_path / "out")) == count


def test_columns_and_group_are_mapped_in_every_format(tmp_path):
    for name, content in (
        ("a.jsonl", '{"body": "t", "text": 3, "who": "w"}'),
        ("a.json", '[{"body": "t", "text": 3, "who": "w"}]'),
        ("a.csv", "text,body,who\n3,t,w\n"),
        ("a.tsv", "text\tbody\twho\n3\tt\tw\n"),
    ):
        (tmp_path / name).write_text(content)
        folder = tmp_path / f"{name}.out"
        (row,) = accepted(validate(tmp_path / name, folder, columns={"text": "body"}, group="who"), folder)
        assert (row["text"], row["group"]) == ("t", "w")


def test_an_empty_file_has_a_ledger_and_no_files(tmp_path):
    file = tmp_path / "a.txt"
    file.touch()
    (result,) = validate(file, tmp_path / "out")
    assert (result.parts, result.counts[0].read, list((tmp_path / "out").iterdir())) == ((), 0, [])


def test_a_large_file_rolls_over_into_parts_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 40_000)
    monkeypatch.setattr(parts, "GROUP_BYTES", 10_000)
    monkeypatch.setattr(parts, "BATCH_CHARACTERS", 1_000)
    lines = [f"{number} " + "x" * (number % 300) for number in range(1, 1001)]
    file = tmp_path / "a.csv"
    file.write_text("text\n" + "\n".join(lines))
    results = validate(file, tmp_path / "out")
    assert [row["text"] for row in accepted(results, tmp_path / "out")] == lines
    tables = [pq.read_table(tmp_path / "out" / name) for name in results[0].parts]
    assert len(tables) == 4
    assert all(sum(table["bytes"].to_pylist()) < 55_000 for table in tables)
    assert pq.ParquetFile(tmp_path / "out" / results[0].parts[0]).num_row_groups == 4


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_files_are_the_same_with_one_worker_or_two_and_when_done_again(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"row {n} é" * (n % 9)}) for n in range(3000)))
    once, twice = tmp_path / "once", tmp_path / "twice"
    results = validate(file, once, 20_000)
    assert len(results) > 3
    assert {result.counts[0].reasons["empty_text"] > 0 for result in results} == {True}
    twice.mkdir()
    shards = plan_shards(Source(path=str(file), contract="any"), [str(file)], 0, 20_000)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(validate_shards, [[s] for s in shards], [twice] * len(shards))) == results
    assert contents(once) == contents(twice)
    before = contents(once)
    validate(file, once, 20_000)
    assert contents(once) == before


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_rows_and_lines_do_not_depend_on_the_number_of_shards(tmp_path, shards):
    rng = random.Random(9)
    texts = ["word " * rng.randrange(1, 40) for _ in range(700)]
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\r\n\n".join(json.dumps({"text": text}).encode() for text in texts))
    results = validate(file, tmp_path / "out", -(-file.stat().st_size // shards))
    assert len(results) == shards
    found = [(row["line"], row["text"]) for row in accepted(results, tmp_path / "out")]
    assert found == [(2 * number + 1, text) for number, text in enumerate(texts)]


def test_rows_in_front_of_a_broken_place_are_kept_and_counted(tmp_path):
    file = tmp_path / "a.txt.gz"
    with pa.output_stream(str(file), compression="gzip") as out:
        for _ in range(20_000):
            out.write(os.urandom(30).hex().encode() + b"\n")
    file.write_bytes(file.read_bytes()[:-1000])
    folder = tmp_path / "out"
    with pytest.raises(UserError, match="ends too early") as error:
        validate(file, folder)
    rows = pq.read_table(folder / "shard-00000-000.parquet").num_rows
    assert 0 < rows < 20_000
    assert f"after {rows:,} rows" in error.value.where


def garbage(rng):
    """Bytes near the formats' edges, not only noise."""
    pieces = [
        b"\n",
        b"\r",
        b'"',
        b",",
        b"\t",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"\\u",
        b"\\ud800",
        b"\x00",
        b"\xff",
    ]
    pieces += [
        b"\xe4\xb8",
        "字".encode(),
        "字".encode("gbk"),
        b'{"text":"a"}\n',
        b"text\n",
        b"a,b\n",
        b"\xef\xbb\xbf",
    ]
    pieces += [rng.randbytes(rng.randrange(9)), b"NaN", b"  ", b"1e999"]
    return b"".join(rng.choice(pieces) for _ in range(rng.randrange(60)))


@pytest.mark.parametrize("form", ["txt", "paragraph", "jsonl", "csv", "tsv"])
def test_rows_are_conserved_for_any_bytes(tmp_path, form):
    rng = random.Random(form)
    rows = errors = 0
    for number in range(60):
        settings = {"document": "paragraph"} if form == "paragraph" else {}
        if rng.random() < 0.5:
            settings["encoding"] = rng.choice(
                ["utf-8", "gb18030", "cp1252", "big5", "utf-16-le", "utf-32", "iso2022_jp"]
            )
        head = b"text\n" if form in ("csv", "tsv") and rng.random() < 0.8 else b""
        name = f"{number}.{'txt' if form == 'paragraph' else form}"
        (tmp_path / name).write_bytes(head + garbage(rng))
        folder = tmp_path / f"{name}.out"
        try:
            results = validate(tmp_path / name, folder, rng.choice([5, 50, 10**6]), **settings)
        except UserError:
            errors += 1
            continue
        balanced(results)
        assert sum(result.counts[0].accepted for result in results) == len(accepted(results, folder))
        assert sum(result.counts[0].quarantined for result in results) == len(refused(folder))
        rows += sum(result.counts[0].read for result in results)
    assert rows > 60
    assert errors < 40


def test_every_element_of_a_json_document_is_somewhere(tmp_path):
    rng = random.Random(6)
    elements = [
        b'{"text":\n"a"}',
        b"1",
        b'"x"',
        b"[[]]",
        b'{"text": NaN}',
        b'{"text": "\\ud800"}',
        b'{"text": "\xff"}',
    ]
    elements += [
        b'{"text": "\xe4\xb8"}',
        b'{"text": "\\u0000"}',
        b'{"text": ""}',
        b'{"t": "a"}',
        b"null",
        b"{}",
    ]
    codes = set()
    for number in range(60):
        chosen = rng.choices(elements, k=rng.randrange(20))
        document = b"[" + b",\n".join(chosen) + b"]"
        if rng.random() < 0.5:
            document = b'{"v": 1, "data":' + document + b"}"
        (tmp_path / f"{number}.json").write_bytes(document)
        folder = tmp_path / f"{number}.out"
        (result,) = validate(tmp_path / f"{number}.json", folder, encoding="utf-8")
        balanced([result])
        assert result.counts[0].read == len(chosen) == len(accepted([result], folder)) + len(refused(folder))
        codes |= set(result.counts[0].reasons)
    assert len(codes) == 8 - 1


def lines_with_content(data):
    return [number for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]


def test_every_line_with_content_is_somewhere(tmp_path):
    rng = random.Random(2)
    for number in range(60):
        file = tmp_path / f"{number}.{rng.choice(['txt', 'jsonl'])}"
        data = garbage(rng).removeprefix(b"\xef\xbb\xbf")
        file.write_bytes(data)
        folder = tmp_path / f"{number}.out"
        results = validate(file, folder, rng.choice([5, 10**6]), encoding="utf-8")
        places = [row["line"] for row in accepted(results, folder)] + [
            entry["line"] for entry in refused(folder)
        ]
        assert sorted(places) == lines_with_content(data)


MEASURE = """
import sys
from pathlib import Path
from schemas.spec.sources import Source
from tasks.data.read.shards import plan_shards
from tasks.data.validate.validate_shard import validate_shards
def run(path):
    source = Source(path=path, contract="c", document="paragraph" if "paragraph" in path else "line")
    return [validate_shards([shard], Path(sys.argv[1])) for shard in plan_shards(source, [path])]
def peak():  # not getrusage: its peak begins with that of the process which started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
run(sys.argv[2])
before = peak()
results = run(sys.argv[3])
print(sum(r.counts[0].accepted for r in results), *[code for r in results for code in r.counts[0].reasons])
print((peak() - before) // 1024)
"""
KIB = b"y" * 1023 + b"\n"
HUGE = {
    "line.jsonl": (
        b'{"text": "a"}\n{"text": "',
        b"x" * 2**20,
        100,
        b'"}\n{"text": "b"}\n',
        "2 line_too_long",
        60,
    ),
    "paragraph.txt": (b"a\n\n", KIB * 2**10, 100, b"\n\nb\n", "2 line_too_long", 80),
    # The csv module holds an open field in four bytes a character: 64 MiB for a record of 16 MiB.
    "quote.csv": (b'text\n"open\n', KIB * 2**10, 40, b"", f"{40 * 2**10} unclosed_quote", 130),
    "short.csv": (b'text\n"open\n', b"\n" * 2**18, 3, b"", "0 unclosed_quote", 70),
}


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak memory is read from Linux's /proc"
)
@pytest.mark.parametrize("name", HUGE)
def test_memory_stays_flat_whatever_never_ends(tmp_path, name):
    head, body, times, tail, expected, limit_mib = HUGE[name]
    with (tmp_path / name).open("wb") as out:
        out.write(head)
        for _ in range(times):
            out.write(body)
        out.write(tail)
    small = tmp_path / "small.jsonl"
    small.write_text('{"text": "a"}\n' * 20_000)
    command = [sys.executable, "-c", MEASURE, str(tmp_path), str(small), str(tmp_path / name)]
    root = Path(__file__).parents[2]
    found, mib = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=root
    ).stdout.splitlines()
    assert found == expected
    assert int(mib) < limit_mib


def test_digests_fold_white_space_and_composition_and_nothing_else():
    assert text_digest(" a\t\nb\u3000c ") == text_digest("a b c") == xxhash.xxh3_128_digest(b"a b c")
    assert text_digest("e\u0301") == text_digest("é")
    assert len({text_digest(text) for text in ("a b", "ab", "A b", "a  c", "a b.")}) == 5


def test_digests_of_many_texts_are_those_of_each():
    rng = random.Random(4)
    alphabet = "ab \n\t\r\x0b\x0c\x1c\x1d\x1e\x1f\x00\x7f"
    for wide in ("", "é\u3000\u0301字\x85\xa0"):
        texts = ["".join(rng.choices(alphabet + wide, k=rng.randrange(12))) for _ in range(5000)]
        expected = [
            xxhash.xxh3_128_digest(" ".join(unicodedata.normalize("NFC", text).split()).encode())
            for text in texts
        ]
        assert text_digests(texts) == expected
    assert text_digests([]) == []
