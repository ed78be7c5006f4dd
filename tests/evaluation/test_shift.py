"""The shift of a domain: exact on what can be counted by hand."""

import math

import numpy as np
import pytest

from tasks.evaluation.items import Item
from tasks.evaluation.shift import Shift, loss_per_token, measure_shift, unigram_divergence


def document(*ids: int) -> Item:
    return Item(id="f:1", group="g", bytes=1, input_ids=np.array(ids))


def test_equal_shares_do_not_diverge_whatever_the_order_and_length():
    assert unigram_divergence([[1, 2, 2]], [[2, 1], [2, 2, 1, 2]], 5) == pytest.approx(0, abs=1e-12)


def test_texts_without_a_token_in_common_diverge_by_ln_2():
    assert unigram_divergence([[0, 1]], [[2], [3]], 4) == pytest.approx(math.log(2))


def test_the_divergence_is_that_of_the_definition_and_the_same_both_ways():
    # p = (1/2, 1/2), q = (1, 0), their mean (3/4, 1/4): H(m) - (H(p) + H(q)) / 2
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) - math.log(2) / 2
    assert unigram_divergence([[0, 1]], [[0, 0]], 2) == pytest.approx(expected)
    assert unigram_divergence([[0, 0]], [[0, 1]], 2) == pytest.approx(expected)


@pytest.mark.parametrize("empty", [[], [[]]], ids=["no document", "an empty document"])
def test_nothing_has_no_shares(empty):
    with pytest.raises(ValueError, match="no token to count"):
        unigram_divergence([[1]], empty, 4)


def test_a_loss_is_per_token_not_per_document():
    items = [document(0, 1), document(0, 1, 2, 3)]
    assert loss_per_token(items, np.array([4.0, 6.0])) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="no document has a label token"):
        loss_per_token([document(0)], np.array([0.0]))


def test_the_gap_is_domain_minus_general_and_the_first_token_is_context():
    domain, general = [document(9, 1, 1)], [document(9, 2, 2), document(9, 2)]
    shift = measure_shift(domain, np.array([8.0]), general, np.array([2.0, 1.0]), 10)
    assert shift == Shift(loss_gap=3.0, divergence=pytest.approx(math.log(2)))
