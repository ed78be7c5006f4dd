"""The model card says what a reader needs, and no file name can break it."""

from dataclasses import replace
from pathlib import Path

from schemas.reading.yaml_reader import parse_yaml
from schemas.results.artifacts import FileLedger, Ledger
from tasks.release.pages.card import write_card
from tasks.release.pages.markdown import code, inline
from tasks.training.models.judged import weights_sha256
from tests.release.conftest import MakeRun
from tests.release.made_up import made_up


def test_the_card_names_base_data_method_scores_verdict_and_licence(tmp_path: Path) -> None:
    report = made_up()
    write_card(tmp_path / "README.md", report)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for part in (
        "**Promote.** The candidate knows",
        "| Base | `Qwen/Qwen3-0.6B` |",
        "| Method | `lora`",
        "| `data/general/中文散文与游记.txt` | replay | 2,060 | 2,060 | 0 | 0 |",
        f"{report.scores.suites[0].nats_per_token('candidate'):.3f}",
        "| gain | medical | base | +0.431 |",
        "## Licence",
        report.lineage.weights,
    ):
        assert part in card


def test_the_front_matter_is_yaml_that_names_the_base(tmp_path: Path) -> None:
    write_card(tmp_path / "README.md", made_up())
    head = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert parse_yaml(head, "card").value["base_model"] == "Qwen/Qwen3-0.6B"
    assert parse_yaml(head, "card").value["library_name"] == "peft"


def test_every_table_row_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    report = made_up()
    odd = FileLedger(file="a|b`c\n|--|.txt", role="domain", source=0, read=1, accepted=1)
    write_card(tmp_path / "README.md", replace(report, ledger=Ledger(files=(odd,))))
    block: list[int] = []
    for line in [*(tmp_path / "README.md").read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            block.append(line.replace("\\|", "").count("|"))
            continue
        assert len(set(block)) <= 1
        block = []


def test_the_card_does_not_change_the_hash_of_the_weights(make_run: MakeRun) -> None:
    model = make_run("one") / "model"
    before = weights_sha256(model)
    write_card(model / "README.md", made_up())
    assert weights_sha256(model) == before


def test_data_is_taken_literally_in_markdown() -> None:
    assert code("a`b") == "`` a`b ``"
    assert code("a|b\nc") == "`a\\|b c`"
    assert inline("<b>*x*_y_") == "\\<b\\>\\*x\\*\\_y\\_"
