"""Encodings are told from bytes, and a guess is never made on too little evidence."""

import os
from pathlib import Path

import pytest

from schemas.errors import UserError
from tasks.data.read.encoding import detect_encoding, guess_encoding, newline_is_a_byte, resolve_encoding

CHINESE = "我有高血压这两天女婿来的时候给我拿了些党参泡水喝，您好高血压可以吃党参吗？\n"
SAMPLES = {
    "arabic": "utf-8",
    "chinese": "big5",
    "french-1": "cp1252",
    "greek-2": "cp1253",
    "hebrew-2": "cp1255",
    "korean": "cp949",
    "russian": "mac_cyrillic",
    "russian-2": "utf-8",
    "turkish": "cp1254",
}


def data_file(name: str) -> Path:
    """A real file, or a skip with the reason."""
    root = os.environ.get("ROOTSTOCK_DATA")
    if root is None:
        pytest.skip("ROOTSTOCK_DATA is not set: real data files are not here")
    return Path(root) / "data" / name


@pytest.mark.parametrize("name", SAMPLES)
def test_real_samples_decode_as_what_they_are(name):
    path = data_file(f"dirty/charset_samples/sample-{name}.txt")
    expected = SAMPLES[name]
    assert detect_encoding(str(path)) == expected
    path.read_bytes().decode(expected)


def test_a_gb18030_file_is_recognised():
    assert detect_encoding(str(data_file("domain_zh_medical/toyhom_neike_part1_gb18030.csv"))) == "gb18030"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides(encoding):
    found = guess_encoding(CHINESE.encode(encoding))
    assert CHINESE.encode(encoding).decode(found).removeprefix("\ufeff") == CHINESE


@pytest.mark.parametrize("text", ["心血管科\n", CHINESE, "text\n" + CHINESE * 50])
def test_short_and_long_chinese_is_gb18030(text):
    assert guess_encoding(text.encode("gbk")) == "gb18030"


def test_a_few_broken_lines_leave_a_file_utf8():
    assert guess_encoding(b"plain\n" * 20 + b"caf\xe9\n") == "utf-8"
    assert guess_encoding("日本語の文章\n".encode() * 3 + b"\xff\xfe\n") == "utf-8"


def test_utf8_with_a_fault_in_every_line_is_still_utf8():
    line = "déjà vu à l'été, ".encode() + "père Noël\n".encode("latin-1")
    assert guess_encoding(line * 50) == "utf-8"


@pytest.mark.parametrize(
    "bad", [b'{"text":"caf\xe9"}\n', b'{"text": "\xff\xfe"}\n', b'{"text": "\xc3\x28"}\n', b"\x80abc\n"]
)
def test_one_odd_byte_is_not_enough_to_believe_in_a_code_page(bad):
    assert guess_encoding(b'{"text":"good"}\n' + bad) == "utf-8"


def test_many_accents_are_enough():
    text = "Où était l'été dernier, père Noël? À côté de la forêt, là-bas, où l'âme rêve.\n" * 5
    assert text.encode("latin-1").decode(guess_encoding(text.encode("latin-1"))) == text


def test_text_far_from_the_beginning_is_sampled_too(tmp_path):
    file = tmp_path / "late.txt"
    file.write_bytes(b"plain ascii line\n" * 70_000 + CHINESE.encode("gb18030") * 40_000)
    assert detect_encoding(str(file)) == "gb18030"


def test_a_broken_line_does_not_mislead_the_guess():
    lines = [CHINESE.encode("gb18030")] * 400
    lines[3] = b"\xff\xff\xff\n"
    assert guess_encoding(b"".join(lines)) == "gb18030"


@pytest.mark.parametrize("name", ["gb2312", "GBK", "gb18030"])
def test_chinese_subsets_are_read_by_their_superset(name):
    assert resolve_encoding(name, "x") == "gb18030"


@pytest.mark.parametrize("name", ["utf-9", "rot13", "base64", "idna", "unicode_escape", "a\0b"])
def test_an_unknown_encoding_is_a_user_error(name):
    with pytest.raises(UserError) as error:
        resolve_encoding(name, "runs/x.yaml:3")
    assert name in error.value.what
    assert error.value.where == "runs/x.yaml:3"
    assert "utf-8" in error.value.fix


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", True),
        ("gb18030", True),
        ("big5", True),
        ("cp1252", True),
        ("utf-16", False),
        ("utf-32-le", False),
        ("cp037", False),
        ("iso2022_jp", False),
        ("utf-7", False),
    ],
)
def test_only_encodings_with_a_newline_byte_are_cut(encoding, expected):
    assert newline_is_a_byte(encoding) is expected
