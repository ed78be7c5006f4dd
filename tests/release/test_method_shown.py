"""What a method tells of its training is in the report and in the model card."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.release.pages.card import write_card
from tasks.release.pages.method_told import KINDS, grid, told
from tests.release.made_up import made_up
from tests.release.test_report import HOSTILE, Page, render, words

GATES = {
    f"block_{n}_{part}": (n + 1) / (10 * m)
    for n in range(2)
    for m, part in enumerate(("prefix.gate", "lora_gate", "feed_forward.gate"), 1)
}
RANKS = {
    f"layers.{n}.{part}": n % 9
    for n in range(28)
    for part in ("self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj")
}


def section(tmp_path: Path, facts: dict[str, Any]) -> str:
    """The report's part about the method, as HTML."""
    html = render(tmp_path, replace(made_up(), method=facts))
    start = html.index('<section id="method">')
    return html[start : html.index("</section>", start)]


def card(tmp_path: Path, facts: dict[str, Any]) -> str:
    write_card(tmp_path / "README.md", replace(made_up(), method=facts))
    return (tmp_path / "README.md").read_text(encoding="utf-8")


def plain(html: str) -> str:
    """What a reader sees, long names in one piece."""
    return words(html.replace("<wbr>", "")).replace("  ", " ")


def rows(html: str) -> list[list[str]]:
    return [words(row).split() for row in re.findall("<tr>.*?</tr>", html, flags=re.DOTALL)]


def test_gates_stand_in_a_row_for_each_block(tmp_path: Path) -> None:
    html = section(tmp_path, {"gates": GATES})
    assert rows(html) == [
        ["Block", "prefix", "lora", "feed_forward"],
        ["0", "0.100", "0.050", "0.033"],
        ["1", "0.200", "0.100", "0.067"],
    ]
    assert re.findall(r"--full: (\d+)%", html) == ["10", "5", "3", "20", "10", "7"], "a bar is a share of 1"
    assert "2 blocks; on average prefix 0.15, lora 0.075, feed_forward 0.05" in plain(html)
    text = card(tmp_path, {"gates": GATES})
    assert (
        "| block | prefix | lora | feed_forward |\n|---|--:|--:|--:|\n| 0 | 0.100 | 0.050 | 0.033 |" in text
    )
    assert "<details>" not in text


def test_ranks_of_many_blocks_are_folded_and_their_sum_stands_before_them(tmp_path: Path) -> None:
    facts = {"ranks": RANKS, "total_rank": sum(RANKS.values())}
    html = section(tmp_path, facts)
    assert '<details class="card"><summary>Ranks' in html
    assert f"total rank {sum(RANKS.values())}" in words(html)
    assert rows(html)[0] == ["Block", "q_proj", "v_proj", "up_proj"]
    assert rows(html)[6] == ["5", "5", "5", "5"]
    assert len(rows(html)) == 29
    text = card(tmp_path, facts)
    assert f"total rank {sum(RANKS.values())}." in text
    assert "<details><summary>28 blocks</summary>\n\n| block | q_proj |" in text
    assert '<details class="card" open><summary>Gates' in section(tmp_path, {"gates": GATES})


def test_the_steps_that_each_layer_trained_are_shown(tmp_path: Path) -> None:
    html = section(tmp_path, {"layer_steps": {"0": 7, "1": 3, "10": 0}})
    assert rows(html) == [["Block", "steps"], ["0", "7"], ["1", "3"], ["10", "0"]]
    assert "on average 3.33" in words(html)


def test_names_and_what_belongs_to_no_block_are_listed(tmp_path: Path) -> None:
    facts = {"entries": {"model.layers.0.a.weight": 5, "model.embed.weight": 12_345}, "trained": ["x.y", "z"]}
    html = section(tmp_path, facts)
    assert rows(html) == [["Block", "a"], ["0", "5"]]
    assert "model.embed.weight 12,345" in plain(html)
    assert "Trained parameters 2 x.y z" in plain(html)
    text = card(tmp_path, facts)
    assert "besides `model.embed.weight` 12,345" in text
    assert "- `x.y`\n- `z`" in text


def test_a_method_that_tells_nothing_has_no_section(tmp_path: Path) -> None:
    for facts in ({}, {"ranks": {}}):
        assert 'id="method"' not in render(tmp_path, replace(made_up(), method=facts))
        assert "## The method" not in card(tmp_path, facts)


def test_names_that_only_their_beginnings_tell_apart_keep_them() -> None:
    names = ["encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense"]
    found = grid(KINDS["ranks"], dict.fromkeys(names, 1))
    assert found.columns == ("attention.output.dense", "output.dense")
    both = grid(KINDS["ranks"], {"encoder.block.0.q": 1, "decoder.block.0.q": 2, "decoder.block.1.q": 3})
    assert both.rows == (("0", (1, 2)), ("1", (None, 3)))
    assert both.columns == ("encoder.block.q", "decoder.block.q")
    assert both.written(None) == "\u2013"


def test_what_no_one_has_described_is_shown_under_its_own_name() -> None:
    (unknown,) = told({"new_numbers": {"layers.0.x": 0.25}}).grids
    assert (unknown.kind.title, unknown.written(0.25)) == ("New numbers", "0.25")
    assert told({"some_number": 1234567}).numbers == (("some number", "1,234,567"),)


def test_no_name_breaks_the_page(tmp_path: Path) -> None:
    facts = {"entries": {HOSTILE: 1, f"layers.0.{HOSTILE}": 2}, "trained": [HOSTILE], "total": 3}
    html = render(tmp_path, replace(made_up(), method=facts))
    assert Page(html).open == []
    assert "<script" not in html
