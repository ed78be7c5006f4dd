"""Documents that are kept from training to choose something by: never those of a suite, which only judge."""

from collections.abc import Sequence

import numpy as np

from schemas.errors import UserError
from schemas.run import RunSpec
from tasks.data.mix import PIECE, Corpus, Pieces, cut_windows
from tasks.data.sources import PreparedSource

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
        places = [(index, row) for index in of_role for row in range(1, len(corpora[index].lengths))]
        order = np.random.default_rng([spec.training.seed, STREAM, number]).permutation(len(places))
        chosen = {index: np.zeros(len(corpora[index].lengths), bool) for index in of_role}
        tokens = 0
        for index, row in (places[place] for place in order):
            size = int(corpora[index].labels[row])
            if tokens + size <= budget:
                chosen[index][row] = True
                tokens += size
        if not tokens:
            raise UserError(
                f"the {role} text is too small to keep a tenth of its documents from training",
                "remedies",
                "add text, split long documents, or give weight_averaging an alpha of your own",
            )
        for index in of_role:
            kept.append(_pieces(corpora[index].take(chosen[index])))
            left[index] = corpora[index].take(~chosen[index])
    return left, cut_windows(np.concatenate(kept), spec.training.sequence_length)


def _pieces(corpus: Corpus) -> Pieces:
    """Whole documents."""
    pieces = np.zeros(len(corpus.lengths), PIECE)
    pieces["source"], pieces["part"] = corpus.source, corpus.parts
    pieces["start"], pieces["length"] = corpus.starts, corpus.lengths
    pieces["context"] = 1 if corpus.contexts is None else corpus.contexts
    return pieces
