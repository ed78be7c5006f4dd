"""The final answer of a response: GSM8K's mark, else the last number; however it is written, one number is one answer."""

import pytest

from tasks.evaluation.suites.final_answer import final_answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18", "18"),
        ("#### 70,000", "70000"),
        ("#### $1,234.50", "1234.5"),
        ("#### 18.00", "18"),
        ("#### 18.", "18"),
        ("#### -5", "-5"),
        ("#### 0.50 dollars", "0.5"),
        ("#### 7\nThe answer is: 7", "7"),
        ("First 3.\n#### 4\n\n### Instruction:\nMore?\n#### 9", "4"),
        ("#### Paris.", "paris"),
        ("#### ", ""),
        ("So 10-5=5 apples.", "5"),
        ("It is 12 - 7", "7"),
        ("(3)-4", "4"),
        ("one of 1,2,3", "3"),
        ("-$5", "-5"),
        ("a loss of -4", "-4"),
        ("The answer is $ 1,000,000.", "1000000"),
        ("答案是 18。", "18"),
        ("答案是 １８。", "18"),
        ("about .5", "0.5"),
        ("-0", "0"),
        ("no number here", ""),
        ("", ""),
        ("####\n5", "5"),
    ],
)
def test_a_final_answer_is_read_as_people_would(response, answer) -> None:
    assert final_answer(response) == answer


def test_thousands_and_decimals_make_no_answer_another_one() -> None:
    assert (
        len({final_answer(text) for text in ("#### 1,200", "#### $1200", "#### 1200.", "is 1,200.00")}) == 1
    )


def test_the_mark_counts_before_any_later_number() -> None:
    assert final_answer("#### 3 and then 4 and 5") == "3"
