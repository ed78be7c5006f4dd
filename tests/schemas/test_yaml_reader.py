"""Plain values of a YAML file, and the line of every one of them."""

import pytest

from schemas.errors import UserErrors
from schemas.reading.yaml_reader import parse_yaml, read_yaml, survey_yaml

TEXT = """\
# a comment
name: test
domain:
  - {path: a.txt,
     contract: c}
  - path: b.txt
    contract: >
      folded
      text
training:
  steps: 5
  learning_rate: 1.0e-3
empty:
"""


def test_values_are_plain_and_every_path_has_its_line():
    document = parse_yaml(TEXT, "spec.yaml")
    assert document.value == {
        "name": "test",
        "domain": [{"path": "a.txt", "contract": "c"}, {"path": "b.txt", "contract": "folded text\n"}],
        "training": {"steps": 5, "learning_rate": 1e-3},
        "empty": None,
    }
    lines = {
        ".".join(map(str, path)): int(place.rpartition(":")[2]) for path, place in document.places.items()
    }
    assert lines == {
        "": 2, "name": 2, "domain": 3, "domain.0": 4, "domain.0.path": 4, "domain.0.contract": 5, "domain.1": 6,
        "domain.1.path": 6, "domain.1.contract": 7, "training": 10, "training.steps": 11,
        "training.learning_rate": 12, "empty": 13,
    }  # fmt: skip


def test_what_is_missing_is_placed_at_what_would_hold_it():
    document = parse_yaml(TEXT, "spec.yaml")
    assert document.place(("domain", 1, "weight")) == "spec.yaml:6"
    assert document.place(("training", "seed")) == "spec.yaml:10"
    assert document.place(("no", "such")) == "spec.yaml:2"


def mistakes(text: str) -> list[tuple[str, str]]:
    with pytest.raises(UserErrors) as error:
        parse_yaml(text, "s")
    return [(one.where, one.what) for one in error.value.errors]


def test_every_repeated_key_is_found_with_its_own_line():
    found = mistakes("a: 1\nb:\n  c: 1\n  c: 2\na: 3\na: 4\n")
    assert [where for where, _ in found] == ["s:4", "s:5", "s:6"]
    assert found[0][1] == "b.c is given twice"


def test_the_first_of_repeated_keys_is_kept_for_further_checks(tmp_path):
    (tmp_path / "s.yaml").write_text("a: 1\na: 2\n")
    document = survey_yaml(tmp_path / "s.yaml")
    assert document.value == {"a": 1}
    assert len(document.errors) == 1
    with pytest.raises(UserErrors):
        read_yaml(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['exit 1']\n",
        "a: !mine {b: 1}\n",
        "a: !!set {b}\n",
        "a: !!binary aGk=\n",
    ],
)
def test_no_tag_is_ever_constructed(text):
    ((where, what),) = mistakes("first: 1\n" + text)
    assert where == "s:2"
    assert "is not allowed" in what


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("0x10", 16),
        ("1e3", 1000.0),
        ("'5'", "5"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_means_them(text, value):
    assert parse_yaml(f"a: {text}", "s").value == {"a": value}


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "s.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(UserErrors) as error:
        read_yaml(tmp_path / "s.yaml")
    assert error.value.where.endswith("s.yaml:2")
    assert "UTF-8" in error.value.fix
