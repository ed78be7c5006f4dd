"""Documents that are kept from training to choose by are a fair sample of it."""

import numpy as np

from tasks.data.plan.kept_documents import keep_development
from tests.corpora import made_corpus, made_source, make_spec, source


def test_long_documents_are_kept_as_often_as_short_ones():
    lengths = np.tile([11, 201], 300)
    sources = [made_source("domain", 0), made_source("replay", 0)]
    corpora = [made_corpus(number, lengths) for number in range(2)]
    long, all_kept = 0, 0
    for seed in range(40):
        spec = make_spec(
            training={"seed": seed, "sequence_length": 512, "batch_tokens": 512},
            replay=[source("replay.txt")],
            mixture={"replay_ratio": 0.5},
            remedies=[{"kind": "weight_averaging", "development_tokens": 4000}],
        )
        left, kept = keep_development(spec, sources, corpora)
        assert sum(len(corpus.lengths) for corpus in left) + len(kept) == 1200
        assert 1_000 < kept["length"].sum() <= 4_000 + len(kept)
        long += int((kept["length"] == 201).sum())
        all_kept += len(kept)
    assert 0.44 < long / all_kept < 0.56


def test_a_document_longer_than_the_whole_budget_does_not_end_the_choice():
    spec = make_spec(
        replay=[source("replay.txt")],
        mixture={"replay_ratio": 0.5},
        remedies=[{"kind": "weight_averaging", "development_tokens": 400}],
    )
    lengths = np.array([11, 100_000, *[11] * 50])
    sources = [made_source("domain", 0), made_source("replay", 0)]
    _, kept = keep_development(spec, sources, [made_corpus(number, lengths) for number in range(2)])
    assert len(kept) == 40
