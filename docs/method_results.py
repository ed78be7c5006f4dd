"""The table of the quick start with every method, from what `python -m benchmarks.methods` measured."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "benchmarks" / "results" / "methods.json"
TEXT = """
## The quick start with every method

`python -m benchmarks.methods` runs `rootstock run runs/quickstart.yaml --set method.kind=NAME` for each: the same data,
mixture, tokens, seed and learning rate, which was chosen for full tuning. So the table shows that each method trains, what
it costs and what it keeps, on a model of 1.8 million parameters; it does not rank them. `rootstock compare` searches a
learning rate for each and gives intervals over seeds. Loss in nats per token; in brackets one-sided 95 % bounds over
documents. [What the counts mean](guides/counts.md).

"""


def results() -> str:
    """The section, or nothing where nothing was measured."""
    if not FILE.is_file():
        return ""
    from tasks.training.methods.registry import METHODS

    found = json.loads(FILE.read_bytes())
    rows = [_row(kind, result) for kind, result in found["methods"].items() if "refused" not in result]
    names = [name for name in next(iter(found["methods"].values()))["losses"] if name != "domain"]
    head = ["method", "domain loss", "fell by", *(f"{name} rose by" for name in names), "verdict", "trainable", "changed", "added",
            "rank of the difference", "stored", "peak memory"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |", *rows]
    refused = [f"- `{k}`: {r['refused']}" for k, r in found["methods"].items() if "refused" in r]
    notes = ["", "Refused on this base, before training:", "", *refused] if refused else []
    waiting = [k for k, m in METHODS.items() if k not in found["methods"] and not m.settings.needs_task_head]
    if waiting:
        notes += ["", f"Not measured yet: {', '.join(f'`{kind}`' for kind in waiting)}."]
    machine = found["machine"]
    return TEXT + "\n".join(
        [*lines, *notes, "", f"Measured on {machine['cpu']}, {machine['cores']} cores.", ""]
    )


def _row(kind: str, result: dict[str, Any]) -> str:
    from tasks.release.pages.templates import short, size

    p, losses = result["parameters"], result["losses"]
    rules = {rule["suite"]: rule for rule in result["rules"] if rule["against"] == "base"}
    domain = f"{losses['domain'][0]:.3f} → {losses['domain'][1]:.3f}"
    cells = [
        f"[`{kind}`](#{kind})", domain,
        *(f"{r['estimate']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in rules.values()),
        result["verdict"], short(p["trainable"]), short(p["changed"]), short(p["added"]),
        f"{p['ranks']['median']:g}" if p["ranks"] else "-", size(p["stored_bytes"]), size(result["peak_memory_bytes"]),
    ]  # fmt: skip
    return "| " + " | ".join(cells).replace("-0.000", "0.000") + " |"
