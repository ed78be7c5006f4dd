"""What a method tells of its training (`Tuned.facts`: gates, ranks, draws), laid out for the report and the model card."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONG = 12
"""Rows of a table, or names of a list, from which on it is folded."""
_BLOCK = re.compile(r"(?:^|[._])(\d+)(?=[._]|$)[._]?")


@dataclass(frozen=True)
class Kind:
    """How one of a method's numbers for parts of the model is shown."""

    title: str
    what: str
    form: str = "{:,.0f}"
    top: float | None = None
    """What a full cell stands for; by default the largest number."""
    suffix: str = ""
    """End of every name that says nothing."""


KINDS = {
    "gates": Kind("Gates", "How far each gate is open, from 0 to 1: after training, the mean over the tokens of the first batches.", "{:.3f}", 1.0, "gate"),
    "ranks": Kind("Ranks", "How many singular values each matrix kept of its update."),
    "layer_steps": Kind("Steps of each layer", "In how many optimizer steps the draw let a layer train.", suffix="steps"),
    "gradient_norms": Kind("Gradient norms", "By which the layers were chosen: the mean before training.", "{:.4g}", suffix="norm"),
    "entries": Kind("Changed entries", "How many entries of each tensor differ from the base.", suffix="weight"),
}  # fmt: skip
TITLES = {"total": "changed entries", "distance_to_base": "distance of the weights to the base", "trained": "trained parameters"}  # fmt: skip
"""Of numbers and lists, where the key alone would say too little."""


@dataclass(frozen=True)
class Grid:
    """Numbers by block (down) and part of a block (across)."""

    kind: Kind
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    """(number of the block, a number or nothing for each column)"""
    rest: tuple[tuple[str, float], ...]
    """What belongs to no block."""

    @property
    def top(self) -> float:
        values = [v for _, row in self.rows for v in row if v is not None]
        return self.kind.top or max(values, default=0.0) or 1.0

    def written(self, value: float | None) -> str:
        return "\u2013" if value is None else self.kind.form.format(value)

    @property
    def means(self) -> tuple[tuple[str, str], ...]:
        """(column, mean over its blocks)"""
        columns = zip(*(row for _, row in self.rows), strict=True)
        return tuple(
            (name, _mean([value for value in column if value is not None]))
            for name, column in zip(self.columns, columns, strict=True)
        )


@dataclass(frozen=True)
class Told:
    """Everything that a method told."""

    numbers: tuple[tuple[str, str], ...]
    names: tuple[tuple[str, tuple[str, ...]], ...]
    """(what they are, names of parts of the model)"""
    grids: tuple[Grid, ...]

    def __bool__(self) -> bool:
        return bool(self.numbers or self.names or self.grids)


def told(facts: Mapping[str, Any]) -> Told:
    """Sort a method's facts by their form: a number, names, or a number for each named part."""
    numbers, names, grids = [], [], []
    for key, value in facts.items():
        title = TITLES.get(key, key.replace("_", " "))
        if isinstance(value, Mapping):
            if value:
                grids.append(grid(KINDS.get(key, Kind(title.capitalize(), "", "{:.4g}")), value))
        elif isinstance(value, int | float):
            numbers.append((title, f"{value:.4g}" if isinstance(value, float) else f"{value:,}"))
        else:
            names.append((title, tuple(map(str, value))))
    return Told(tuple(numbers), tuple(names), tuple(grids))


def grid(kind: Kind, values: Mapping[str, float]) -> Grid:
    """Lay out numbers by the block that their names have: `layers.3.mlp.up_proj`, `block_3_lora_gate` or `3`."""
    places = {name: _BLOCK.search(name) for name in values}
    before = {name[: place.start()] for name, place in places.items() if place}
    cells: dict[int, dict[str, float]] = {}
    for name, place in places.items():
        if place:
            part = (
                name[place.end() :] if len(before) == 1 else name[: place.start()] + "." + name[place.end() :]
            )
            cells.setdefault(int(place[1]), {})[part] = values[name]
    parts = list(dict.fromkeys(part for block in sorted(cells) for part in cells[block]))
    return Grid(
        kind,
        tuple(_short(parts, kind.suffix)),
        tuple((str(block), tuple(map(cells[block].get, parts))) for block in sorted(cells)),
        tuple((name, values[name]) for name, place in places.items() if not place),
    )


def _mean(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:,.0f}" if mean >= 1000 else f"{mean:.3g}"


def _short(parts: Sequence[str], suffix: str) -> list[str]:
    """As much of the ends of the names as tells them apart, without what every name ends in."""
    cut = [re.sub(rf"[._]?{suffix}$", "", part) if suffix else part for part in parts]
    named = [part or suffix or "value" for part in cut]
    for length in range(1, max(part.count(".") for part in named) + 2 if named else 0):
        tails = [".".join(part.split(".")[-length:]) for part in named]
        if len(set(tails)) == len(tails):
            return tails
    return list(parts)
