"""The specification that is followed: what was asked, with all that Rootstock works out put in, and nothing taken out.

It is made here and nowhere else; run, plan, evaluate, export, cells of a comparison, proxies, probe, reference and report
read it. Three things are worked out, each once, in this order:

1. of a domain that grows, the increment that is due (`flows/growing/due.py`; where no run is asked for, as by `evaluate`, it
   is the whole domain). It is what a run is asked for: with the
   content of files, contracts and base it names the run, so a killed run finds itself before anything below is done again.
2. the base's own text, as one more replay source (`effective`): before any data are read.
3. the replay ratio that keeps a budget (`with_ratio`): measured on prepared data, so it is put in behind them. The budget
   stays, because the suites are parted by it.
"""

from pathlib import Path

from flows.progress.watch import Watch
from schemas.errors import UserError
from schemas.results.replay_choice import ReplayChoice
from schemas.spec.remedies import SelfReplay
from schemas.spec.run import RunSpec
from tasks.training.models.weights import find_model
from tasks.training.remedies.self_replay import own_text


def effective(spec: RunSpec, state: Path, champion: Path | None, watch: Watch) -> RunSpec:
    """The specification with the base's own text, if `self_replay` is named; of one that is effective already, itself.

    `champion` is the folder that `base_from: champion` means.

    Raises:
        UserError: the base cannot be had, or nothing that it writes passes the filters.
    """
    settings = next((remedy for remedy in spec.remedies if isinstance(remedy, SelfReplay)), None)
    if settings is None or spec.own_text is not None:
        return spec
    with watch.stage("let the base write its own replay"):
        text = own_text(state, _base_folder(spec, champion), settings, spec.training.seed)
        watch.note(f"replay written by the base: {text.path}")
    return spec.model_copy(update={"replay": (*spec.replay, text)})


def _base_folder(spec: RunSpec, champion: Path | None) -> Path:
    if isinstance(spec.base, str):
        return find_model(spec.base)
    if champion is None:
        raise UserError(
            f"base_from: there is no champion of '{spec.name}' yet",
            "base_from",
            "start the first run with `base: FOLDER or Hub id`",
        )
    return champion


def with_ratio(spec: RunSpec, ratio: float) -> RunSpec:
    """The specification that is laid out at this ratio, whatever its budget."""
    return spec.model_copy(update={"mixture": spec.mixture.model_copy(update={"replay_ratio": ratio})})


def laid_out(spec: RunSpec, choice: ReplayChoice | None = None) -> RunSpec:
    """The specification with the ratio that was chosen for its budget; without replay, where none has been chosen.

    Suites are the same at every ratio: they are set aside before the mixture is made.
    """
    if spec.mixture.replay_ratio is not None:
        return spec
    chosen = None if choice is None else choice.replay_ratio
    return with_ratio(spec, 0.0 if chosen is None else chosen)
