"""Mistakes in a specification through the real command line: three lines each, exit 2, nothing heavy imported."""

from pathlib import Path

import pytest

from tests.command_line import Done, rootstock

GOOD = """\
name: medical
base: model
domain:
  - {path: data/domain.txt, contract: domain_text}
replay:
  - {path: data/general.txt, contract: general_text}
mixture: {replay_ratio: 0.25}
method: {kind: lora, r: 16}
training:
  steps: 3
  learning_rate: 2e-4
evaluation:
  domain_holdout: 0.1
  general:
    - {path: data/general.txt, contract: general_text}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which GOOD has no mistake."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/domain.txt").write_text("a line\n")
    (tmp_path / "data/general.txt").write_text("another line\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "spec.yaml").write_text(GOOD)
    return tmp_path


def refused(project: Path, *arguments: str, **env: str) -> Done:
    """Run the specification; it must be refused at once."""
    done = rootstock("run", "spec.yaml", *arguments, cwd=project, env=env, cold=True)
    assert done.code == 2, done.err
    assert done.out == ""
    assert done.heavy == set()
    assert not (project / ".rootstock").exists()
    return done


MISTAKES = {
    "unknown key": (
        ("  steps: 3\n", "  steps: 3\n  batch_size: 8\n"),
        "training.batch_size is not a key of training",
        11,
        "write batch_tokens; known: adam_beta2, batch_tokens,",
    ),
    "wrong type": (
        ("steps: 3", "steps: many"),
        "training.steps must be a whole number, not the text 'many'",
        10,
        "write a whole number",
    ),
    "missing file": (
        ("data/domain.txt", "data/nosuch.txt"),
        "domain.0.path matches no file: data/nosuch.txt",
        4,
        "check the path (read as /",
    ),
    "ratio above 1": (
        ("replay_ratio: 0.25", "replay_ratio: 25"),
        "mixture.replay_ratio is 25; it must be below 1",
        7,
        "write a number below 1 (25 % is 0.25)",
    ),
    "unknown method": (
        ("kind: lora", "kind: lorra"),
        "method.kind: there is no 'lorra'",
        8,
        "did you mean lora? known: full, lora",
    ),
    "unknown contract": (
        ("contract: general_text}\nmixture", "contract: generaltext}\nmixture"),
        "there is no contract 'generaltext'",
        6,
        "did you mean general_text? known: domain_text, general_text, instruction, labeled_text, tagged_tokens; or the path",
    ),
    "setting of another method": (
        ("kind: lora", "kind: full"),
        "method.r is not a setting of 'full'",
        8,
        "r belongs to 'lora' or 'qlora'",
    ),
    "YAML syntax": (
        ("mixture: {replay_ratio: 0.25}", "mixture: {replay_ratio: [0.25}"),
        "not valid YAML: expected ',' or ']', but got '}'",
        7,
        "check indentation, colons and quotes on this line and the one before",
    ),
    "duplicate key": (
        ("  steps: 3\n", "  steps: 3\n  steps: 4\n"),
        "training.steps is given twice",
        11,
        "keep one; the first is on line 10",
    ),
    "unknown encoding": (
        ("contract: domain_text}", "contract: domain_text, encoding: klingon}"),
        "domain.0.encoding: there is no encoding 'klingon'",
        4,
        "write utf-8, gb18030, big5, cp1252 or the like, or leave it out: it is then detected",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_three_lines_with_its_line_and_exit_2(project: Path, mistake: str) -> None:
    (old, new), what, line, fix = MISTAKES[mistake]
    assert GOOD.count(old) == 1
    (project / "spec.yaml").write_text(GOOD.replace(old, new))
    [(told, where, remedy)] = refused(project).errors
    assert (told, where) == (what, f"spec.yaml:{line}")
    assert remedy.startswith(fix)


def test_a_file_in_another_encoding_is_told_with_its_line(project: Path) -> None:
    (project / "spec.yaml").write_bytes(
        GOOD.replace("  learning", "  # 学习率\n  learning").encode("gb18030")
    )
    assert refused(project).errors == [
        ("the file is not UTF-8", "spec.yaml:11", "save it as UTF-8 (no other encoding is read here)")
    ]


def test_all_mistakes_of_a_file_come_at_once_in_its_order(project: Path) -> None:
    text = GOOD
    wanted = []
    for mistake, ((old, new), what, _, _) in MISTAKES.items():
        if mistake in ("YAML syntax", "setting of another method") or old not in text:
            continue
        text = text.replace(old, new)
        wanted.append(what)
    (project / "spec.yaml").write_text(text)
    errors = refused(project, "--set", "training.seed=-1").errors
    assert {what for what, _, _ in errors} == {*wanted, "training.seed is -1; it must be at least 0"}
    assert [where for _, where, _ in errors] == sorted(
        (where for _, where, _ in errors),
        key=lambda w: (w[0] == "-", int(w.rpartition(":")[2]) if ":" in w else 0),
    )


def test_a_mistake_on_the_command_line_is_placed_there(project: Path) -> None:
    assert refused(project, "--set", "mixture.replay_ratio=25%").errors == [
        (
            "mixture.replay_ratio must be a number, not the text '25%'",
            "--set mixture.replay_ratio=25%",
            "write 0.25",
        )
    ]


def test_a_variable_that_is_not_set_is_named(project: Path) -> None:
    (project / "spec.yaml").write_text(GOOD.replace("base: model", "base: $NO_SUCH/model"))
    assert refused(project).errors == [
        (
            "base names the environment variable NO_SUCH, which is not set",
            "spec.yaml:2",
            "run: export NO_SUCH=...",
        )
    ]


def test_a_variable_that_is_set_is_read(project: Path) -> None:
    (project / "spec.yaml").write_text(GOOD.replace("base: model", "base: $SUCH/model"))
    [(what, where, _)] = refused(project, SUCH="/nowhere").errors
    assert (what, where) == ("base: there is no folder $SUCH/model", "spec.yaml:2")


def test_a_specification_that_does_not_exist_is_told(project: Path) -> None:
    done = rootstock("run", "no/such.yaml", cwd=project, cold=True)
    assert done.code == 2
    assert done.errors == [
        (
            "cannot read the file: No such file or directory",
            "no/such.yaml",
            "check the path and its permissions",
        )
    ]
    assert done.heavy == set()


@pytest.mark.parametrize("verb", ["plan", "evaluate"])
def test_every_verb_that_reads_a_specification_refuses_it_alike(project: Path, verb: str) -> None:
    (project / "spec.yaml").write_text(GOOD.replace("kind: lora", "kind: lorra"))
    arguments = ["model", "spec.yaml"] if verb == "evaluate" else ["spec.yaml"]
    done = rootstock(verb, *arguments, cwd=project, cold=True)
    assert done.code == 2
    assert [what for what, _, _ in done.errors] == ["method.kind: there is no 'lorra'"]
    assert done.heavy == set()


def test_a_usage_mistake_exits_2_without_a_traceback(project: Path) -> None:
    for arguments in (["run"], ["run", "spec.yaml", "--nosuch"], ["nosuch"]):
        done = rootstock(*arguments, cwd=project, cold=True)
        assert done.code == 2
        assert "Traceback" not in done.err
        assert "Usage:" in done.err


def test_help_imports_nothing_heavy(project: Path) -> None:
    for arguments in (["--help"], ["run", "--help"], ["methods"], ["schema"]):
        done = rootstock(*arguments, cwd=project, cold=True)
        assert done.code == 0, done.err
        assert done.heavy == set(), arguments


def test_a_budget_that_cannot_be_is_told_at_its_option(project: Path) -> None:
    for budget in ("-1", "0", "nan", "inf"):
        done = rootstock("choose-replay", "spec.yaml", f"--budget={budget}", cwd=project, cold=True)
        assert done.code == 2
        assert done.errors == [
            (
                f"--budget is {budget}; it must be " + ("finite" if budget == "inf" else "above 0"),
                f"--budget={budget}",
                "write nats per token, such as --budget 0.05",
            )
        ]


def test_announce_tells_of_the_specification_before_it_looks_for_a_server(project: Path) -> None:
    done = rootstock("announce", "spec.yaml", cwd=project, cold=True)
    assert done.code == 2
    assert done.errors == [
        ("only a specification with increments can have new data", "spec.yaml", "add `increments: {}` to it")
    ]


@pytest.mark.parametrize("verb", ["compare", "compare-remedies"])
def test_comparisons_take_overrides_of_their_own_keys(project: Path, verb: str) -> None:
    (project / "some.yaml").write_text("name: some\nspec: spec.yaml\n")
    done = rootstock(verb, "some.yaml", "--set", "seedz=[1]", cwd=project, cold=True)
    assert done.code == 2
    assert ("seedz is not a key of the comparison", "--set seedz=[1]") in [(a, b) for a, b, _ in done.errors]


def test_a_file_that_was_probably_meant_is_named(project: Path) -> None:
    for given in ("spec.yml", "spce.yaml"):
        done = rootstock("run", given, cwd=project, cold=True)
        assert done.errors == [
            ("cannot read the file: No such file or directory", given, "did you mean spec.yaml?")
        ]


def test_a_specification_in_the_place_of_a_model_is_told(project: Path) -> None:
    done = rootstock("evaluate", "spec.yaml", "model", cwd=project, cold=True)
    assert done.code == 2
    assert done.errors == [
        (
            "the model comes first, then the specification",
            "spec.yaml model",
            "run: rootstock evaluate model spec.yaml",
        )
    ]


def test_an_override_that_another_would_undo_is_refused_whatever_their_order(project: Path) -> None:
    texts = ("method.r=32", "method={kind: full}")
    for first, second in (texts, texts[::-1]):
        done = rootstock("run", "spec.yaml", "--set", first, "--set", second, cwd=project, cold=True)
        assert (done.code, done.heavy) == (2, frozenset())
        [(what, where, fix)] = done.errors
        assert (what, where) == ("method.r is not a setting of 'full'", f"--set {texts[0]}")
        assert fix.endswith(f"; or leave out --set {texts[1]}")
