"""Settings of a combination: what is not given is filled in, what cannot be or has no effect is refused."""

import pytest

from schemas.errors import UserError
from tasks.release.export.combine_recipe import Recipe, make_recipe, parse_weights


@pytest.mark.parametrize(
    ("settings", "what", "where"),
    [
        (("blend", 2, None, None, None), "'blend' is no way to combine", "--how"),
        (("linear", 2, [1.0], None, None), "there are 1 weights for 2 models", "--weights"),
        (("linear", 2, [1.0, float("nan")], None, None), "not a finite number", "--weights"),
        (("ties", 2, None, 0.0, None), "a density of 0 keeps nothing", "--density"),
        (("ties", 2, None, 1.5, None), "a density of 1.5", "--density"),
        (("ties", 2, None, float("nan"), None), "a density of nan", "--density"),
        (("linear", 2, None, 0.5, None), "a density has no effect", "--density"),
        (("ties", 2, None, 0.5, 3), "a seed has no effect", "--seed"),
    ],
)
def test_settings_that_cannot_be_or_have_no_effect_are_refused(settings, what, where):
    with pytest.raises(UserError, match=what) as error:
        make_recipe(*settings)
    assert error.value.where == where
    assert error.value.fix


def test_what_is_not_given_suits_the_way():
    assert make_recipe("linear", 2, None, None, None) == Recipe("linear", (0.5, 0.5), None, None)
    assert make_recipe("ties", 2, None, None, None) == Recipe("ties", (1.0, 1.0), 0.2, None)
    assert make_recipe("dare_linear", 4, None, None, None) == Recipe("dare_linear", (0.25,) * 4, 0.5, 17)
    assert make_recipe("dare_ties", 2, None, 0.9, 5) == Recipe("dare_ties", (1.0, 1.0), 0.9, 5)


def test_weights_are_read_from_a_list():
    assert parse_weights("0.5,-1") == [0.5, -1.0]
    assert parse_weights(None) is None
    with pytest.raises(UserError, match="'a,b' is not a list of numbers"):
        parse_weights("a,b")
