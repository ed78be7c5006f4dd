"""The floor: what token frequencies alone achieve, and the refusal of suites at it."""

import math

import numpy as np
import pytest

from schemas.errors import UserErrors
from schemas.results.artifacts import ItemScore, Scores, SuiteScores
from tasks.evaluation.scoring.loss import score_documents
from tasks.evaluation.verdict.floor import ALPHAS, refuse_ceiling, refuse_floor, unigram_floor


def one_by_one(documents, vocab_size: int, alpha: float) -> float:
    """The definition, in plain loops."""
    nats, labels = 0.0, 0
    for index, document in enumerate(documents):
        others = [int(t) for j, other in enumerate(documents) if j != index for t in other[1:]]
        for token in document[1:]:
            nats -= math.log((others.count(int(token)) + alpha) / (len(others) + alpha * vocab_size))
            labels += 1
    return nats / labels


def test_the_floor_is_the_leave_one_out_loss_at_the_best_smoothing(documents):
    expected = min(one_by_one(documents, 64, alpha) for alpha in ALPHAS)
    assert unigram_floor(documents, 64) == pytest.approx(expected, abs=1e-12)


def test_a_document_does_not_predict_itself():
    """Each document repeats a token of its own: useless to the others, so worse than guessing at random."""
    documents = [[0] + [token] * 50 for token in range(1, 11)]
    assert unigram_floor(documents, 16) > math.log(16)


def test_a_single_document_has_the_uniform_floor():
    assert unigram_floor([[1, 2, 2, 2]], 100) == pytest.approx(math.log(100))


def test_the_first_token_is_no_label():
    assert unigram_floor([[1, 5, 5], [1, 5, 5]], 8) == unigram_floor([[7, 5, 5], [3, 5, 5]], 8)


def test_a_suite_without_labels_has_no_floor():
    with pytest.raises(ValueError, match="no document has a label token"):
        unigram_floor([[1], []], 8)


def suite(kind, name, nats, floor):
    item = ItemScore(id="f:1", group="f:1", tokens=10, bytes=40, nats={"base": nats})
    return SuiteScores(name=name, kind=kind, floor=floor, items=(item,))


def test_every_general_suite_at_its_floor_is_refused_with_its_numbers():
    suites = (
        suite("general", "a", 41.0, 4.0),
        suite("general", "fine", 39.0, 4.0),
        suite("general", "b", 40.0, 4.0),
    )
    with pytest.raises(UserErrors) as caught:
        refuse_floor(Scores(suites=suites))
    first, second = caught.value.errors
    assert "suite 'a'" in first.what
    assert "4.100 nats per token, no better than the 4.000" in first.what
    assert first.where == "evaluation.general, suite 'a'"
    assert "has learnt" in first.fix
    assert "suite 'b'" in second.what


def test_a_domain_suite_may_be_at_its_floor():
    refuse_floor(Scores(suites=(suite("domain", "new", 90.0, 4.0), suite("general", "fine", 39.0, 4.0))))


def scored(name, model, ids) -> SuiteScores:
    nats = score_documents(model, ids, max_length=512, batch_tokens=4096, device="cpu")
    items = tuple(
        ItemScore(id=f"{name}:{i}", group=f"{name}:{i}", tokens=len(x) - 1, bytes=1, nats={"base": float(n)})
        for i, (x, n) in enumerate(zip(ids, nats, strict=True))
    )
    return SuiteScores(name=name, kind="general", floor=unigram_floor(ids, 512), items=items)


def test_a_story_model_has_skill_on_stories_and_none_on_chinese(stories, stories_ids, chinese_ids):
    in_english = scored("stories", stories[0], stories_ids)
    in_chinese = scored("chinese", stories[0], chinese_ids)
    assert 1.1 < in_english.nats_per_token("base") < 1.3 < in_english.floor - 1
    assert in_chinese.nats_per_token("base") > in_english.nats_per_token("base") + 3
    with pytest.raises(UserErrors) as caught:
        refuse_floor(Scores(suites=(in_english, in_chinese)))
    assert [error.where for error in caught.value.errors] == ["evaluation.general, suite 'chinese'"]


def test_the_floor_of_a_large_vocabulary_lies_below_the_uniform():
    generator = np.random.default_rng(0)
    documents = [generator.zipf(1.3, 500) % 150_000 for _ in range(400)]
    assert 0 < unigram_floor(documents, 150_000) < math.log(150_000)


def two_suites(domain: float, general: float) -> Scores:
    """Suites of one document whose base has these losses per token."""
    return Scores(
        suites=tuple(
            SuiteScores(
                name=kind, kind=kind, floor=9.0,
                items=(ItemScore(id="f:1", group="1", tokens=10, bytes=40, nats={"base": 10 * loss}),),
            )
            for kind, loss in (("domain", domain), ("general", general))
        )
    )  # fmt: skip


def test_suites_at_the_ceiling_are_refused_before_anything_is_trained():
    refuse_ceiling(two_suites(3.0, 2.0), min_gain=0.1)
    with pytest.raises(UserErrors) as error:
        refuse_ceiling(two_suites(0.1, 0.01), min_gain=0.11)
    assert "no gain of 0.11 is possible on suite 'domain': the base's loss is 0.100 already" in str(
        error.value
    )
    assert "knows suite 'general' by heart" in str(error.value)
