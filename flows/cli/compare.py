"""Verbs that list what there is and measure it: methods, remedies, and how much replay a budget takes."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import DEFAULT_STATE, Json, Sets, Spec, State, load, print_table
from flows.progress.terminal import say, tell

compare_app = typer.Typer()
OwnSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        help="Replace one value of the comparison (its bases, seeds, methods, ...); may be repeated.",
    ),
]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="Trainings that run side by side.")]


@compare_app.command()
def methods(as_json: Json = False) -> None:
    """List the tuning methods."""
    from tasks.training.methods.registry import METHODS

    rows = [
        {"kind": kind, "paper": m.paper, "trains": m.trains, "stores": m.stores, "refuses": m.refuses}
        for kind, m in METHODS.items()
    ]
    print_table("tuning methods", rows, as_json)


@compare_app.command()
def remedies(as_json: Json = False) -> None:
    """List the remedies against forgetting, and the settings elsewhere that are remedies too."""
    from tasks.training.remedies.registry import ELSEWHERE, REMEDIES

    rows = [
        {
            "kind": kind,
            "paper": r.paper,
            "does": r.does,
            "needs": r.needs,
            "costs": r.costs,
            "refuses": r.refuses,
            "experimental": r.experimental,
        }
        for kind, r in REMEDIES.items()
    ]
    elsewhere = [vars(setting) for setting in ELSEWHERE]
    if as_json:
        print_table("remedies", [*rows, *elsewhere], as_json)
    else:
        print_table("remedies", rows, as_json)
        print_table("switched on elsewhere", elsewhere, as_json)


@compare_app.command()
def compare(
    spec: Annotated[
        Path,
        typer.Argument(help="Comparison (YAML), such as runs/compare/quickstart.yaml.", show_default=False),
    ],
    sets: OwnSets = None,
    state: State = DEFAULT_STATE,
    parallel: Parallel = 1,
) -> None:
    """Compare tuning methods fairly: same data, same tokens, the same search for each; a table and Pareto plots."""
    from flows.comparing.cells import run_processes
    from flows.comparing.load import load_comparison
    from flows.comparing.methods import compare as compare_all

    comparison, shared = load_comparison(spec, sets or [])
    _show(compare_all(comparison, shared, state, run_processes(parallel, _note)))


@compare_app.command("compare-remedies")
def compare_remedies(
    spec: Annotated[
        Path,
        typer.Argument(help="Comparison (YAML), such as runs/remedies/stories.yaml.", show_default=False),
    ],
    sets: OwnSets = None,
    state: State = DEFAULT_STATE,
    parallel: Parallel = 1,
) -> None:
    """Compare remedies against forgetting: what each keeps and costs, in pairs with its control; a table and a frontier."""
    from flows.comparing.cells import run_processes
    from flows.comparing.load import load_remedy_comparison
    from flows.comparing.remedies import compare_remedies as compare_all

    comparison, jobs = load_remedy_comparison(spec, sets or [])
    _show(compare_all(comparison, jobs, state, run_processes(parallel, _note)))


def _note(line: str) -> None:
    tell(line)


def _show(folder: Path) -> None:
    """The table of a comparison that is done, and where its page is."""
    say((folder / "table.md").read_text(encoding="utf-8"))
    say(f"with pictures: {folder / 'index.html'}")


@compare_app.command()
def choose_replay(
    spec: Spec,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Nats per token that may be forgotten. Default: the specification's forgetting_budget, or else what its"
            " promotion allows.",
        ),
    ] = None,
    sets: Sets = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Measure how forgetting falls with replay, and name the smallest ratio that keeps a budget (exit 2: none does)."""
    loaded = load(spec, sets)
    from flows.replay.choose_replay import with_budget

    asked = with_budget(loaded, budget)
    from flows.replay.propose_replay import print_choice, propose

    print_choice(propose(asked, state), as_json)
