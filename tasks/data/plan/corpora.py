"""What a training can draw from: the documents of every source, and a choice of so many of the domain's."""

from collections.abc import Sequence

import numpy as np

from schemas.errors import UserError
from tasks.data.plan.mix import Corpus, collect
from tasks.data.split.divide import Fate, load_fates
from tasks.data.tokens.token_files import open_tokens
from tasks.data.tokens.tokenizer import SpecialIds
from tasks.data.validate.sources import PreparedSource
from tasks.storage.steps import Step

DOCUMENTS_STREAM = 3  # of random numbers: which documents training.documents chooses


def collect_corpora(
    sources: Sequence[PreparedSource],
    tokenized: Sequence[Step],
    divided: Step,
    special: SpecialIds,
    longest: Sequence[int | None],
    may_be_empty: bool = False,
) -> list[Corpus]:
    """The trainable documents of every training source; `longest` as in `collect`, one a source.

    `may_be_empty`: in an increment, some have only rows that are not new.
    """
    corpora = []
    for number, (source, step) in enumerate(zip(sources, tokenized, strict=True)):
        parts = open_tokens(step, len(source.parts), special.vocab_size)
        kept = [fate == Fate.ACCEPTED for fate in load_fates(divided, source)]
        corpora.append(collect(number, parts, kept, longest[number]))
        if corpora[-1].no_room and not corpora[-1].label_tokens:
            raise UserError(
                f"no prompt of {source.role} source {source.index} leaves room for a response in {longest[number]} tokens",
                source.source.path,
                "raise training.sequence_length",
            )
        if not corpora[-1].label_tokens and not may_be_empty:
            raise UserError(
                f"no training row is left in {source.role} source {source.index}",
                source.source.path,
                "all its rows are duplicates, leaked or held out: see the ledger; add data or lower evaluation.domain_holdout",
            )
    return corpora


def choose_documents(
    sources: Sequence[PreparedSource], corpora: Sequence[Corpus], limit: int | None, seed: int
) -> tuple[list[Corpus], int]:
    """Keep at most `limit` documents of the domain, in their order; return the corpora and the label tokens left out."""
    domain = [number for number, source in enumerate(sources) if source.role == "domain"]
    counts = [len(corpora[number].lengths) for number in domain]
    if limit is None or sum(counts) <= limit:
        return list(corpora), 0
    chosen = np.zeros(sum(counts), bool)
    chosen[np.random.default_rng([seed, DOCUMENTS_STREAM]).permutation(len(chosen))[:limit]] = True
    kept = list(corpora)
    for number, mask in zip(domain, np.split(chosen, np.cumsum(counts)[:-1]), strict=True):
        kept[number] = corpora[number].take(mask)
    for number in domain:
        if not len(kept[number].lengths):
            raise UserError(
                f"training.documents chooses none of the documents of domain source {sources[number].index}",
                sources[number].source.path,
                "raise training.documents, or name fewer sources",
            )
    left_out = sum(corpora[n].label_tokens - kept[n].label_tokens for n in domain)
    return kept, left_out
