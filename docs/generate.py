"""Write docs/specification.md, methods.md and forgetting.md from the schemas and the registries, so that none goes stale.

`python -m docs.generate` rewrites them; `--check` writes nothing and exits 1 if one is stale.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from docs.method_results import results
from schemas.base_model import FromScratch, Scratch, Tokenizer
from schemas.evaluation import Evaluation
from schemas.increments import Increment, Increments, PastRows, PickedSource
from schemas.mixture import Mixture, Proxies
from schemas.objectives import (
    InstructionTuning,
    LanguageModeling,
    MultiTask,
    Task,
    TextClassification,
    TokenClassification,
)
from schemas.promotion import Promotion
from schemas.run import RunSpec
from schemas.sources import Columns, Source
from schemas.training import Training
from tasks.training.methods.registry import METHODS
from tasks.training.remedies.registry import ELSEWHERE, REMEDIES

DOCS = Path(__file__).parent
EXAMPLE = DOCS.parent / "runs" / "quickstart.yaml"

SECTIONS: dict[type[BaseModel], str] = {
    RunSpec: "The whole file",
    FromScratch: "base from scratch",
    Scratch: "base.from_scratch",
    Tokenizer: "base.from_scratch.tokenizer",
    LanguageModeling: "objective language_modeling",
    InstructionTuning: "objective instruction",
    TextClassification: "objective text_classification",
    TokenClassification: "objective token_classification",
    MultiTask: "objective multi_task",
    Task: "A task of multi_task",
    Source: "A source of data",
    Columns: "columns of a source",
    Mixture: "mixture",
    Proxies: "mixture.proxies",
    **{entry.settings: f"method {kind}" for kind, entry in METHODS.items()},
    **{entry.settings: f"remedy {kind}" for kind, entry in REMEDIES.items()},
    Training: "training",
    Evaluation: "evaluation",
    Promotion: "promotion",
    Increments: "increments",
    Increment: "increment (written by Rootstock)",
    PickedSource: "A source of an increment",
    PastRows: "Rows of an earlier increment",
}
"""Every schema that a specification is made of, in reading order, and the title of its section."""

_NO_REPLAY = ("mixture.replay_ratio=0", "replay=[]", "evaluation.general=[]")
LABELLED = ("objective={kind: text_classification}", "domain=[{path: a.csv, contract: c}]", *_NO_REPLAY)
ASKED = (
    "objective={kind: instruction, metric: exact_match}",
    "domain=[{path: a.jsonl, contract: c}]",
    "evaluation.general=[{path: b.txt, contract: c, record: text}]",
    *_NO_REPLAY[:2],
)
TAGGED = ("objective={kind: token_classification}", "domain=[{path: a.conll, contract: c}]", *_NO_REPLAY)

_SCRATCH = ("base={from_scratch: {}}", "evaluation.general=[]")

ACROSS: dict[str, tuple[str, ...]] = {
    "Give exactly one of `base` and `base_from`.": ("base_from=champion",),
    "A model from scratch trains with method `full`.": (
        "base={from_scratch: {}}",
        "evaluation.general=[]",
        "method={kind: lora}",
    ),
    "A model from scratch has nothing to forget: no `evaluation.general`.": ("base={from_scratch: {}}",),
    "`mixture.replay_ratio` above 0 needs `replay`. At 0 the replay sources are not read,"
    " unless a remedy measures on them.": ("replay=[]",),
    "Give at most one of `mixture.replay_ratio` and `mixture.forgetting_budget`.": (
        "mixture.forgetting_budget=0.01",
    ),
    "`mixture.proxies` belongs to `mixture.forgetting_budget`.": ("mixture.proxies={}",),
    "`mixture.forgetting_budget` needs `replay`, a base that exists, an objective without a head, and a"
    " `promotion.max_forgetting` that is not below it.": ("mixture={forgetting_budget: 99}",),
    "Give exactly one of `evaluation.domain_holdout` and `evaluation.domain`.": (
        "evaluation.domain_holdout=null",
    ),
    "Any other language model needs at least one `evaluation.general` suite: it measures forgetting. With a head there may"
    " be none; if there are, they hold rows with the same labels.": ("evaluation.general=[]",),
    "With a head, thresholds of `promotion` are fractions of 1.": (
        *LABELLED,
        "promotion.min_gain=2",
    ),
    "`instruction` and `text_classification` read csv, tsv, json and jsonl; `token_classification` conll, json and jsonl;"
    " `language_modeling` anything but conll.": (*LABELLED, "domain.0.path=a.txt"),
    "`record: text` belongs to replay sources and general suites of objective `instruction`.": (
        *ASKED,
        "domain.0.record=text",
    ),
    "`prompt` and `response` of `columns` are given together, or not at all.": (
        *ASKED,
        "domain.0.columns={prompt: q}",
    ),
    "With metric `exact_match`, general suites are all text (`max_forgetting` is in nats per token) or all instructions"
    " (fractions of 1); `min_gain` is a fraction of 1.": (
        *ASKED,
        "evaluation.general=[{path: b.txt, contract: c, record: text}, {path: c.jsonl, contract: c}]",
    ),
    "`max_new_tokens` belongs to metric `exact_match`.": (
        *ASKED,
        "objective={kind: instruction, max_new_tokens: 9}",
    ),
    "A model from scratch is trained with `language_modeling` or a head, not with `instruction`.": (
        *ASKED,
        "base={from_scratch: {}}",
        "evaluation.general=[]",
    ),
    "`columns` names only fields that the objective reads, each with a column of its own.": (
        *LABELLED,
        "domain.0.columns={tags: x}",
    ),
    "`task` belongs to sources of `multi_task`; there every source has one, and every task a source of `domain` (and of"
    " `evaluation.domain`, if that is given).": ("domain.0.task=spam",),
    "`per_task` of method `adapter_pfeiffer` belongs to `multi_task`.": (
        "method={kind: adapter_pfeiffer, per_task: true}",
    ),
    "Columns of one source are all names or all numbers; numbers mean a csv or tsv file without a header.": (
        *LABELLED,
        "domain.0.columns={text: 2}",
    ),
    "A conll file has no names of columns: give the numbers of both, or neither, and no `group`.": (
        *TAGGED,
        "domain.0.columns={tags: 3}",
    ),
    "`mixture.temperature` and `mixture.importance` need a `mixture.replay_ratio` above 0; `temperature` needs two or more"
    " replay sources.": ("mixture.replay_ratio=0", "mixture.importance=towards_domain"),
    "Each remedy is named once, and a remedy that measures on general text needs `replay`.": (
        "remedies=[{kind: ewc}]",
        "mixture.replay_ratio=0",
        "replay=[]",
    ),
    "A remedy works with the methods and objectives that it names; see [the remedies](forgetting.md).": (
        "remedies=[{kind: ewc}]",
        "method={kind: vera}",
    ),
    "`distillation` on replay and `loss_weighting` need a `mixture.replay_ratio` above 0.": (
        "remedies=[{kind: loss_weighting}]",
        "mixture.replay_ratio=0",
    ),
    "`ema` is named before `weight_averaging`, which acts on what is deployed.": (
        "remedies=[{kind: weight_averaging}, {kind: ema}]",
    ),
    "`decay_ratio` belongs to the schedules `wsd` and `infinite`; `cooldown_ratio`, `constant_ratio` and `min_ratio` to"
    " `infinite`.": ("training.decay_ratio=0.2",),
    "Give exactly one of `training.tokens`, `training.epochs` and `training.steps`.": ("training.steps=5",),
    "`training.batch_tokens` is a whole number of sequences of `training.sequence_length`.": (
        "training.batch_tokens=4097",
    ),
    "`training.micro_batch_tokens` is a whole number of sequences and divides `training.batch_tokens`.": (
        "training.micro_batch_tokens=768",
    ),
    "`weight` belongs to replay sources.": ("domain.0.weight=2",),
    "`group` needs a format that has columns: not txt.": ("replay.0.group=topic",),
    "`columns` needs a format that has columns: not txt.": ("replay.0.columns={text: body}",),
    "`document` belongs to txt files.": ("domain.0.document=paragraph",),
    "`increments` go on from a model that is there: `base` is a folder or a Hub id.": (
        "increments={}",
        *_SCRATCH,
    ),
    "`increments` are scored on their own rows: `domain_holdout`, not `evaluation.domain`.": (
        "increments={}",
        "evaluation.domain_holdout=null",
        "evaluation.domain=[{path: a.txt, contract: c}]",
    ),
    "`increments` work with `language_modeling` only.": ("increments={}", *LABELLED),
    "`increment` is written by Rootstock itself.": (
        "increment={number: 1, original: m, new: [{path: a.txt, contract: c, files: [a.txt]}]}",
    ),
}
"""Rules between keys, each with a change to the quick start that breaks it (the tests try every one)."""

HEAD = "<!-- Generated by `python -m docs.generate`. Do not edit: change the schemas, then run `make docs`. -->\n"
SPECIFICATION = """# The run specification

One YAML file is one run. `rootstock run FILE` follows it from its files to its verdict.

- Unknown keys, wrong types, values out of range, files and contracts that are not there: all mistakes are reported at
  once, each with its line and its remedy, in about a second. Nothing heavy is imported for it.
- A setting that would do nothing is a mistake too.
- `--set key.path=value` replaces one value (`--set mixture.replay_ratio=0.1`, `--set domain.0.path=other.txt`).
  Setting `method.kind` to another method drops the old one's settings.
- In paths, `$NAME` is read from the environment, `~` is your home folder, and `*`, `?` and `**` match files. Relative
  paths start at the working directory.
- Editors can check while you type: `rootstock schema > rootstock.schema.json`.

A complete file, [runs/quickstart.yaml](../runs/quickstart.yaml):

"""
METHODS_PAGE = """# Tuning methods

`method: {kind: NAME, ...}` in a [specification](specification.md) chooses one; `rootstock methods` lists them.
How to add one: [a guide](guides/adding-a-method.md).

"""
FORGETTING_PAGE = """# Against forgetting

Replay is the first remedy: general text in the mixture (`mixture.replay_ratio`). What else there is, from `rootstock
remedies`:

- `remedies: [{kind: NAME, ...}, ...]` in a [specification](specification.md); they compose. What cannot work together is
  refused when the specification is read, with what to use instead.
- General text that a remedy measures on is drawn from the `replay` sources, after duplicates and leaked rows are removed,
  never from the evaluation suites. With `mixture.replay_ratio: 0` it is measured on and not trained on.
- A killed training goes on to the same weights with a remedy as without one.
- What is measured once before training (Fisher information, the base's predictions) is a step of its own, kept by base and
  documents: another strength repeats the training alone.

"""


def forgetting() -> str:
    """The page of every remedy: what it does, needs, costs and refuses, and its settings."""
    rows = [
        [f"[`{kind}`](#{anchor(kind)})", entry.paper, entry.does, entry.needs, entry.costs, entry.refuses]
        for kind, entry in REMEDIES.items()
    ]
    parts = [HEAD, FORGETTING_PAGE, table(["kind", "paper", "does", "needs", "costs", "refuses"], rows)]
    parts.append("\n## Switched on elsewhere\n\n")
    parts.append(table(["remedy", "how", "paper"], [[e.name, f"`{e.how}`", e.paper] for e in ELSEWHERE]))
    for kind, entry in REMEDIES.items():
        parts.append(f"\n## {kind}\n\n{about(entry.settings)}\n\n{_keys(entry.settings)}")
    return "".join(parts)


def specification() -> str:
    """The page of every key of a specification: type, default, limits, meaning."""
    parts = [HEAD, SPECIFICATION, f"```yaml\n{EXAMPLE.read_text(encoding='utf-8').strip()}\n```\n\n"]
    parts += [_section(model, title) for model, title in SECTIONS.items()]
    parts.append("## Rules between keys\n\n" + "".join(f"- {rule}\n" for rule in ACROSS))
    return "".join(parts)


def methods() -> str:
    """The page of every tuning method: what it trains, stores and refuses, and its settings."""
    rows = [
        [f"[`{kind}`](#{anchor(kind)})", entry.paper, entry.trains, entry.stores, entry.refuses]
        for kind, entry in METHODS.items()
    ]
    parts = [HEAD, METHODS_PAGE, table(["kind", "paper", "trains", "stores", "refuses"], rows)]
    parts.append(results())
    for kind, entry in METHODS.items():
        parts.append(f"\n## {kind}\n\n{about(entry.settings)}\n\n")
        parts.append(
            _keys(entry.settings) if len(entry.settings.model_fields) > 1 else "It has no settings.\n"
        )
    return "".join(parts)


def _section(model: type[BaseModel], title: str) -> str:
    return f"## {title}\n\n{about(model)}\n\n{_keys(model)}\n"


def about(model: type[BaseModel]) -> str:
    """A schema's own description, as one paragraph."""
    return " ".join((model.__doc__ or "").split())


def _keys(model: type[BaseModel]) -> str:
    """A row per key of one schema."""
    schema = model.model_json_schema(ref_template="{model}")
    required = schema.get("required", [])
    rows = [
        [
            f"`{name}`", type_of(key), default_of(name in required or "const" in key, key), limits_of(key),
            " ".join(key.get("description", _fixed(key)).split()),
        ]
        for name, key in schema["properties"].items()
    ]  # fmt: skip
    return table(["key", "type", "default", "limits", "meaning"], rows)


def _fixed(key: dict[str, Any]) -> str:
    return "Names this choice." if "const" in key else ""


def type_of(key: dict[str, Any]) -> str:
    """What to write for a key, in words; a nested schema is a link to its section."""
    if "$ref" in key:
        return f"[{_name(key['$ref'])}](#{_anchor_of(key['$ref'])})"
    if "const" in key:
        return f"`{key['const']}`"
    if "enum" in key:
        return " or ".join(f"`{value}`" for value in key["enum"])
    for union in ("anyOf", "oneOf"):
        if union in key:
            choices = [choice for choice in key[union] if choice.get("type") != "null"]
            return " or ".join(dict.fromkeys(type_of(choice) for choice in choices))
    if key.get("type") == "array":
        return f"list of {type_of(key['items'])}"
    if key.get("type") == "object" and "additionalProperties" in key:
        return f"mapping of text to {type_of(key['additionalProperties'])}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words[key["type"]]


def _name(model: str) -> str:
    return f"`{_tag(model)}`" if _tag(model) else re.sub("(?<=[a-z])(?=[A-Z])", " ", model).lower()


def _tag(model: str) -> str | None:
    kind = _model(model).model_fields.get("kind")
    return str(kind.default) if kind is not None and not kind.is_required() else None


def _model(name: str) -> type[BaseModel]:
    return next(model for model in SECTIONS if model.__name__ == name)


def _anchor_of(model: str) -> str:
    return anchor(SECTIONS[_model(model)])


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def default_of(required: bool, key: dict[str, Any]) -> str:
    """The default as YAML, or that the key must be given."""
    if required:
        return "**required**"
    default = key.get("default")
    if default is None:
        return "none"
    if isinstance(default, dict):
        kind = default.get("kind")
        return f"`{{kind: {kind}}}`" if kind else "its defaults"
    return f"`{json.dumps(default)}`" if not isinstance(default, str) else f"`{default}`"


def limits_of(key: dict[str, Any]) -> str:
    """The limits of a number, a text or a list, in words."""
    return ", ".join(dict.fromkeys(_limits(key)))


def _limits(key: dict[str, Any]) -> Iterator[str]:
    words = {
        "minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}", "exclusiveMaximum": "below {}",
        "minLength": "at least {} character", "minItems": "at least {} in the list", "pattern": "matches `{}`",
    }  # fmt: skip
    for name, text in words.items():
        if name in key:
            value = key[name]
            yield text.format(f"{value:,}" if isinstance(value, int) else value)
    for union in ("anyOf", "oneOf"):
        for choice in key.get(union, ()):
            yield from _limits(choice)


def table(names: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [names, ["---"] * len(names), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


PAGES = {"specification.md": specification, "methods.md": methods, "forgetting.md": forgetting}


def stale(folder: Path) -> list[str]:
    """Names of the pages in `folder` that are not what the schemas and the registry say now."""
    return [
        name
        for name, write in PAGES.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != write()
    ]


def main(arguments: list[str]) -> int:
    """Rewrite the stale pages, or with `--check` only name them."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m docs.generate [--check]", file=sys.stderr)
        return 2
    found = stale(DOCS)
    for name in found:
        if arguments:
            print(f"docs/{name} is stale: run `make docs`")
        else:
            (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
            print(f"wrote docs/{name}")
    return int(bool(found and arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
