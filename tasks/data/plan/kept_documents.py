"""Documents that are kept from training to choose something by: never those of a suite, which only judge."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError
from schemas.spec.run import RunSpec
from tasks.data.plan.mix import PIECE, Corpus, Pieces, cut_windows
from tasks.data.validate.sources import PreparedSource

STREAM = 2**21  # of random numbers: which documents are kept
MOST = 0.1  # of the text of domain or replay: so much may be kept from training


def development_tokens(spec: RunSpec) -> int:
    """Label tokens that the remedies choose by, half domain and half general."""
    return max((remedy.development_sample for remedy in spec.remedies), default=0)


def keep_development(
    spec: RunSpec, sources: Sequence[PreparedSource], corpora: Sequence[Corpus]
) -> tuple[list[Corpus], Pieces]:
    """Take a seeded choice of documents out of the corpora; return what is left, and the choice as windows.

    Half the tokens are domain, half replay, and at most a tenth of each. Every source keeps a document.

    Raises:
        UserError: there are too few documents to choose from.
    """
    left, kept = list(corpora), []
    for number, role in enumerate(("domain", "replay")):
        of_role = [index for index, source in enumerate(sources) if source.role == role]
        together = sum(corpora[index].label_tokens for index in of_role)
        budget = min(development_tokens(spec) // 2, int(MOST * together))
        chosen = _choose([corpora[index] for index in of_role], budget, [spec.training.seed, STREAM, number])
        if not any(mask.any() for mask in chosen):
            raise UserError(
                f"the {role} text is too small to keep a tenth of its documents from training",
                "remedies",
                "add text, split long documents, or give weight_averaging an alpha of your own",
            )
        for index, mask in zip(of_role, chosen, strict=True):
            kept.append(_pieces(corpora[index].take(mask)))
            left[index] = corpora[index].take(~mask)
    return left, cut_windows(np.concatenate(kept), spec.training.sequence_length)


def _choose(corpora: Sequence[Corpus], budget: int, seed: Sequence[int]) -> list[npt.NDArray[np.bool_]]:
    """Which documents of each corpus are kept, (documents,) each: the first in a random order, up to the budget.

    The first that is too long for what is left ends the choice. To go on with those that still fit would fill the end
    with short documents. One that is longer than the whole budget can never be kept.
    """
    sizes = np.concatenate([corpus.labels for corpus in corpora])
    ends = np.cumsum([len(corpus.lengths) for corpus in corpora])
    firsts = [
        end - len(corpus.lengths) for corpus, end in zip(corpora, ends, strict=True) if len(corpus.lengths)
    ]
    candidates = sizes <= budget
    candidates[firsts] = False  # every source keeps a document
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[candidates[order]]
    chosen = np.zeros(len(sizes), bool)
    chosen[order[np.cumsum(sizes[order]) <= budget]] = True
    return np.split(chosen, ends[:-1])


def _pieces(corpus: Corpus) -> Pieces:
    """Whole documents."""
    pieces = np.zeros(len(corpus.lengths), PIECE)
    pieces["source"], pieces["part"] = corpus.source, corpus.parts
    pieces["start"], pieces["length"] = corpus.starts, corpus.lengths
    pieces["context"] = 1 if corpus.contexts is None else corpus.contexts
    return pieces
