"""Every format gives its rows with the line each starts on; a broken row is refused alone."""

import contextlib
import csv
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.errors import UserError
from schemas.spec.sources import Source
from tasks.data.read import json_document, stream, table
from tasks.data.read.reader import parse_json, read_rows
from tasks.data.read.rows import Refusal
from tasks.data.read.shards import plan_shards
from tasks.data.read.stream import split_lines


def data_file(name: str) -> Path:
    """A real file, or a skip with the reason."""
    root = os.environ.get("ROOTSTOCK_DATA")
    if root is None:
        pytest.skip("ROOTSTOCK_DATA is not set: real data files are not here")
    return Path(root) / "data" / name


def rows_of(path, shard_bytes=64 * 2**20, **settings):
    shards = plan_shards(Source(path=str(path), contract="any", **settings), [str(path)], 0, shard_bytes)
    return [row for shard in shards for row in read_rows(shard)]


def brief(rows):
    """(line, text) of a row, or (line, code)."""
    return [
        (line, str(fields.code) if isinstance(fields, Refusal) else fields.get("text"))
        for line, _, fields in rows
    ]


def write(tmp_path, name, content):
    file = tmp_path / name
    data = content.encode() if isinstance(content, str) else content
    kind = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix)
    with pa.output_stream(str(file), compression=kind) as out:
        out.write(data)
    return file


CONTENTS = {
    "a.txt": "one\n\n  \ntwo\n",
    "a.jsonl": '{"text": "one"}\n\n  \n{"text": "two"}\n',
    "a.json": '[{"text": "one"},\n\n\n {"text": "two"}]',
    "a.csv": "id,text\n1,one\n\n\n2,two\n",
    "a.tsv": "id\ttext\n1\tone\n\n\n2\ttwo\n",
}
LINES = {"a.txt": [1, 4], "a.jsonl": [1, 4], "a.json": [1, 4], "a.csv": [2, 5], "a.tsv": [2, 5]}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_gives_the_same_rows_with_their_lines(tmp_path, name, mark, ending, suffix):
    file = write(tmp_path, name + suffix, mark + CONTENTS[name].replace("\n", ending))
    assert brief(rows_of(file)) == list(zip(LINES[name], ["one", "two"], strict=True))


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-32", "gb18030", "big5", "cp037", "iso2022_jp"]
)
@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_is_read_in_every_kind_of_encoding(tmp_path, name, encoding):
    word = "中文" if encoding not in ("cp037",) else "caf"
    file = write(tmp_path, name, CONTENTS[name].replace("two", word).encode(encoding))
    assert brief(rows_of(file, encoding=encoding)) == list(zip(LINES[name], ["one", word], strict=True))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_marked_unicode_file_needs_no_setting(tmp_path, encoding):
    assert brief(rows_of(write(tmp_path, "a.txt", "一\n二".encode(encoding)))) == [(1, "一"), (2, "二")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_without_its_mark_says_what_to_write(tmp_path, encoding):
    with pytest.raises(UserError, match="BOM") as error:
        rows_of(write(tmp_path, "a.txt", "ab\n".encode(f"{encoding}-le")), encoding=encoding)
    assert f"{encoding}-le" in error.value.fix
    assert rows_of(write(tmp_path, "b.txt", b""), encoding=encoding) == []


def test_a_broken_character_refuses_its_own_row_only(tmp_path):
    good = "一\n".encode("utf-16")
    broken = b"\x00\xd8a\x00\n\x00"  # a high surrogate by itself
    file = write(tmp_path, "a.txt", good + broken + "二".encode("utf-16-le"))
    assert brief(rows_of(file)) == [(1, "一"), (2, "undecodable"), (3, "二")]
    file = write(tmp_path, "b.txt", "一\n".encode() * 9 + b"a\xff\n" + b"\xed\xa0\x80\n" + "二".encode())
    assert brief(rows_of(file))[9:] == [(10, "undecodable"), (11, "lone_surrogate"), (12, "二")]


def test_paragraphs_are_blocks_between_blank_lines(tmp_path):
    file = write(tmp_path, "a.txt", "\n\none\r\ntwo\r\n \r\n\t\nthree\n\xff".encode("latin-1"))
    assert brief(rows_of(file, document="paragraph", encoding="utf-8")) == [
        (3, "one\ntwo"),
        (7, "undecodable"),
    ]


def test_a_huge_paragraph_is_refused_alone(tmp_path):
    lines = stream.MAX_LINE_BYTES // 2**14
    content = b"a\n\n" + (b"y" * (2**14 - 1) + b"\n") * lines + b"z\n\nb\n\n" + b"x" * 2**25 + b"\nc\n\nd"
    found = brief(rows_of(write(tmp_path, "a.txt", content), document="paragraph"))
    after = 3 + lines + 2
    assert found == [
        (1, "a"),
        (3, "line_too_long"),
        (after, "b"),
        (after + 2, "line_too_long"),
        (after + 5, "d"),
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{bad}", "malformed_json"),
        (b'{"text": NaN}', "malformed_json"),
        (b'{"text": "a", "x": -Infinity}', "malformed_json"),
        (b'{"text": "a\tb"}', "malformed_json"),
        (b'{"text": "\\ud800", "x": NaN}', "malformed_json"),
        (b'{"text":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "malformed_json"),
        (b'{"text": "\\ud800", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "malformed_json"),
        (b'{"text": "a"} {"text": "b"}', "malformed_json"),
        (b'"text"', "not_an_object"),
        (b"[1]", "not_an_object"),
        (b'{"text": "\xff"}', "undecodable"),
    ],
)
def test_a_bad_json_line_is_refused_alone(tmp_path, line, code):
    file = write(tmp_path, "a.jsonl", b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    assert brief(rows_of(file, encoding="utf-8")) == [(1, "a"), (2, code), (3, "b")]


def test_the_byte_offset_of_a_row_is_where_it_starts(tmp_path):
    content = '\ufeff{"text": "é"}\r\n\n{bad\n{"text": "b"}'.encode()
    for _, offset, fields in rows_of(write(tmp_path, "a.jsonl", content)):
        if isinstance(fields, Refusal):
            assert content[offset:].startswith(b"{bad")
        else:
            assert content[offset:].startswith(f'{{"text": "{fields["text"]}"'.encode())


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b'{"text": "b"}', "b"),
        (b'{"text": "b', "truncated_line"),
        (b'{"text": "\xe4\xb8', "truncated_line"),
        (b'{"text": "\xff"}', "undecodable"),
        (b"[1]", "not_an_object"),
    ],
)
def test_only_a_last_line_that_is_cut_short_is_truncated(tmp_path, end, expected):
    assert brief(rows_of(write(tmp_path, "a.jsonl", b'{"text": "a"}\n' + end), encoding="utf-8"))[1:] == [
        (2, expected)
    ]


def test_a_cut_character_at_the_end_of_any_line_but_the_last_is_undecodable(tmp_path):
    file = write(tmp_path, "a.jsonl", b'{"text": "\xe4\xb8\n')
    assert brief(rows_of(file, encoding="utf-8")) == [(1, "undecodable")]


@pytest.mark.parametrize("shard_bytes", [10**9, 4000, 1200])
def test_shards_of_a_jsonl_give_the_same_rows_and_lines_as_the_whole(tmp_path, shard_bytes):
    rng = random.Random(5)
    lines = [
        rng.choice(["", json.dumps({"text": "x" * rng.randrange(60)}), "{bad", "[1]"]) for _ in range(300)
    ]
    file = write(tmp_path, "a.jsonl", "\ufeff" + "\n".join(lines) + "\n{")
    expected = [(number, str(index)) for number, index in enumerate(lines, 1) if index]
    rows = rows_of(file, shard_bytes)
    assert [line for line, _, _ in rows] == [number for number, _ in expected] + [301]
    assert rows == rows_of(file)
    size = file.stat().st_size
    count = len(plan_shards(Source(path=str(file), contract="any"), [str(file)], 0, shard_bytes))
    assert count == 1 if shard_bytes > size else count > 2


def test_a_line_of_any_length_is_passed_without_being_held():
    blocks = [b"a\n", *[b"x" * 1000] * 50, b"\nb\n" + b"y" * 20, b"z" * 80]
    assert list(split_lines(iter(blocks), 1, 0, b"", 99)) == [
        (1, 0, b"a", True),
        (2, 2, None, True),
        (3, 50003, b"b", True),
        (4, 50005, None, False),
    ]
    assert next(split_lines(iter([b"x" * 50, b"x" * 49, b"\n"]), 1, 0, b"", 99))[2] == b"x" * 99


# JSON documents


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("[]", []),
        ("{}", []),
        ('{"data": []}', []),
        ('[{"text": "a"},\n{"text": "b"}]', [(1, "a"), (2, "b")]),
        ('{"x": {"text": "a"},\n"y":\n{"text": "b"}}', [(1, "a"), (3, "b")]),
        ('{"train": [{"text": "a"},\n{"text": "b"}]}', [(1, "a"), (2, "b")]),
        ('{"meta": {"n": 1}, "data": [\n{"text": "a"}], "v": "1"}', [(2, "a")]),
        ('{"a": [{"text": "a"}],\n"b": [{"text": "b"}]}', [(1, "a"), (2, "b")]),
        ('\n{"text": "a", "meta": {"n": 1}}', [(2, "a")]),
        ('{"body": "a"}', [(1, None)]),
        (
            '[1,\n"a",\n["b"],\n{"text": "a"}]',
            [(1, "not_an_object"), (2, "not_an_object"), (3, "not_an_object"), (4, "a")],
        ),
        ('{"canary": "x",\n"examples": [{"text": "a"}]}', [(1, "not_an_object"), (2, "a")]),
        ('[{"text": NaN},\n{"text": "b"}]', [(1, "malformed_json"), (2, "b")]),
        ("3", [(1, "not_an_object")]),
        ('[{"text": "line\\nbreak"},\r\n{"text": "b"}]', [(1, "line\nbreak"), (2, "b")]),
    ],
)
def test_a_json_document_gives_its_records(tmp_path, document, expected):
    assert brief(rows_of(write(tmp_path, "a.json", document))) == expected


@pytest.mark.parametrize(
    ("document", "where", "what"),
    [
        ('[{"text": "a"},\n{"text": }]', ":2", "not JSON"),
        ('[{"text": "a"},\n{"text": "b"}', ":2", "not JSON"),
        ('[{"text": "a"}\n,]', ":2", "not JSON"),
        ("{'text': 1}", ":1", "not JSON"),
        ('{"text": "a"}\n{"text": "b"}\n', ":2", "more than one JSON value"),
        ("[]\n\n[]", ":3", "more than one JSON value"),
        ("\n[" + "[" * 100_000 + "]" * 100_001, ":2", "nested too deeply"),
        ('{"a" {}}', ":1", "not JSON"),
        ("{1: {}}", ":1", "not JSON"),
    ],
)
def test_a_broken_document_is_a_user_error_at_its_line(tmp_path, document, where, what):
    file = write(tmp_path, "a.json", document)
    with pytest.raises(UserError, match=what) as error:
        rows_of(file)
    assert error.value.where == f"{file}{where}"
    assert "jsonl" in error.value.fix


def test_a_broken_byte_in_a_document_refuses_its_own_record(tmp_path):
    file = write(
        tmp_path, "a.json", b'[{"text": "a\xff"},\n{"text": "b", "other": "\xff"},\n{"text": "\\ud800"}]'
    )
    rows = rows_of(file, encoding="utf-8")
    assert brief(rows) == [(1, "undecodable"), (2, "b"), (3, "\ud800")]


def test_a_document_too_large_for_memory_is_refused_unread(tmp_path):
    file = tmp_path / "a.json"
    with file.open("wb") as out:
        out.truncate(json_document.MAX_DOCUMENT_BYTES + 1)
    with pytest.raises(UserError, match="1 GiB") as error:
        rows_of(file, encoding="utf-8")
    assert "jsonl" in error.value.fix


def test_a_compressed_document_is_measured_while_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(json_document, "MAX_DOCUMENT_BYTES", 10**6)
    with pytest.raises(UserError, match="1 GiB"):
        rows_of(write(tmp_path, "a.json.gz", b" " * (10**6 + 1)))
    assert rows_of(write(tmp_path, "b.json.gz", b" " * 10**6)) == []


def suite(prefix):
    return sorted(data_file("dirty/JSONTestSuite/test_parsing").glob(f"{prefix}_*.json"))


def test_the_parser_accepts_all_json_and_nothing_else():
    accepted, refused, free = suite("y"), suite("n"), suite("i")
    assert (len(accepted), len(refused), len(free)) == (95, 188, 35)
    for file in accepted:
        parse_json(file.read_bytes())
    for file in refused:
        with pytest.raises(ValueError):  # noqa: PT011
            parse_json(file.read_bytes())
    for file in free:
        with contextlib.suppress(ValueError):
            parse_json(file.read_bytes())


def test_the_json_document_reader_accepts_and_refuses_the_same(tmp_path):
    for file in suite("y"):
        rows_of(file, encoding="utf-8")
    for file in suite("n"):
        try:
            rows = rows_of(file, encoding="utf-8")
        except UserError:
            continue
        codes = {fields.code for _, _, fields in rows if isinstance(fields, Refusal)}
        assert codes & {"malformed_json", "undecodable"} or not rows, file.name


# Tables


def test_csv_spectrum():
    folder = data_file("dirty/csv-spectrum")
    files = sorted((folder / "csvs").glob("*.csv"))
    assert len(files) == 12
    for file in files:
        content = file.read_bytes()
        if file.stem.endswith("_crlf"):  # as the suite means it, whatever a checkout made of its line ends
            content = content.replace(b"\r", b"").replace(b"\n", b"\r\n")
        lines = split_lines(iter([content]))
        header, *records = [cells for _, _, cells in table.read_records(lines, "utf-8", ",")]
        expected = json.loads((folder / "json" / f"{file.stem}.json").read_text())
        found = [dict(zip(header, cells, strict=True)) for cells in records]
        if file.stem == "location_coordinates":  # the suite's own answer is no list and has another number
            found = [record | {"Contact Phone Number": expected["Contact Phone Number"]} for record in found]
            expected = [expected]
        assert found == expected, file.name


def test_real_tables(tmp_path):
    banking = rows_of(data_file("classification/banking77_train.csv"), group="category")
    assert len(banking) == 10003
    assert sum("\n" in fields["text"] for _, _, fields in banking) == 10
    assert len({fields["group"] for _, _, fields in banking}) == 77
    with data_file("classification/banking77_train.csv").open(newline="", encoding="utf-8") as file:
        reader, start, starts = csv.reader(file), 1, []
        for _ in reader:
            starts.append(start)
            start = reader.line_num + 1
    assert [line for line, _, _ in banking] == starts[1:]

    sms = write(tmp_path, "s.tsv", b"label\ttext\n" + data_file("classification/sms_spam.tsv").read_bytes())
    assert sum(not isinstance(fields, Refusal) for _, _, fields in rows_of(sms)) == 3900
    medical = rows_of(data_file("domain_zh_medical/toyhom_neike_part1_gb18030.csv"), columns={"text": "ask"})
    assert len(medical) == 1796
    assert sum(fields["text"] == "无" for _, _, fields in medical) == 5  # how this set writes "nothing"


def test_real_lines():
    path = data_file("general_en/wikitext2_valid.txt")
    rows = rows_of(path)
    assert len(rows) == 3760 - 1299
    lines = path.read_text(encoding="utf-8").split("\n")
    assert all(lines[line - 1] == fields["text"] for line, _, fields in rows)


def test_a_record_is_placed_at_the_line_where_it_starts(tmp_path):
    file = write(tmp_path, "a.csv", 'id,text\r\n1,"a\r\n\r\nb"\r\n\r\n2,"c ""d"", e"\r\n')
    assert brief(rows_of(file)) == [(2, "a\r\n\r\nb"), (6, 'c "d", e')]


def test_a_record_with_more_or_fewer_columns_is_refused_alone(tmp_path):
    file = write(tmp_path, "a.csv", "id,text\n1,a\n2\n3,b,c\n4\rx,d\n5,e\n")
    assert brief(rows_of(file)) == [
        (2, "a"),
        (3, "wrong_column_count"),
        (4, "wrong_column_count"),
        (5, "wrong_column_count"),
        (6, "e"),
    ]


def test_a_quote_left_open_costs_one_line_not_the_rest_of_the_file(tmp_path):
    file = write(tmp_path, "a.csv", 'id,text\n1,a\n2,"b\n3,c\n\n4,d\n')
    assert brief(rows_of(file)) == [(2, "a"), (3, "unclosed_quote"), (4, "c"), (6, "d")]


def test_a_quote_open_for_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MAX_RECORD_LINES", 5)
    file = write(tmp_path, "a.csv", 'id,text\n1,"a\n' + "2,b\n" * 10 + '3,"c\n\n\nd"\n')
    assert brief(rows_of(file)) == [
        (2, "unclosed_quote"),
        *[(n, "b") for n in range(3, 13)],
        (13, "c\n\n\nd"),
    ]


def test_a_huge_line_inside_and_outside_quotes_is_refused_alone(tmp_path):
    huge = "x" * (stream.MAX_LINE_BYTES + 1)
    file = write(tmp_path, "a.csv", f'id,text\n1,{huge}\n2,"b\n{huge}\n3,c\n')
    assert brief(rows_of(file)) == [
        (2, "line_too_long"),
        (3, "unclosed_quote"),
        (4, "line_too_long"),
        (5, "c"),
    ]


def test_a_broken_byte_in_a_table_refuses_its_own_record(tmp_path):
    file = write(tmp_path, "a.csv", b'id,text\n1,"a\n\xff"\n2,b\n3,"c\n4,\xff\n5,d\n')
    assert brief(rows_of(file, encoding="utf-8")) == [
        (2, "undecodable"),
        (4, "b"),
        (5, "unclosed_quote"),
        (6, "undecodable"),
        (7, "d"),
    ]


def test_a_long_document_fits_a_cell(tmp_path):
    text = "word " * 100_000
    assert brief(rows_of(write(tmp_path, "a.csv", f'text\n"{text}"\n'))) == [(2, text)]


@pytest.mark.parametrize(
    ("header", "column", "what", "fix"),
    [
        ("id,Text\n1,a\n", "text", "no column 'text'", "did you mean 'Text'"),
        ("id,body\n1,a\n", "text", "no column 'text'", "known: id, body"),
        (
            "ham,Go until jurong point, crazy.. Available only in bugis and so on\n",
            "text",
            "no column",
            "look like a header",
        ),
        ("text,text\na,b\n", "text", "is there 2 times", "rename"),
        ('"text\n', "text", "cannot read the header", "names the columns"),
    ],
)
def test_a_missing_column_is_a_user_error(tmp_path, header, column, what, fix):
    file = write(tmp_path, "a.csv", header)
    with pytest.raises(UserError, match=what) as error:
        rows_of(file, columns={"text": column})
    assert error.value.where == f"{file}:1"
    assert fix in error.value.fix
    assert "jurong" not in str(error.value)


def test_a_missing_group_column_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no column 'who'"):
        rows_of(write(tmp_path, "a.csv", "text\na\n"), group="who")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt.gz", "a.txt.zst"])
def test_an_empty_file_has_no_rows(tmp_path, name):
    file = tmp_path / name
    file.touch()
    assert rows_of(file) == []


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_damaged_compression_is_a_user_error(tmp_path, kind):
    file = write(tmp_path, f"a.txt.{kind}", os.urandom(300_000).hex())
    whole = file.read_bytes()
    for content, what in (
        (whole[:-20], "ends too early"),
        (whole[:1000] + b"????" * 20 + whole[1080:], "damaged"),
        (b"plain text", "damaged"),
    ):
        if kind == "zst" and content.startswith(whole[:1000]) and what == "damaged":
            continue  # pyarrow writes zstd without a checksum: nothing could tell
        file.write_bytes(content)
        with pytest.raises(UserError, match=what) as error:
            rows_of(file, encoding="utf-8")
        assert str(file) in error.value.where
        assert "--test" in error.value.fix
