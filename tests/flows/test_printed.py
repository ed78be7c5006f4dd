"""What is printed is what is meant: texts of users and data give no order to a terminal, a build server or a page."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from flows.progress.terminal import Pieces
from flows.progress.watch import Console
from schemas.commands import command
from schemas.errors import UserError
from tasks.release.pages.markdown import code, inline
from tasks.release.registry import versions as registry
from tests.in_process import rootstock_here

ROOT = Path(__file__).parents[2]
ORDER = re.compile(r"^\s*::|##\[|##vso\[|##teamcity\[", re.MULTILINE)
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = r"first\r\n::error::forged\e[2J\u202E\u2028##[error]x \u0085\0\x9b31m \uFFFE"
"""As a quoted YAML text writes it."""
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: hostile
name: hostile
version: "1.0\\e[31m"
status: active
schema:
  - name: rows
    logicalType: object
    physicalType: rows
    quality:
      - {id: many, description: "%s", severity: critical, type: library, metric: rowCount, mustBeGreaterOrEqualTo: 99}
      - {id: some, description: "::warning::x", severity: warning, type: library, metric: rowCount, mustBeGreaterOrEqualTo: 98}
    properties:
      - {name: text, logicalType: string, required: true}
"""
NAME = "it's $(touch pwned) `touch pwned`; touch pwned.jsonl"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / NAME).write_text('{"text": "one row of text"}\n' * 3)
    folder = tmp_path / "my contracts"
    folder.mkdir()
    (folder / "h'ostile.odcs.yaml").write_text(CONTRACT % HOSTILE)
    return tmp_path


def assert_harmless(text: str) -> None:
    assert not HIDDEN.search(text), ascii(text)
    assert not ORDER.search(text), text


def test_a_contract_gives_no_order_to_ci_and_its_junit_is_xml(project: Path) -> None:
    contract = "my contracts/h'ostile.odcs.yaml"
    plain = rootstock_here("check", contract, "--data", NAME, "--junit", "junit.xml", cwd=project)
    assert plain.code == 1
    assert_harmless(plain.out)
    assert "forged" in plain.out
    annotated = rootstock_here("check", contract, "--data", NAME, "--github", cwd=project)
    orders = [line for line in annotated.out.splitlines() if line.lstrip().startswith("::")]
    assert [line.split(" ")[0] for line in orders] == ["::error", "::warning"]
    assert "%0D%0A::error::forged" in orders[0]
    assert not HIDDEN.search(annotated.out)
    cases = list(ElementTree.parse(project / "junit.xml").iter("testcase"))
    assert len(cases) == 4
    assert not HIDDEN.search((project / "junit.xml").read_text())


def test_the_command_of_a_remedy_does_what_it_says_and_nothing_else(project: Path) -> None:
    spec = {
        "name": "hostile",
        "base": {"from_scratch": {}},
        "domain": [{"path": NAME, "contract": "my contracts/h'ostile.odcs.yaml"}],
        "mixture": {"replay_ratio": 0},
        "training": {"steps": 1},
        "evaluation": {"domain_holdout": 0.5},
    }
    (project / "spec.yaml").write_text(json.dumps(spec))
    done = rootstock_here("run", "spec.yaml", "--no-prefect", cwd=project)
    assert done.code == 1, done.err
    fix = done.err.rpartition("  fix: ")[2]
    told = fix.partition("with: ")[2]
    assert told.startswith("rootstock check "), fix
    shell = f'rootstock() {{ {sys.executable} -P -m flows.cli.main "$@"; }}; {told}'
    again = subprocess.run(
        ["bash", "-c", shell], cwd=project, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert again.returncode == 1, again.stderr
    assert "h'ostile.many" in again.stdout
    assert not (project / "pwned").exists()
    assert not (project / "pwned.jsonl").exists()


@pytest.mark.parametrize("word", [NAME, "a\x1bb'\\", "\udcff.txt", "-x", "", "ä\u202e", "a\nb", "$HOME"])
def test_a_quoted_word_is_one_argument_of_a_shell(word: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command("printf", "%s", word)], capture_output=True, check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.stdout == os.fsencode(word)


@pytest.mark.parametrize("path", ["$SECRET/none/*.jsonl", "${SECRET}/none.txt", "here/$SECRET*.txt", "$SECRET/sub", "$SECRET/closed.txt"])  # fmt: skip
def test_what_a_variable_holds_is_not_printed_in_an_error(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "sk-token 4711"
    (secret / "sub").mkdir(parents=True)
    os.mkfifo(secret / "closed.txt")
    monkeypatch.setenv("SECRET", "token-4711" if path.startswith("here") else str(secret))
    done = rootstock_here("check", "domain_text", "--data", path, cwd=tmp_path)
    assert done.code == 2, done.err
    assert "4711" not in done.err
    spec = {"name": "a", "base": "$SECRET/model", "domain": [{"path": path, "contract": "domain_text"}]}
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    done = rootstock_here("run", "spec.yaml", cwd=tmp_path)
    assert done.code == 2, done.err
    assert "4711" not in done.err
    assert "SECRET" in done.err


def test_a_reason_is_no_markup(tmp_path: Path) -> None:
    state, folder = tmp_path / ".rootstock", tmp_path / ".rootstock" / "runs" / "a" / "model"
    folder.mkdir(parents=True)
    reason = "for [/board] and [bold]others[/bold] :smile: \x1b[2J\n::error::x"
    registry.register(state, "medical", "a", folder, "0" * 64, "0" * 64, "reject", forced=reason)
    done = rootstock_here("history", "medical", cwd=tmp_path)
    assert done.code == 0, done.err
    assert_harmless(done.out)
    unwrapped = "".join(re.sub(r"[│┃\s]", "", line) for line in done.out.splitlines())
    assert "[/board]" in unwrapped
    assert "[bold]" in unwrapped
    told = rootstock_here("history", "medical", "--json", cwd=tmp_path)
    assert not HIDDEN.search(told.out)
    assert told.json()[0]["forced by"] == reason
    missing = rootstock_here("history", "[/x]\x1b[2J", cwd=tmp_path)
    assert missing.code == 2
    assert_harmless(missing.err)


def test_notes_stages_and_errors_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Console()
    with watch.stage("[/stage] \x1b]0;title\x07"):
        watch.note("[/note] [red]x :boom:\n::error::x \x1b[2J")
    told = capsys.readouterr().err
    assert_harmless(told)
    assert "[/note] [red]x :boom:" in told
    error = str(UserError("a\n  where: nowhere", "b\r\x1b[A", "c\u2028::error::"))
    assert_harmless(error)
    assert len(error.split("\n")) == 3


def test_text_that_comes_in_pieces_gives_no_order(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = Pieces()
    text = "std::vector a:\n ::error::x\n#\n##[group]y ##vso[z] ## [\ttab\x1b[2J: ::\n:"
    for letter in text:
        pieces.say(letter)
    pieces.say("", last=True)
    told = capsys.readouterr().out
    assert_harmless(told)
    assert told.startswith(
        "std::vector a:\n \\x3a:error::x\n#\n\\x23#[group]y \\x23#vso[z] ## [\ttab\\x1b[2J: ::\n:"
    )


MARKDOWN = [
    "[l](javascript:alert(1))", "![i](http://elsewhere/x.png)", "<img src=x onerror=alert(1)>", "a|b", "`x` <b>", "[l]: x\n[l]",
    "*a* _b_ __c__ ~~d~~", "&lt;script&gt;", "<http://elsewhere>", "http://elsewhere www.elsewhere.org a@b.org", "\\[l](x)",
    "a\n\n# heading\n- list", "```\nfence", "| x |", "\\", "``", "$x$",
]  # fmt: skip


@pytest.mark.parametrize("text", MARKDOWN)
@pytest.mark.parametrize("write", [inline, code])
def test_markdown_takes_data_literally(text: str, write: Any) -> None:
    page = MarkdownIt("gfm-like", {"linkify": False}).render(
        f"| a | b |\n|---|---|\n| {write(text)} | 2 |\n\nx {write(text)}\n"
    )
    assert page.count("<td") == 2
    assert not re.search(r"<(a|img|em|strong|del|s|script|h1|li|b|pre)\b", page), page
    assert page.count("<p>") == 1


def test_addresses_are_no_links_of_themselves() -> None:
    told = inline("http://elsewhere www.elsewhere.org a@b.org")
    assert told == r"http\://elsewhere www\.elsewhere.org a\@b.org"


def test_there_is_one_way_to_the_terminal_and_one_to_a_table_of_the_page() -> None:
    """Whoever prints or makes a table elsewhere goes around what makes texts harmless."""
    found = set()
    for folder in ("flows", "tasks", "data_contracts", "schemas"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if "create_table_artifact" in text:
                found.add(("create_table_artifact", str(file.relative_to(ROOT))))
            for node in ast.walk(ast.parse(text)):
                name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
                if name in ("print", "RichConsole"):
                    found.add((name, str(file.relative_to(ROOT))))
    assert found == {
        ("print", "flows/progress/terminal.py"),
        ("print", "tasks/storage/stderr.py"),
        ("create_table_artifact", "tasks/page.py"),
    }
