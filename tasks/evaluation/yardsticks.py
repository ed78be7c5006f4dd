"""Set a new model beside models without a network, on the same held-out documents."""

from collections.abc import Sequence
from typing import Any

from tasks.data.divide import Fate, load_fates
from tasks.data.prepare import Prepared, Tokenized
from tasks.data.token_files import open_tokens
from tasks.evaluation.baselines import ngram_bits_per_byte, unigram_bits_per_byte
from tasks.evaluation.items import Suite


def bits_per_byte_of_ngrams(
    prepared: Prepared, tokenized: Tokenized, suites: Sequence[Suite]
) -> dict[str, Any]:
    """Bits per byte of a unigram and a trigram model, fitted on the training rows, for each suite."""
    vocab_size = tokenized.special.vocab_size
    documents = [
        part.document(row)
        for source in prepared.training
        for part, fates in zip(
            open_tokens(tokenized.steps[source.label], len(source.parts), vocab_size),
            load_fates(prepared.divided, source),
            strict=True,
        )
        for row, fate in enumerate(fates)
        if fate == Fate.ACCEPTED
    ]
    yardsticks = {}
    for suite in suites:
        held_out = [item.input_ids for item in suite.items]
        num_bytes = sum(item.bytes for item in suite.items)
        yardsticks[suite.name] = {
            "unigram": unigram_bits_per_byte(documents, held_out, num_bytes, vocab_size),
            "trigram": ngram_bits_per_byte(documents, held_out, num_bytes, vocab_size),
        }
    return yardsticks
