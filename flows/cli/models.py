"""Verbs for models that exist: score them, try them, copy them out, promote them, look back."""

import os
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import DEFAULT_STATE, Json, Sets, Spec, State, load, print_table
from flows.progress.terminal import say, say_json
from schemas.commands import command
from schemas.errors import UserError
from schemas.registered_names import NAME, RUN, require_name, require_new, require_run

models_app = typer.Typer()


@models_app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder, Hub id or run id.")],
    spec: Spec,
    sets: Sets = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Score a model on a specification's suites."""
    if spec.is_dir() and Path(model).suffix in (".yaml", ".yml"):
        fix = f"run: {command('rootstock', 'evaluate', spec, model)}"
        raise UserError("the model comes first, then the specification", f"{model} {spec}", fix)
    loaded = load(spec, sets)
    from flows.models.evaluate import evaluate_model

    print_table("scores", evaluate_model(loaded, state, find_run_model(state, model)), as_json)


@models_app.command()
def generate(
    model: Annotated[str, typer.Argument(help="Model folder, Hub id, run id, or name of a promoted model.")],
    prompt: Annotated[str, typer.Argument(help="Text to continue.")],
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=2**20, help="Length of the answer in tokens.")
    ] = 80,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.8,
    top_p: Annotated[
        float, typer.Option(help="Sample from the likeliest tokens of this total probability.")
    ] = 0.95,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the sampling.")] = 0,
    state: State = DEFAULT_STATE,
) -> None:
    """Let a model continue a prompt."""
    from tasks.evaluation.scoring.generate import require_settings

    require_settings(max_new_tokens, temperature, top_p, seed)
    from flows.models.evaluate import generate_text

    generate_text(find_run_model(state, model), prompt, max_new_tokens, temperature, top_p, seed)


@models_app.command()
def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Run id (or name of a promoted model).")],
    to: Annotated[Path, typer.Option("--to", help="New folder for the model.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge an adapter into its base, and check that nothing changed.")
    ] = False,
    drop_blocks: Annotated[
        int | None,
        typer.Option(
            min=0, max=10_000, help="Leave out the adapters of so many of the lowest blocks (adapter_drop)."
        ),
    ] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Copy a run's model out, as adapter or merged weights."""
    from flows.models.export import export_run
    from tasks.release.export.drop_blocks import export_with_dropped

    model = Path(find_run_model(state, run_id))
    require_new(to, outside=model)
    if drop_blocks is None:
        say(export_run(model, to, merge, state))
        return
    if merge:
        raise UserError("adapters cannot be merged", "--merge", "leave out one of --merge and --drop-blocks")
    say(export_with_dropped(model, to, drop_blocks))


@models_app.command()
def combine(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run ids, names of promoted models, or folders; all of one base."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="New folder for the combination.")],
    how: Annotated[
        str,
        typer.Option(
            help="linear, ties, dare_linear or dare_ties: how the differences to the base become one."
        ),
    ] = "linear",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="W,W",
            help="One factor per model. Default: equal shares of 1 (linear, dare_linear), or 1 each (ties, dare_ties,"
            " which average).",
        ),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(help="Share of each difference that is kept. Default: 0.2 for ties, 0.5 for dare."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Seed of the draw of dare. Default: 17.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base, where full weights do not say what they were tuned from.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="Score base, models and combination on this specification's suites.")
    ] = None,
    sets: Sets = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Combine tuned models of one base into one, and score them all before and after."""
    from tasks.release.export.combine_recipe import make_recipe, parse_weights

    if sets and spec is None:
        raise UserError("there is no specification to change", "--set", "add --spec SPEC, or leave out --set")
    loaded = load(spec, sets) if spec is not None else None
    recipe = make_recipe(how, len(models), parse_weights(weights), density, seed)
    from flows.models.combine import combine_and_score

    named = {name: find_run_model(state, name) for name in models}
    combined = combine_and_score(
        named, recipe, to, None if base is None else find_run_model(state, base), loaded, state
    )
    if as_json:
        say_json(combined)
        return
    say(combined["said"])
    if combined["scores"]:
        print_table("before and after", combined["scores"], as_json)


@models_app.command()
def history(
    name: Annotated[str, typer.Argument(help="Name in the registry.")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show every version of a model and who is champion."""
    from tasks.release.registry import versions as registry

    known = registry.history(state, require_name(name))
    forced = any(h.forced for h in known)
    rows = [
        {
            "version": h.version,
            "run": h.run_id,
            "verdict": h.verdict,
            "aliases": ", ".join(h.aliases),
            "time": str(h.time) if as_json else f"{h.time:%Y-%m-%d %H:%M} UTC",
            **({"forced by": h.forced} if forced else {}),
        }
        for h in known
    ]
    print_table(f"history of {name}", rows, as_json)


@models_app.command()
def promote(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Run id.")],
    force: Annotated[bool, typer.Option("--force", help="Although it did not pass; needs --reason.")] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why it is put in use all the same; kept in history and report.")
    ] = None,
    state: State = DEFAULT_STATE,
) -> None:
    """Make a run's model champion; with a passing decision bound to its very files, or by force, which is kept."""
    from tasks.release.promotion.promotion import promote_by_hand

    if reason is not None and not force:
        fix = "add --force, or leave out --reason"
        raise UserError("a reason belongs to a forced promotion", "--reason", fix)
    model = promote_by_hand(state, state / "runs" / require_run(run_id), (reason or "") if force else None)
    say(f"champion of {model.name}: version {model.version} ({model.run_id})")


@models_app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Name in the registry.")], state: State = DEFAULT_STATE
) -> None:
    """Make the previous champion champion again; the next increment starts from it."""
    from tasks.release.promotion import promotion

    model = promotion.rollback(state, require_name(name))
    say(f"champion of {model.name}: version {model.version} ({model.run_id})")


@models_app.command()
def trace(
    row: Annotated[str, typer.Argument(metavar="FILE:LINE", help="Place of a row.")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Tell what became of a row: its fate in every run, the steps that trained it, and the models that saw it."""
    from tasks.release.run.trace import trace_row

    print_table(f"traces of {row}", trace_row(state, row), as_json)


def find_run_model(state: Path, name: str) -> str:
    """Folder of a run's model, of a promoted model's champion, or the name itself (a folder or Hub id)."""
    run = state / "runs" / name
    if RUN.fullmatch(name) and run.is_dir():
        from tasks.release.record.mend import how_to_mend, require_intact

        require_intact(run)
        if not (run / "model").is_dir():
            raise UserError(f"the run {name} has left no model yet", str(run), how_to_mend(run))
        return str(run / "model")
    if not os.path.lexists(name) and "/" not in name:
        from tasks.release.registry import versions as registry

        champion = registry.champion(state, name) if NAME.fullmatch(name) else None
        if champion is not None:
            from tasks.release.record.mend import require_intact
            from tasks.training.models.judged import require_judged

            require_intact(champion.model_folder.parent)
            require_judged(champion.model_folder, champion.weights_sha256)
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
