"""The rows of earlier increments in the mixture: their share of the replay tokens, and how often they may be repeated."""

from collections.abc import Sequence
from dataclasses import replace

from schemas.errors import NoNewData
from schemas.spec.run import RunSpec
from tasks.data.plan.mix import Corpus
from tasks.data.validate.sources import PreparedSource


def weigh_past(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]
) -> tuple[RunSpec, Sequence[PreparedSource]]:
    """Weigh the replay sources so that earlier increments get their share; of other runs, change nothing.

    Earlier increments get `past_ratio` of the replay tokens (all, where there is no general text), but at most
    `max_repetitions` passes over their rows. What they cannot give comes from general text; without any, there is less
    replay: the returned specification has the ratio that can be reached.
    """
    if spec.increments is None or spec.increment is None:
        return spec, sources
    settings = spec.increments
    tokens = {s.label: c.label_tokens for s, c in zip(sources, corpora, strict=True)}
    past = sum(tokens[s.label] for s in sources if s.past)
    general = sum(s.source.weight for s in sources if s.role == "replay" and not s.past and tokens[s.label])
    domain, replay = _wanted(spec, sum(tokens[s.label] for s in sources if s.role == "domain"))
    most = min(past * settings.max_repetitions, replay * (settings.past_ratio if general else 1))
    if not general:
        # `tokens` and `steps` fix the sum: what is not replay is domain
        total = domain + (most if spec.training.epochs is not None else replay)
        mixture = spec.mixture.model_copy(update={"replay_ratio": most / total})
        spec = spec.model_copy(update={"mixture": mixture})
    share = most / replay if replay and general else 1.0

    def weight(source: PreparedSource) -> float:
        if source.past:
            return share * tokens[source.label] / past if past else 0.0
        return (1 - share) * source.source.weight / general if general and tokens[source.label] else 0.0

    weights = {s.label: weight(s) for s in sources if s.role == "replay"}
    if not any(weights.values()):  # nothing is replayed: how nothing is shared does not matter
        weights = dict.fromkeys(weights, 1.0)
    return spec, [
        replace(s, source=s.source.model_copy(update={"weight": weights[s.label]}))
        if s.label in weights
        else s
        for s in sources
    ]


def require_new_rows(sources: Sequence[PreparedSource], corpora: Sequence[Corpus]) -> None:
    """Stop an increment whose files hold no row that is new.

    Raises:
        NoNewData: the files are others than before, their rows are not.
    """
    if not any(c.label_tokens for s, c in zip(sources, corpora, strict=True) if s.role == "domain"):
        files = ", ".join(s.source.path for s in sources if s.role == "domain")
        raise NoNewData("the new files hold no row to train on that is new", files, "wait for new data")


def _wanted(spec: RunSpec, available: int) -> tuple[float, float]:
    """Domain and replay label tokens of the run; with `steps`, at most so many."""
    training, ratio = spec.training, spec.mixture.ratio
    if training.epochs is not None:
        return training.epochs * available, training.epochs * available * ratio / (1 - ratio)
    if training.tokens is not None:
        total = training.tokens
    else:
        assert training.steps is not None
        sequences = training.steps * (training.batch_tokens // training.sequence_length)
        total = sequences * (training.sequence_length - 1)
    return total * (1 - ratio), total * ratio
