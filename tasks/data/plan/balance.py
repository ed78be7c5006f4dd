"""Class balance: domain documents of rare labels are drawn more often, p(label) in proportion to n ** (1 / temperature).

The smoothing is the one of languages in Conneau et al., 2020 (https://arxiv.org/abs/1911.02116, section 3.1, where the
exponent is called alpha). Deviation: nothing is drawn less often for it. In a pass each document of the most frequent
label comes once, and each of another label at least once, so that no document is left out.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.results.artifacts import LabelShare
from schemas.spec.run import RunSpec
from tasks.data.labels.labels import Labels
from tasks.data.plan.mix import Corpus, Pieces
from tasks.data.tokens.token_files import TokenPart
from tasks.data.validate.sources import PreparedSource

STREAM = 4  # of random numbers: which documents of a label come once more than the others


def balance_classes(
    spec: RunSpec,
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    labels: Labels,
    parts: Sequence[Sequence[TokenPart]],
) -> list[Corpus]:
    """The corpora, the documents of the domain as often as each comes in a pass. `parts`: tokens of every source.

    Raises:
        UserError: no label is rarer than another, so the temperature would do nothing.
    """
    assert spec.mixture.class_temperature is not None
    domain = [corpus for s, corpus in zip(sources, corpora, strict=True) if s.role == "domain"]
    numbers = [_numbers(corpus, sources, labels, parts) for corpus in domain]
    random = np.random.default_rng([spec.training.seed, STREAM])
    found = copies(np.concatenate(numbers), spec.mixture.class_temperature, random)
    if found.max() == 1:
        raise UserError(
            "every label of the domain has as many documents as the others, so class_temperature repeats none",
            "mixture.class_temperature",
            "remove it, or raise it if some labels are a little rarer",
        )
    each = np.split(found, np.cumsum([len(own) for own in numbers])[:-1])
    drawn = {
        corpus.source: corpus.take(np.repeat(np.arange(len(times)), times))
        for corpus, times in zip(domain, each, strict=True)
    }
    return [drawn.get(corpus.source, corpus) for corpus in corpora]


def copies(
    numbers: npt.NDArray[np.int32], temperature: float, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each document comes in a pass, (documents,); `numbers` are their labels.

    A label of n documents comes n * (most / n) ** (1 - 1 / temperature) times, rounded: in proportion to
    n ** (1 / temperature). Its documents share that evenly; which of them come once more is drawn.
    """
    times = np.ones(len(numbers), np.int64)
    names, counts = np.unique(numbers, return_counts=True)
    for name, count in zip(names.tolist(), counts.tolist(), strict=True):
        wanted = round(count * (counts.max() / count) ** (1 - 1 / temperature))
        own = random.permutation(np.flatnonzero(numbers == name))
        times[own] = wanted // count
        times[own[: wanted % count]] += 1
    return times


def label_shares(
    sources: Sequence[PreparedSource],
    corpora: Sequence[Corpus],
    pieces: Pieces,
    labels: Labels,
    parts: Sequence[Sequence[TokenPart]],
) -> tuple[LabelShare, ...]:
    """How many domain documents of each label there are, and how often the plan trains them: counted from its pieces."""
    there = np.zeros(len(labels.names), np.int64)
    trained = np.zeros(len(labels.names), np.int64)
    for source, corpus in zip(sources, corpora, strict=True):
        if source.role == "domain":
            own = pieces[pieces["source"] == corpus.source]
            np.add.at(there, _numbers(corpus, sources, labels, parts), 1)
            np.add.at(
                trained, _numbers_at(corpus.source, own["part"], own["start"], sources, labels, parts), 1
            )
    return tuple(
        LabelShare(label=name, documents=number, trained_documents=times)
        for name, number, times in zip(labels.names, there.tolist(), trained.tolist(), strict=True)
    )


def _numbers(
    corpus: Corpus,
    sources: Sequence[PreparedSource],
    labels: Labels,
    parts: Sequence[Sequence[TokenPart]],
) -> npt.NDArray[np.int32]:
    """Number of the label of each document of a corpus, (documents,)."""
    return _numbers_at(corpus.source, corpus.parts, corpus.starts, sources, labels, parts)


def _numbers_at(
    source: int,
    part_of: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    sources: Sequence[PreparedSource],
    labels: Labels,
    parts: Sequence[Sequence[TokenPart]],
) -> npt.NDArray[np.int32]:
    """Number of the label of the documents that begin there, (starts,)."""
    found = np.zeros(len(starts), np.int32)
    written = labels.open(sources[source])
    for part, tokens in enumerate(parts[source]):
        here = part_of == part
        found[here] = written[part][np.searchsorted(tokens.offsets, starts[here], side="right") - 1]
    return found
