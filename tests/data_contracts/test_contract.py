import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from data_contracts.contract import FOLDER, contract_sha256, list_contracts, load_contract
from schemas.errors import UserErrors

HEAVY = ("torch", "great_expectations", "pandas", "prefect", "pyarrow")


def test_the_shipped_contracts_are_listed_by_name() -> None:
    assert {"domain_text", "general_text"} <= list_contracts().keys()


def test_a_contract_loads_by_name_and_by_path_alike() -> None:
    assert load_contract("general_text") == load_contract(FOLDER / "general_text.odcs.yaml")


def test_the_hash_is_that_of_the_file() -> None:
    file = FOLDER / "domain_text.odcs.yaml"
    assert contract_sha256(load_contract("domain_text")) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(UserErrors) as caught:
        load_contract("domain_txt")
    assert caught.value.what == "there is no contract 'domain_txt'"
    assert caught.value.where == "domain_txt"
    assert "did you mean domain_text?" in caught.value.fix


def test_a_contract_with_mistakes_does_not_load_and_all_are_told(tmp_path: Path) -> None:
    file = tmp_path / "bad.odcs.yaml"
    text = (FOLDER / "domain_text.odcs.yaml").read_text()
    file.write_text(text.replace("severity: info", "severity: low").replace("mostly: 0.8", "mostly: 80"))
    with pytest.raises(UserErrors) as caught:
        load_contract(file)
    assert len(caught.value.errors) == 2


def test_the_tolerated_share_is_exact() -> None:
    allowed = {rule.id: rule.allowed_ratio for rule in load_contract("domain_text").rules}
    assert (allowed["text_decoded"], allowed["text_not_short"], allowed["text.required"]) == (0.01, 0.2, 0.0)


def test_the_share_of_unreadable_rows_is_read_from_the_contract(tmp_path: Path) -> None:
    file = tmp_path / "lax.odcs.yaml"
    file.write_text(
        (FOLDER / "domain_text.odcs.yaml").read_text().replace("    value: 0\n", "    value: 0.25\n")
    )
    assert (
        load_contract("domain_text").max_quarantined_ratio,
        load_contract(file).max_quarantined_ratio,
    ) == (0, 0.25)


def test_listing_contracts_imports_nothing_heavy_and_loading_no_data_frames() -> None:
    code = f"""
import sys, data_contracts.contract as c
c.list_contracts()
print([m for m in {HEAVY} if m in sys.modules])
c.load_contract("domain_text")
print([m for m in {HEAVY[:4]} if m in sys.modules])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n[]\n"
