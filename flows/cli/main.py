"""The command line. Every verb imports what it needs when it runs: `--help` and mistakes answer at once."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer._click.exceptions import UsageError

from flows.cli.compare import compare_app
from flows.cli.models import models_app
from flows.cli.options import DEFAULT_STATE, Json, Sets, Spec, State, load, print_table
from flows.environment.surroundings import leave_launcher, quiet_environment
from flows.progress.failures import defect, environment_error, fail, machine_error, misused
from flows.progress.terminal import never_fail_to_encode, say, say_json, tell
from schemas.errors import ExitCode, NoNewData, UserError
from schemas.visible import visible
from tasks.storage.signals import Asked, end_when_asked, told

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
app.add_typer(compare_app)
app.add_typer(models_app)


LOADS_NO_MODEL = (
    "announce",
    "check",
    "contract",
    "doctor",
    "history",
    "methods",
    "remedies",
    "schema",
    "trace",
)


@app.callback()
def alone(context: typer.Context) -> None:  # no docstring: it would be shown as the help of all
    if context.invoked_subcommand not in LOADS_NO_MODEL and not {"-h", "--help"} & set(sys.argv):
        leave_launcher()


def main() -> None:
    """Run the command line; a user's mistake is three lines and an exit code, never a traceback."""
    quiet_environment()
    end_when_asked()
    never_fail_to_encode()
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        fail(error)
    except UsageError as error:
        fail(misused(error))
    except typer.Abort as error:  # what typer makes of an EOFError: our own, for nobody is asked anything
        fail(defect(error.__cause__ or error))
    except Exception as error:
        fail(machine_error(error) or environment_error(error) or defect(error))
    except Asked as signal:
        tell(f"stopped by {told(signal.number)}; the same command goes on where it was")
        raise
    except (
        SystemExit
    ) as done:  # typer's answer to a reader that went away (`| head`); ours are raised elsewhere
        raise SystemExit(int(ExitCode.NOBODY_READS) if done.code == 1 else done.code) from None
    if code == ExitCode.INTERRUPTED:
        tell("stopped; the same command goes on where it was")
    sys.exit(code if isinstance(code, int) else 0)


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
    if dask is not None and (no_prefect or dry_run):
        why = (
            "--no-prefect runs without it" if no_prefect else "--dry-run shows a plan, and starts no workers"
        )
        raise UserError(f"Dask's workers are started by Prefect: {why}", "--dask", "leave out one of the two")
    loaded = load(spec, sets)
    if dry_run:
        from flows.run.dry_run import show_plan

        return show_plan(loaded, state, as_json)
    from flows.cli.start import start

    try:
        outcome = start(spec, sets or [], loaded, state, use_prefect=not no_prefect, dask=dask)
    except NoNewData as nothing:
        if as_json:
            say_json({"verdict": None, "reason": nothing.what})
        else:
            say(f"{visible(nothing.what)}\nverdict: none")
        raise typer.Exit(int(ExitCode.PROMOTE)) from None
    _print_outcome(outcome, as_json)
    codes = {"promote": ExitCode.PROMOTE, "reject": ExitCode.REJECT, "inconclusive": ExitCode.INCONCLUSIVE}
    raise typer.Exit(int(codes[outcome.decision.verdict]))


def _print_outcome(outcome: Any, as_json: bool) -> None:
    decision = outcome.decision
    if as_json:
        say_json({"run": outcome.run, "folder": str(outcome.folder), **decision.model_dump(mode="json")})
        return
    if not outcome.fresh:
        say("nothing to do: this run is finished (same data, specification and code)")
    for rule in decision.rules:
        say(f"  {rule.outcome:9}  {visible(rule.reason)}")
    say(visible(decision.sentence))
    say(f"report: {visible(outcome.folder / 'report.html')}")
    say(f"next: {visible(decision.next_action)}")
    say(f"verdict: {decision.verdict}")


@app.command()
def backfill(
    spec: Spec,
    start: Annotated[
        str | None, typer.Option("--from", help="First date (2026-03, 2026-03-01) or file name.")
    ] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Last date or file name, included.")] = None,
    sets: Sets = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Go back over a stretch of files: one increment for each date (or file), in order (exit as `run`, the worst)."""
    loaded = load(spec, sets)
    from flows.cli.growing import backfill_here

    rows, worst = backfill_here(loaded, state, start, stop)
    print_table(f"backfill of {loaded.name}", rows, as_json)
    raise typer.Exit(worst)


@app.command()
def announce(spec: Spec, state: State = DEFAULT_STATE) -> None:
    """Tell Prefect that a specification with increments has new data, if it has; a served project then trains."""
    loaded = load(spec, None)
    from flows.cli.growing import announce_here

    say(announce_here(loaded, str(spec), state) or "nothing new")


@app.command()
def plan(spec: Spec, sets: Sets = None, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show what would happen: rows, tokens, steps, memory, time; refuse what cannot work."""
    loaded = load(spec, sets)
    from flows.run.dry_run import show_plan

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
    from flows.run.check import check_and_print

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
    say(f"{len(contracts)} contract{'s' if len(contracts) > 1 else ''} in order")


@app.command()
def serve(
    state: State = DEFAULT_STATE,
    port: Annotated[
        int,
        typer.Option(
            min=1, max=65534, help="Port of the Prefect page on this machine; reports get the next."
        ),
    ] = 4200,
    password_file: Annotated[
        Path | None,
        typer.Option(help="File of one line: the password that page and API ask for (several users here)."),
    ] = None,
    restore: Annotated[
        list[str] | None,
        typer.Option(help="A deployment that was deleted on the page, to be made anew; may be repeated."),
    ] = None,
) -> None:
    """Serve the workflows of this project on this machine: Prefect's page, its form, and the schedules."""
    from flows.serving.serve import serve_here

    serve_here(state, port, password_file and password_file.absolute(), restore or ())


@app.command()
def doctor(
    state: State = DEFAULT_STATE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild a damaged or lost registry of models; the old is kept.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --repair: only say what would be done.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell what will and will not work on this machine, and mend the registry of models."""
    if repair:
        from tasks.release.promotion.rebuild import repair as rebuild

        rebuild(state, print, really=not dry_run)
        return
    if dry_run:
        raise UserError("there is nothing to try", "--dry-run", "add --repair, or leave out --dry-run")
    from flows.cli.doctor import examine

    print_table("this machine", examine(state), as_json)


@app.command()
def clean(
    yes: Annotated[
        bool, typer.Option("--yes", help="Really remove; without it, only say what may go.")
    ] = False,
    days: Annotated[
        float,
        typer.Option(min=0, help="Keep what was written in the last so many days, and all it rests on."),
    ] = 14,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Remove steps that no model in use (champion, previous, challenger) and no recent run rests on."""
    from flows.cli.doctor import told_removable
    from tasks.release.run.clean import clean as remove

    found = remove(state, days, really=yes)
    print_table("removed" if yes else "may go (dry run: --yes removes)", told_removable(found), as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the specification, for editors."""
    from schemas.spec.run import RunSpec

    say_json(RunSpec.model_json_schema(), indent=2)


if __name__ == "__main__":
    main()
