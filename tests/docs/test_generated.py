"""What the documents say is what the project is: keys, methods, verbs, commands, folders, links."""

import re
import shutil
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import typer
from pydantic import BaseModel, ValidationError

from data_contracts.lint import lint
from docs import generate
from flows.cli.main import app
from schemas.errors import ExitCode, UserErrors
from schemas.reading.explain import _models, _tag
from schemas.reading.load import load_spec
from schemas.reading.overrides import apply_overrides
from schemas.reading.yaml_reader import read_yaml
from schemas.spec.methods.union import Method
from schemas.spec.remedies import Remedy
from schemas.spec.run import RunSpec
from tasks.training.methods.registry import METHODS
from tasks.training.remedies.registry import ELSEWHERE, REMEDIES

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [
        *ROOT.glob("*.md"),
        *(p for d in ("docs", "assets", "runs", "benchmarks") for p in (ROOT / d).rglob("*.md")),
    ]
)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def code_of(page: Path) -> list[str]:
    """Every line of a code block and every code span of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line for block in blocks for line in block.splitlines()] + spans


def section(text: str, title: str) -> str:
    """A section of a page, without its heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"there is no section '{title}'"
    return found[1]


def first_cells(text: str) -> list[str]:
    """First code span of each row of the tables in a text."""
    return re.findall(r"^\| \[?`([^`]+)`", text, re.MULTILINE)


def reachable(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A schema and every schema inside it."""
    found = {model}
    for field in model.model_fields.values():
        for inner in _models(field.annotation):
            found |= reachable(inner)
    return found


def test_the_generated_pages_are_up_to_date() -> None:
    assert generate.stale(ROOT / "docs") == [], "run `make docs`"


def test_a_changed_page_is_stale_and_check_exits_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in generate.PAGES:
        shutil.copy(ROOT / "docs" / name, tmp_path / name)
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    assert generate.main(["--check"]) == 0
    with (tmp_path / "methods.md").open("a") as page:
        page.write("x")
    assert generate.main(["--check"]) == 1
    assert (tmp_path / "methods.md").read_text().endswith("x"), "--check must not write"
    assert generate.main([]) == 0
    assert generate.stale(tmp_path) == []


def test_every_schema_of_a_specification_has_a_section() -> None:
    assert set(generate.SECTIONS) == reachable(RunSpec)


@pytest.mark.parametrize(
    "model", sorted(reachable(RunSpec), key=lambda m: m.__name__), ids=lambda m: m.__name__
)
def test_every_key_is_documented_with_its_meaning(model: type[BaseModel]) -> None:
    rows = section(generate.specification(), generate.SECTIONS[model])
    assert first_cells(rows) == list(model.model_fields)
    for name, field in model.model_fields.items():
        assert name == "kind" or field.description, f"{model.__name__}.{name} has no description"


def test_types_defaults_and_limits_are_those_of_the_schema() -> None:
    rows = section(generate.specification(), "method lora")
    assert "| `r` | whole number | `16` | at least 1, at most 4,096 |" in rows
    assert "| `target_modules` | list of text or `all-linear` | `all-linear` |" in rows
    assert "| `kind` | `lora` | **required** |" in rows
    assert "| `learning_rate` | number | `0.0002` | above 0, at most 1 |" in section(
        generate.specification(), "training"
    )
    top = section(generate.specification(), "The whole file")
    assert "| `method` | [`full`](#method-full) or [`lora`](#method-lora)" in top
    assert "| `promotion` | [promotion](#promotion) | its defaults |" in top


def test_registry_schema_tags_and_documented_rows_are_the_same() -> None:
    tags = [_tag(settings) for settings in _models(get_args(Method)[0])]
    documented = first_cells((ROOT / "docs" / "methods.md").read_text(encoding="utf-8").split("\n## ")[0])
    assert list(METHODS) == tags == documented
    assert [_tag(entry.settings) for entry in METHODS.values()] == tags


def test_remedies_schema_tags_and_documented_rows_are_the_same() -> None:
    tags = [_tag(settings) for settings in _models(get_args(Remedy)[0])]
    page = (ROOT / "docs" / "forgetting.md").read_text(encoding="utf-8")
    assert list(REMEDIES) == tags == first_cells(page.split("\n## ")[0])


@pytest.mark.parametrize("setting", ELSEWHERE, ids=lambda setting: setting.name)
def test_every_remedy_that_is_switched_on_elsewhere_can_be(setting: Any) -> None:
    document = read_yaml(ROOT / "runs" / "quickstart.yaml")
    assert apply_overrides(document, [setting.how]) == []
    RunSpec.model_validate(document.value)


@pytest.mark.parametrize("rule", generate.ACROSS)
def test_every_rule_between_keys_is_enforced(rule: str) -> None:
    document = read_yaml(ROOT / "runs" / "quickstart.yaml")
    RunSpec.model_validate(document.value)
    assert apply_overrides(document, (), below=[[text] for text in generate.ACROSS[rule]]) == []
    with pytest.raises(ValidationError) as caught:
        RunSpec.model_validate(document.value)
    assert {error["type"] for error in caught.value.errors()} == {"value_error"}
    assert len(str(caught.value.errors()[0]["ctx"]["error"]).splitlines()) == 1, (
        "one rule is broken, not several"
    )


def test_the_mistake_in_the_quick_start_is_told_as_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")
    example = re.findall(r"^error: (.*)\n  where: .*\n  fix: (.*)$", page, re.MULTILINE)
    with pytest.raises(UserErrors) as caught:
        load_spec(ROOT / "runs/quickstart.yaml", ["method={kind: lora, rank: 8}"])
    assert example == [(e.what, e.fix) for e in caught.value.errors if e.where.startswith("--set")]


def commands() -> dict[str, click.Command]:
    """Every verb of the command line; those of a group with the group's name before them."""
    found: dict[str, click.Command] = {}
    top: Any = typer.main.get_command(app)
    for name, command in top.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {verb}": c for verb, c in inner.items()} if inner else {name: command}
    return found


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_verb_and_option_in_the_documents_exists(page: Path) -> None:
    known = commands()
    for line in code_of(page):
        for words in re.findall(r"(?:^|/|[:-] )rootstock ([^#`]+)", line):
            verb = " ".join(words.split()[:2]) if words.startswith("contract ") else words.split()[0]
            assert verb in known, f"rootstock {verb}: {line}"
            options = {name for option in known[verb].params for name in option.opts}
            unknown = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", words)) - options
            assert not unknown, f"rootstock {verb} has no {unknown}: {line}"


def test_every_verb_has_its_row_in_the_readme() -> None:
    rows = [row.split("rootstock ")[1] for row in first_cells(section(README, "What it can do today"))]
    told = [" ".join(row.split()[:2]) if row.startswith("contract ") else row.split()[0] for row in rows]
    assert sorted(told) == sorted(commands())


def test_the_two_commands_and_every_other_make_target_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    block = re.search(r"```sh\n(.*?)```", section(README, "Two commands"), re.DOTALL)
    assert block
    lines = [line.split("#")[0].split() for line in block[1].splitlines()]
    assert lines == [["make", "run"], ["make", "test"]]
    named = {
        t for page in PAGES for line in code_of(page) for t in re.findall(r"(?:^|`)make ([a-z-]+)", line)
    }
    assert {"run", "test"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {generate.anchor(heading) for heading in headings}, link


def test_every_folder_is_named_in_the_readme_and_exists() -> None:
    told = {name.rstrip("/") for name in first_cells(section(README, "Every folder"))}
    packages = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert packages <= told
    assert all((ROOT / name).is_dir() for name in told)


def yaml_of(page: str, start: str) -> str:
    """The YAML block of a page that begins with `start`."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if block.startswith(start))


def test_the_contract_in_the_guide_has_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "support_tickets.odcs.yaml"
    file.write_text(yaml_of("guides/contracts-in-ci.md", "apiVersion"), encoding="utf-8")
    assert lint(file) == []


def test_the_specification_in_the_quick_start_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "manuals.yaml"
    file.write_text(yaml_of("quickstart.md", "name: manuals"), encoding="utf-8")
    assert RunSpec.model_validate(read_yaml(file).value).name == "manuals"


def test_every_exit_code_is_explained() -> None:
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section(page, "The verdict"), re.MULTILINE)}
    assert told >= {int(code) for code in ExitCode}


@pytest.mark.parametrize("page", ["docs/architecture.md", "README.md", "docs/guides/adding-a-method.md"])
def test_every_file_of_the_project_that_a_page_names_exists(page: str) -> None:
    tops = "schemas|data_contracts|tasks|flows|runs|assets|tests|docs"
    new = {
        "tasks/training/methods/norm.py",
        "tasks/release.py",
    }  # an example, and the one that must not exist
    for name in re.findall(
        rf"`((?:{tops})/[\w./]*\w(?:\.\w+)?/?)`", (ROOT / page).read_text(encoding="utf-8")
    ):
        assert name in new or (ROOT / name).exists(), name
