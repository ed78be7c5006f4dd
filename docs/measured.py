"""Sections of the pages that say what was measured; empty where nothing was."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def _read(name: str) -> dict[str, Any] | None:
    file = RESULTS / name
    return json.loads(file.read_bytes()) if file.is_file() else None


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['estimate']:+.3f} ({estimate['low']:+.3f} to {estimate['high']:+.3f})"


def stories_results() -> str:
    """Every method on stories260K against the frozen base."""
    found = _read("compare_stories.json")
    if found is None:
        return ""
    done = [row for row in found["rows"] if row["refused"] is None]
    beaten = [row for row in done if row["gain"]["low"] > 0]
    least = min(done, key=lambda row: row["gain"]["low"])
    failed = [row["label"] for row in done if row not in beaten]
    edges = [row for row in done if row["rate_at_edge"]]
    lines = [
        "\n## Every method on a real tiny model\n",
        "`rootstock compare runs/compare/stories.yaml`: stories260K learns Tiny Shakespeare, two learning rates tried for each",
        f"method, {len(found['comparison']['seeds'])} seeds. Of the {len(done)} methods that run there {len(beaten)} are better"
        " than the frozen base with an interval",
        f"that excludes zero; the least of them by {_interval(least['gain'])} nats per token (`{least['label']}`)."
        + (f" Not: {', '.join(failed)}." if failed else ""),
        f"With {len(edges)} of them the better rate was the first or last of those tried"
        + (": ranks among them say little, that they beat the base does not depend on it." if edges else "."),
        "Refused there: " + ", ".join(f"`{row['label']}`" for row in found["rows"] if row["refused"]) + ".",
        "[The table](../benchmarks/results/compare_stories.md).\n",
    ]
    return "\n".join(lines)


def _page(name: str, title: str, about: str = "") -> str:
    """A page of results under a title of its own, `about` before it; empty where nothing was measured."""
    file = RESULTS / f"{name}.md"
    if not file.is_file():
        return ""
    text = file.read_text(encoding="utf-8").replace(f"]({name}.svg)", f"](../benchmarks/results/{name}.svg)")
    if text.startswith("# "):
        _, _, text = text.partition("\n\n")
    return f"\n## {title}\n\n{about}{text.rstrip()}\n"


def adapter_results() -> str:
    """What dropping adapters and fusing them does."""
    return _page("adapter_drop", "Dropping adapters, measured") + _page("fusion", "Fusing adapters, measured")


ENCODER_TASKS = {
    "spam_minilm": "spam or not (macro F1), 100 examples, MiniLM",
    "names_minilm": "chemicals and diseases (entity F1), 300 sentences, MiniLM",
    "spam_tiny": "spam or not (macro F1), all examples, an earlier tiny encoder",
    "intents_tiny": "77 intents (accuracy), the earlier tiny encoder",
    "names_tiny": "chemicals and diseases (entity F1), all sentences, a tiny encoder (`benchmarks.tiny_encoder`)",
}
"""Results of benchmarks.heads -> what was asked."""


EARLIER = (
    " Measured before new heads began at the frequencies of their labels, on an encoder that was trained a quarter as long as"
    " today's."
)
WHY = {
    "spam_minilm": "Why: 100 steps on a hundred messages, about thirteen of them spam. With `adapter_parallel`, `lisa`, `bitfit`,"
    " `adapter_drop` and `mam` one of the three seeds ended with ham for every text, the other two between 0.885 and 0.967."
    " `prefix_tuning` gave ham for all at each of four rates, and so did `diff_pruning`: for the reasons given with names, below.",
    "names_minilm": "Why: 40 steps on 300 sentences, in which a head alone finds nearly half of the entities already. `unipelt` found"
    " none in one of the three seeds; `diff_pruning` for the reason given with the tiny encoder, below.",
    "names_tiny": "Why: `diff_pruning` trains a mask over all weights, then half a percent of them in the last quarter of the"
    " steps, when the learning rate has nearly decayed: it finds no entity, and in five times the steps hardly one (F1 0.017, one"
    " seed). `prefix_tuning` begins with prefixes that a network makes from chance: in five times the steps it has 0.261 (one seed)."
    " Others train little beside the head, or are not told apart with three seeds.",
    "spam_tiny": "Why: spam is told by single words, which a frozen body shows nearly as well, and with so few rows and three"
    " seeds the bounds are wide; it has 128 positions, which the texts fill, so nothing was left for virtual tokens."
    + EARLIER,
    "intents_tiny": "Why: 600 steps of about ten questions are one short training of a small encoder, and the search goes in"
    " steps of five: what needs a rate between 0.001, where it hardly moves, and 0.005, where it no longer learns"
    " (`prefix_tuning`, `mam`, `adapter_parallel`; in some seeds `qlora` and `unipelt`), or trains little beside its head"
    " (`bitfit`, `fisher`, virtual tokens) is not ahead of a head yet. With 200 steps 8 methods were."
    + EARLIER,
}
"""Where methods are not ahead, the reason."""


def encoder_results() -> str:
    """Every method with a head on an encoder, against a head on the frozen body."""
    parts = [_encoder_part(name, what) for name, what in ENCODER_TASKS.items() if _read(f"{name}.json")]
    if not parts:
        return ""
    head = (
        "\n## Every method with a head\n\n`python -m benchmarks.heads`: each method against a new head on the frozen body, two"
        " learning rates tried for each and more where the best was an edge, three seeds.\n\n"
    )
    missing = [what for name, what in ENCODER_TASKS.items() if not _read(f"{name}.json")]
    if missing:
        parts.append(f"- Not measured yet: {'; '.join(missing)}.\n")
    return head + "".join(parts)


def _encoder_part(name: str, what: str) -> str:
    found = _read(f"{name}.json")
    assert found is not None
    rows = [r for r in found["rows"] if r["refused"] is None and r["ahead_of_reference"] is not None]
    rows.sort(key=lambda row: -row["ahead_of_reference"]["estimate"])
    ahead = [r for r in rows if r["ahead_of_reference"]["low"] > 0]
    rest = [f"`{r['label']}` {_interval(r['ahead_of_reference'])}" for r in rows if r not in ahead]
    refused = [
        f"`{r['label']}` ({r['refused'].split('(')[0].strip()})" for r in found["rows"] if r["refused"]
    ]
    best = f"`{rows[0]['label']}` by {_interval(rows[0]['ahead_of_reference'])} {rows[0]['unit']}"
    level = [f"`{r['label']}`" for r in rows if r["gain"]["low"] <= 0]
    return (
        f"- **{what}**: {len(ahead)} of {len(rows)} methods are ahead with an interval that excludes zero, the best {best}."
        + f" Against the frozen base, which has no head and whose yardstick is one answer for all, {len(rows) - len(level)} are"
        + (f" (not {', '.join(level)})." if level else ".")
        + (f" Not told apart, or behind: {'; '.join(rest)}." if rest else "")
        + (f" Refused: {'; '.join(refused)}." if refused else "")
        + (f" {WHY[name]}" if name in WHY else "")
        + f" [The table](../benchmarks/results/{name}.md).\n"
    )


CANDIDATES: dict[str, tuple[str, ...]] = {
    "ewc": ("ewc",),
    "distillation": ("distillation on replay", "distillation on all"),
    "weight_averaging": ("weight averaging",),
    "ema": ("ema",),
    "loss_weighting": ("loss weighting",),
    "easy_samples": ("easy samples",),
    "domain_adversarial": (),
    "self_replay": ("self-written replay",),
    "step_scaling": ("step scaling",),
    "experience replay": ("replay", "replay 5 %"),
    "replay sources by size": ("replay sources by size",),
    "replay documents like the domain, or unlike it": ("towards the domain", "away from the domain"),
    "L2-SP": ("l2_sp",),
    "decay towards the base": ("decay to base",),
    "freezing of layers": ("two layers train",),
    "orthogonal subspace": ("orthogonal subspace",),
    "low-rank updates": ("low rank",),
    "warming up and decaying again in each increment": ("warm-up and cosine",),
    "infinite learning rate": ("infinite schedule",),
    "warm-up, stable, decay": ("warm-up stable decay",),
}
"""Remedy of the registry -> the candidates of runs/remedies/stories.yaml that show what it does; heads are measured apart."""


def shown_to_help(remedy: str) -> bool | None:
    """Whether every row of its candidates forgets less, with intervals that exclude zero, also at the same gain where that
    is measured; None if there is no row."""
    if remedy == "domain_adversarial":
        return _shown_on_text_heads(remedy)
    found = _read("remedies.json")
    if found is None:
        return None
    names = [candidate["name"] for candidate in found["comparison"]["candidates"]]
    rows = [row for row in found["rows"] if names[row["candidate"]] in CANDIDATES[remedy]]
    intervals = [e for row in rows for key in ("kept", "kept_at_gain") for e in row[key].values()]
    return all(interval["low"] > 0 for interval in intervals) if rows else None


def _shown_on_text_heads(remedy: str) -> bool | None:
    """The same of what is measured by benchmarks.domain_adversarial, at every strength."""
    found = _read("domain_adversarial.json")
    if found is None:
        return None
    arms = [arm for name, arm in found["forgetting"].items() if name.split(",")[0] == remedy]
    return all(arm["old minus replay alone"]["low"] > 0 for arm in arms)


def forgetting_results() -> str:
    """Remedies and a controller against their controls, and five increments: a naive chain against the defaults."""
    remedies = (
        "`python -m benchmarks.remedies` on stories260K: Tiny Shakespeare is the domain, the model's own stories are what"
        " it may forget. One tiny\nmodel and one pair of texts: try them on yours with `rootstock compare-remedies`. A"
        " remedy of which nothing was shown is experimental.\n\n"
    )
    text_heads = (
        "`python -m benchmarks.domain_adversarial`: `domain_adversarial` against the same replay without it, and"
        " `mixture.class_temperature`\nagainst none. One tiny model: try them on yours. What was not shown is experimental.\n\n"
    )
    return (
        _page("remedies", "What they do, measured", remedies + _in_short())
        + _controller_results()
        + _page("domain_adversarial", "Text heads, measured", text_heads)
        + _page("increments", "Over five increments, measured")
    )


def _in_short() -> str:
    """What the table of remedies says, in three sentences."""
    found = _read("remedies.json")
    if found is None:
        return ""
    rows = [row for row in found["rows"] if not row["control"] and row["kept_at_gain"]]
    kept = sorted(((_least(row["kept_at_gain"]), row["label"]) for row in rows), reverse=True)
    more = [f"{label} ({value:+.2f})" for value, label in kept if value > 0]
    no_more = [label for value, label in kept if value <= 0]
    return (
        "- Kept beyond what training less keeps at the same gain, in nats per token (lower bounds), the most first: "
        + ", ".join(more)
        + ".\n- Nothing kept beyond that: "
        + ", ".join(no_more)
        + ".\n- The placebo, more domain text in place of the replay, keeps nothing. Other English keeps a little, as it is"
        " of the language that the stories are in; Chinese keeps nothing.\n\n"
    )


def _least(intervals: dict[str, dict[str, float]]) -> float:
    """Lower bound on the suite where it is least."""
    return min(interval["low"] for interval in intervals.values())


def _controller_results() -> str:
    """A controller of the replay ratio against fixed ratios."""
    found = _read("controller.json")
    if found is None:
        return ""
    held = any(part["wins"] for part in found["budgets"])
    head = (
        "\n## A ratio that changes while training, measured\n\n`python -m benchmarks.controller` on stories260K, at equal domain"
        " tokens: a PI controller that probes general text every few steps\n(bounds, rate limit, anti-windup, then cuts of the"
        " learning rate, then stop) against fixed ratios."
        + ("" if held else " It is left off: Rootstock has no such setting.")
        + " [The table](../benchmarks/results/controller.md).\n\n"
    )
    return head + "".join(
        f"- Budget {part['budget']:g} nats: {part['sentence']}\n" for part in found["budgets"]
    )
