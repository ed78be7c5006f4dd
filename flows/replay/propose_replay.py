"""The choice of a replay ratio by itself: nothing but proxies is trained, nothing is promoted."""

from pathlib import Path
from typing import Any, NamedTuple

from flows.growing.effective import effective
from flows.progress.terminal import say, say_json
from flows.progress.watch import Console, Watch
from flows.replay.choose_replay import choose_ratio, require_ratio
from flows.replay.proxies import Call
from schemas.results.replay_choice import ReplayChoice
from schemas.spec.run import RunSpec
from tasks.data.prepare import prepare
from tasks.release.pages.replay_page import write_choice_page
from tasks.release.run.run_folder import RunFolder
from tasks.storage.workers import map_in_processes
from tasks.training.models.base_model import provide_base


class Proposal(NamedTuple):
    """A choice and where it lies."""

    choice: ReplayChoice
    folder: Path


def call_plainly(function: Any, *arguments: Any, **settings: Any) -> Any:
    """Run a stage as the plain function it is."""
    return function(*arguments, **settings)


def propose(spec: RunSpec, state: Path, watch: Watch | None = None, call: Call = call_plainly) -> Proposal:
    """Choose the ratio of a specification with a budget; write `replay_choice.json` and a page beside it.

    Raises:
        UserError: see `choose_ratio`.
    """
    watch = watch or Console()
    run = RunFolder.open(state, spec)
    spec = effective(spec, state, run.champion_folder, watch)
    with watch.stage("data"):
        prepared = call(prepare, state, spec, map_shards=map_in_processes, note=watch.note)
        base = call(provide_base, state, spec, prepared, run.champion_folder)
    with watch.stage("choose the replay ratio"):
        choice = choose_ratio(spec, state, prepared, base, watch, call)
    folder = state / "choices" / run.id
    write_choice_page(folder, spec.name, choice)
    return Proposal(choice, folder)


def print_choice(proposal: Proposal, as_json: bool) -> None:
    """Print the ratio, or what keeps it from being chosen.

    Raises:
        UserError: no ratio meets the budget.
    """
    choice, folder = proposal
    if as_json:
        say_json(choice.model_dump(mode="json"))
    else:
        say(choice.sentence)
        say(f"curve: {folder / 'index.html'}")
    ratio = require_ratio(choice)
    if not as_json:
        say(f"next: --set mixture={{replay_ratio: {ratio:g}}}, or give mixture.forgetting_budget and run")
        say(f"replay ratio: {ratio:g}")
