"""The command line. Every verb imports what it needs when it runs: `--help` and mistakes answer at once."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.failures import defect, fail, machine_error
from schemas.errors import ExitCode, UserError

app = typer.Typer(
    name="rootstock",
    help="Keep a language model current in your domain without it forgetting what it knew.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
contract_app = typer.Typer(help="Work with data contracts.", no_args_is_help=True)
app.add_typer(contract_app, name="contract")

Spec = Annotated[Path, typer.Argument(help="Run specification (YAML).", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", help="Replace one value of the specification; may be repeated."
    ),
]
State = Annotated[Path, typer.Option("--state", help="Folder that keeps data, runs and the registry.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
DEFAULT_STATE = Path(".rootstock")


def main() -> None:
    """Run the command line; a user's mistake is three lines and an exit code, never a traceback."""
    quiet_environment()
    try:
        app()
    except UserError as error:
        fail(error)
    except OSError as error:
        fail(machine_error(error) or defect(error))
    except Exception as error:
        fail(defect(error))
    except SystemExit as done:
        if done.code == ExitCode.INTERRUPTED:
            print("stopped; the same command goes on where it was", file=sys.stderr)
        raise


def quiet_environment() -> None:
    """No telemetry, no network unless a Hub id is named: set before any library is imported."""
    for name, value in {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }.items():
        os.environ.setdefault(name, value)


def _load(spec: Path, sets: list[str] | None) -> Any:
    from data_contracts.contract import list_contracts
    from schemas.load import load_spec

    return load_spec(spec, sets or [], list_contracts())


@app.command()
def run(
    spec: Spec,
    sets: Sets = None,
    state: State = DEFAULT_STATE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would happen (as `plan`).")
    ] = False,
    no_prefect: Annotated[
        bool, typer.Option("--no-prefect", help="Run the stages as plain functions.")
    ] = False,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler for the data stages, tcp://...")
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow a specification from its files to its verdict (exit 0 promote, 10 reject, 11 inconclusive)."""
    loaded = _load(spec, sets)
    if dry_run:
        from flows.plan import show_plan

        return show_plan(loaded, state, as_json)
    from flows.start import start

    outcome = start(spec, sets or [], loaded, state, use_prefect=not no_prefect, dask=dask)
    _print_outcome(outcome, as_json)
    codes = {"promote": ExitCode.PROMOTE, "reject": ExitCode.REJECT, "inconclusive": ExitCode.INCONCLUSIVE}
    raise typer.Exit(int(codes[outcome.decision.verdict]))


def _print_outcome(outcome: Any, as_json: bool) -> None:
    decision = outcome.decision
    if as_json:
        print(
            json.dumps(
                {"run": outcome.run, "folder": str(outcome.folder), **decision.model_dump(mode="json")}
            )
        )
        return
    if not outcome.fresh:
        print("nothing to do: this run is finished (same data, specification and code)")
    for rule in decision.rules:
        print(f"  {rule.outcome:9}  {rule.reason}")
    print(decision.sentence)
    print(f"report: {outcome.folder / 'report.html'}")
    print(f"next: {decision.next_action}")
    print(f"verdict: {decision.verdict}")


@app.command()
def plan(spec: Spec, sets: Sets = None, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show what would happen: rows, tokens, steps, memory, time; refuse what cannot work."""
    loaded = _load(spec, sets)
    from flows.plan import show_plan

    show_plan(loaded, state, as_json)


@app.command()
def check(
    contract: Annotated[str, typer.Argument(help="Name of a contract or path of an .odcs.yaml file.")],
    data: Annotated[list[str], typer.Option("--data", help="File or glob; may be repeated.")],
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the full report as JSON here.")
    ] = None,
    github: Annotated[bool, typer.Option("--github", help="Print GitHub annotations.")] = False,
) -> None:
    """Check data against a contract (exit 0 kept, 1 broken); made for CI."""
    from flows.check import check_and_print

    raise typer.Exit(check_and_print(contract, data, junit=junit, json_file=json_file, github=github))


@contract_app.command("lint")
def contract_lint(
    contracts: Annotated[list[Path], typer.Argument(help="Contract files (.odcs.yaml).")],
) -> None:
    """Check contract files themselves: all mistakes at once, with their lines (exit 2 if any)."""
    from data_contracts.lint import lint
    from schemas.errors import UserErrors

    errors = [error for file in contracts for error in lint(file)]
    if errors:
        raise UserErrors(errors)
    print(f"{len(contracts)} contract{'s' if len(contracts) > 1 else ''} in order")


@app.command()
def methods(as_json: Json = False) -> None:
    """List the tuning methods."""
    from tasks.training.methods.registry import METHODS

    rows = [
        {"kind": kind, "paper": m.paper, "trains": m.trains, "stores": m.stores, "refuses": m.refuses}
        for kind, m in METHODS.items()
    ]
    _print_table("tuning methods", rows, as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder, Hub id or run id.")],
    spec: Spec,
    sets: Sets = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Score a model on a specification's suites."""
    loaded = _load(spec, sets)
    from flows.evaluate_model import evaluate_model

    _print_table("scores", evaluate_model(loaded, state, find_run_model(state, model)), as_json)


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="Model folder, Hub id, run id, or name of a promoted model.")],
    prompt: Annotated[str, typer.Argument(help="Text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(help="Length of the answer in tokens.")] = 80,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.8,
    top_p: Annotated[
        float, typer.Option(help="Sample from the likeliest tokens of this total probability.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    state: State = DEFAULT_STATE,
) -> None:
    """Let a model continue a prompt."""
    from flows.evaluate_model import generate_text

    generate_text(find_run_model(state, model), prompt, max_new_tokens, temperature, top_p, seed)


@app.command()
def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Run id (or name of a promoted model).")],
    to: Annotated[Path, typer.Option("--to", help="New folder for the model.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge an adapter into its base, and check that nothing changed.")
    ] = False,
    drop_blocks: Annotated[
        int | None,
        typer.Option(min=0, help="Leave out the adapters of so many of the lowest blocks (adapter_drop)."),
    ] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Copy a run's model out, as adapter or merged weights."""
    from tasks.release.drop_blocks import export_with_dropped
    from tasks.release.export import export_model

    model = Path(find_run_model(state, run_id))
    if drop_blocks is None:
        print(export_model(model, to, merge))
        return
    if merge:
        raise UserError("adapters cannot be merged", "--merge", "leave out one of --merge and --drop-blocks")
    print(export_with_dropped(model, to, drop_blocks))


@app.command()
def history(
    name: Annotated[str, typer.Argument(help="Name in the registry.")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show every version of a model and who is champion."""
    from tasks.release import registry

    rows = [
        {
            "version": h.version,
            "run": h.run_id,
            "verdict": h.verdict,
            "aliases": ", ".join(h.aliases),
            "time": str(h.time),
        }
        for h in registry.history(state, name)
    ]
    _print_table(f"history of {name}", rows, as_json)


@app.command()
def promote(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Run id.")], state: State = DEFAULT_STATE
) -> None:
    """Make a run's model champion; only with a passing decision bound to its very files."""
    from tasks.release.promotion import promote as promote_run

    model = promote_run(state, state / "runs" / run_id)
    print(f"champion of {model.name}: version {model.version} ({model.run_id})")


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Name in the registry.")], state: State = DEFAULT_STATE
) -> None:
    """Make the previous champion champion again."""
    from tasks.release import registry

    model = registry.rollback(state, name)
    print(f"champion of {model.name}: version {model.version} ({model.run_id})")


@app.command()
def trace(
    row: Annotated[str, typer.Argument(metavar="FILE:LINE", help="Place of a row.")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Tell what became of a row: its fate in every run, the steps that trained it, and the models that saw it."""
    from tasks.release.trace import trace_row

    _print_table(f"traces of {row}", trace_row(state, row), as_json)


@app.command()
def compare(
    spec: Annotated[
        Path,
        typer.Argument(help="Comparison (YAML), such as runs/compare/quickstart.yaml.", show_default=False),
    ],
    state: State = DEFAULT_STATE,
    parallel: Annotated[int, typer.Option(min=1, help="Trainings that run side by side.")] = 1,
) -> None:
    """Compare tuning methods fairly: same data, same tokens, the same search for each; a table and Pareto plots."""
    from flows.compare import compare as compare_all
    from flows.compare import run_processes
    from flows.load_comparison import load_comparison

    comparison, shared = load_comparison(spec)
    folder = compare_all(
        comparison, shared, state, run_processes(parallel, lambda line: print(line, file=sys.stderr))
    )
    print((folder / "table.md").read_text(encoding="utf-8"))
    print(f"with pictures: {folder / 'index.html'}")


@app.command()
def serve(
    state: State = DEFAULT_STATE,
    port: Annotated[int, typer.Option(help="Port of the Prefect page on this machine.")] = 4200,
) -> None:
    """Serve the workflows of this project on this machine: Prefect's page, its form, and the schedules."""
    from flows.serve import serve_here

    serve_here(state, port)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what will and will not work on this machine."""
    from flows.doctor import examine

    _print_table("this machine", examine(), as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the specification, for editors."""
    from schemas.run import RunSpec

    print(json.dumps(RunSpec.model_json_schema(), indent=2))


def find_run_model(state: Path, name: str) -> str:
    """Folder of a run's model, of a promoted model's champion, or the name itself (a folder or Hub id)."""
    if (state / "runs" / name / "model").is_dir():
        return str(state / "runs" / name / "model")
    if not Path(name).exists() and "/" not in name:
        from tasks.release import registry

        champion = registry.champion(state, name)
        if champion is not None:
            return str(champion.model_folder)
        runs = (
            sorted(path.name for path in (state / "runs").glob("*") if path.is_dir())
            if (state / "runs").is_dir()
            else []
        )
        raise UserError(
            f"there is no run, promoted model or folder '{name}'",
            str(state),
            f"known runs: {', '.join(runs[-8:])}"
            if runs
            else "make one with: rootstock run runs/quickstart.yaml",
        )
    return name


def _print_table(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows as a table for people or as JSON for machines."""
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for name in rows[0] if rows else ["nothing"]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            *(
                f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v)
                for v in row.values()
            )
        )
    Console().print(table)


if __name__ == "__main__":
    main()
