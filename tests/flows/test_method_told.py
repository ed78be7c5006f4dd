"""What a method tells of a real training reaches the report and the card in the run's folder."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flows.progress.watch import Silent
from flows.run.journey import follow
from schemas.results.artifacts import Lineage
from tests.command_line import ROOT
from tests.corpora import here, make_spec, source, write_rows
from tests.tiny_base import prose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    write_rows(folder / "domain.jsonl", [line[:200] for line in prose("en_*")])
    write_rows(folder / "general.jsonl", [line[:200] for line in prose("zh_*")[:20]])
    return folder


@pytest.mark.parametrize(
    ("method", "fact", "form"),
    [
        ({"kind": "unipelt", "size": 4, "r": 2, "prefix_length": 2}, "gates", "{:.3f}"),
        ({"kind": "adalora", "init_r": 4, "target_r": 2}, "ranks", "{}"),
        ({"kind": "lisa", "layers": 1, "interval": 2}, "layer_steps", "{}"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_it_stands_in_the_report_and_in_the_card(
    files: Path, method: dict[str, Any], fact: str, form: str
) -> None:
    spec = make_spec(
        base=str(ROOT / "assets" / "base"), domain=[source(files / "domain.jsonl")], method=method,
        evaluation={"domain_holdout": 0.2, "general": [source(files / "general.jsonl")]},
        training={"steps": 8, "learning_rate": 1e-2},
    )  # fmt: skip
    outcome = follow(spec, files / "state", Silent(), map_shards=here)
    lineage = Lineage.model_validate_json((outcome.folder / "lineage.json").read_bytes())
    step = files / "state" / "data" / f"train-{lineage.steps['train'][:20]}"
    facts = json.loads((step / "manifest.json").read_bytes())["facts"]
    told = {form.format(value) for value in facts["method"][fact].values()}
    report = (outcome.folder / "report.html").read_text(encoding="utf-8")
    shown = report[report.index('<section id="method">') :]
    shown = shown[: shown.index("</section>")]
    assert set(re.findall(r'<td class="num"[^>]*>([^<]+)</td>', shown)) == told
    card = (outcome.folder / "model" / "README.md").read_text(encoding="utf-8")
    lines = [
        line for line in card.split("## The method")[1].split("## Data")[0].splitlines() if line[:1] == "|"
    ]
    assert {cell.strip() for line in lines[2:] for cell in line.strip("|").split("|")[1:]} == told
