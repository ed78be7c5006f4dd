"""What `plan` says of the rows is what the run then does with them."""

import json
from pathlib import Path

import pytest

from tests.command_line import ROOT, rootstock
from tests.toy_sums import sums_spec, write_sums


@pytest.mark.slow
def test_the_plan_counts_rows_as_the_ledger_of_the_run_does(tmp_path: Path) -> None:
    write_sums(tmp_path)
    with (tmp_path / "train.jsonl").open("a") as out:
        first = (tmp_path / "train.jsonl").read_text().splitlines()[:3]
        asked = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()[:5]]
        leaked = [json.dumps({"query": row["question"], "response": "another"}) for row in asked]
        out.write("".join(f"{line}\n" for line in [*first, *leaked, "{broken"]))
    spec = sums_spec(tmp_path, ROOT / "assets/base", "loss", training={"steps": 2})
    spec["domain"][0]["contract"] = str(tmp_path / "lax.odcs.yaml")
    lax = (
        (ROOT / "data_contracts/instruction.odcs.yaml")
        .read_text()
        .replace("    value: 0\n", "    value: 0.1\n")
    )
    (tmp_path / "lax.odcs.yaml").write_text(lax)
    (tmp_path / "sums.yaml").write_text(json.dumps(spec))
    plan = rootstock("plan", "sums.yaml", "--json", cwd=tmp_path).json()
    done = rootstock("run", "sums.yaml", "--no-prefect", cwd=tmp_path)
    assert done.code in (0, 10, 11), done.err
    (run,) = (tmp_path / ".rootstock/runs").iterdir()
    assert run.name == plan["run"]
    files = json.loads((run / "ledger.json").read_bytes())["files"]

    def counted(place: str, *roles: str) -> int:
        return sum(file[place] for file in files if not roles or file["role"] in roles)

    for place in ("read", "quarantined", "duplicate", "leaked", "held_out"):
        assert plan[f"rows {place.replace('_', ' ')}"] == counted(place), place
    assert plan["rows trained on"] == counted("accepted", "domain", "replay") == 160 + 40
    suites = counted("accepted", "domain_suite", "general_suite")
    assert plan["rows scored"] == counted("held_out") + suites == 40 + 40
    assert (plan["rows duplicate"], plan["rows leaked"], plan["rows quarantined"]) == (3, 5, 1)
    parts = ("trained on", "scored", "quarantined", "duplicate", "leaked")
    assert plan["rows read"] == sum(plan[f"rows {part}"] for part in parts)
    assert f"<b>{counted('accepted'):,}</b>" in (run / "report.html").read_text()
