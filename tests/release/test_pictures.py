"""What the pictures say must be what the numbers say."""

import re
from typing import Literal

import pytest

from schemas.results.artifacts import FileLedger, RuleOutcome, StepMetrics
from schemas.results.scores import MEASURES, LabelScore, LabelSuite, Measure
from tasks.release.pages import pictures
from tasks.release.pages.svg import Scale, element
from tests.release.made_up import made_up


def rule(
    kind: Literal["gain", "forgetting"],
    low: float,
    high: float,
    outcome: Literal["pass", "fail", "undecided"],
) -> RuleOutcome:
    return RuleOutcome(
        rule=kind, suite="s", against="base", estimate=(low + high) / 2, low=low, high=high, threshold=0.05,
        outcome=outcome, reason="r.", clusters=9,
    )  # fmt: skip


LOSS, ACCURACY = MEASURES["nats per token"], MEASURES["accuracy"]


def row_of(one: RuleOutcome, measure: Measure = LOSS) -> str:
    return pictures.forest_row(one, pictures.forest_scale([one], measure), measure, "base")


def place(svg: str, pattern: str) -> float:
    found = re.search(pattern, svg)
    assert found
    return float(found[1])


@pytest.mark.parametrize(
    ("kind", "low", "high", "outcome", "inside"),
    [
        ("gain", 0.1, 0.3, "pass", True),
        ("gain", -0.3, 0.01, "fail", False),
        ("forgetting", -0.02, 0.03, "pass", True),
        ("forgetting", 0.1, 0.3, "fail", False),
        ("forgetting", 0.01, 0.09, "undecided", False),
    ],
)
def test_a_rule_passes_exactly_where_its_interval_lies_in_the_shaded_zone(
    kind, low, high, outcome, inside
) -> None:
    one = rule(kind, low, high, outcome)
    svg = row_of(one)
    zone = place(svg, r'width="([\d.]+)%" height="46" class="zone"')
    right_end = place(svg, r'x2="([\d.]+)%" y1="23" y2="23"')
    assert (right_end < zone) is inside
    svg = row_of(one, ACCURACY)  # higher is better: the zone lies to the right of the limit
    zone = place(svg, r'<rect x="([\d.]+)%" y="0" width="[\d.]+%" height="46" class="zone"')
    width = place(svg, r'width="([\d.]+)%" height="46" class="zone"')
    left_end = place(svg, r'x1="([\d.]+)%" x2="[\d.]+%" y1="23" y2="23"')
    assert zone + width == pytest.approx(100, abs=0.02)
    assert (left_end > zone) is inside


def test_a_lower_loss_is_better_and_to_the_left() -> None:
    gain, loss = rule("gain", 0.4, 0.6, "pass"), rule("gain", -0.6, -0.4, "fail")
    assert pictures.change(gain, LOSS) == (-0.6, -0.5, -0.4, -0.05)
    assert pictures.change(gain, LOSS)[1] < pictures.change(loss, LOSS)[1]
    axis = pictures.forest_axis(pictures.forest_scale([gain, loss], LOSS), LOSS)
    assert axis.index("better: loss falls") < axis.index("worse: loss rises")


def test_a_higher_accuracy_is_better_and_to_the_right() -> None:
    gain, forgetting = rule("gain", 0.4, 0.6, "pass"), rule("forgetting", 0.1, 0.3, "fail")
    assert pictures.change(gain, ACCURACY) == (0.4, 0.5, 0.6, 0.05)
    assert pictures.change(forgetting, ACCURACY) == (-0.3, -0.2, -0.1, -0.05)
    axis = pictures.forest_axis(pictures.forest_scale([gain, forgetting], ACCURACY), ACCURACY)
    assert axis.index("worse: accuracy falls") < axis.index("better: accuracy rises")


def test_the_bar_of_right_answers_counts_every_item_once() -> None:
    answers = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b"), ("b", "b")]  # the label is a: (before, now)
    items = tuple(
        LabelScore(id=str(n), group=str(n), gold="a", predicted={"base": old, "candidate": new})
        for n, (old, new) in enumerate(answers)
    )
    suite = LabelSuite(name="s", kind="domain", floor=0.0, items=items)
    assert suite.compared("base") == (1, 1, 1, 2)
    svg = pictures.right_bar(suite, "base")
    assert "1 right under both, 1 right only now, 1 right only before, 2 wrong under both" in svg
    assert [float(w) for w in re.findall(r'width="([\d.]+)%" height="26" class="part', svg)] == [
        20,
        20,
        20,
        40,
    ]


def test_outcomes_differ_in_more_than_colour() -> None:
    shapes = {}
    for outcome in ("pass", "fail", "undecided"):
        one = rule("forgetting", 0.0, 0.1, outcome)
        found = re.search(r'<(rect|circle)[^>]*class="dot (\w+)"', row_of(one))
        shapes[outcome] = found and found[1]
    assert shapes == {"pass": "circle", "fail": "rect", "undecided": "circle"}


@pytest.mark.parametrize("values", [(0.0, 1.0), (-0.48, 0.05), (1e-9, 2e-4), (7.0, 7.0), (-3000.0, 12.0)])
def test_ticks_are_round_and_inside(values: tuple[float, float]) -> None:
    scale = Scale.around(values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    gap = ticks[1] - ticks[0]
    assert f"{gap:.3e}"[0] in "125"


def test_a_scale_ignores_what_is_not_a_number() -> None:
    assert Scale.around([1.0, float("nan"), float("inf"), 2.0]) == Scale.around([1.0, 2.0])


def test_a_ledger_bar_fills_its_width_and_shows_the_smallest_share() -> None:
    svg = pictures.ledger_bar(
        FileLedger(file="f", role="domain", source=0, read=100_000, accepted=99_999, leaked=1)
    )
    widths = [float(width) for width in re.findall(r'width="([\d.]+)%" height="16" class="part', svg)]
    assert sum(widths) == pytest.approx(100, abs=0.02)
    assert min(widths) > 0.3
    assert "99,999 accepted, 1 leaked from a test set" in svg


def test_an_empty_file_has_an_empty_bar() -> None:
    assert 'class="part' not in pictures.ledger_bar(FileLedger(file="f", role="domain", source=0))


def test_a_long_training_is_thinned_to_what_a_screen_can_show() -> None:
    metrics = [
        StepMetrics(step=n, loss=5 - n / 50_000, learning_rate=0.1, grad_norm=1, tokens_per_second=1, peak_memory_bytes=1, seconds=n)
        for n in range(100_000)
    ]  # fmt: skip
    svg = pictures.steps_curve(metrics, lambda m: m.loss, "Loss", 200)
    assert len(svg) < 20_000
    assert "From 5 at step 0 to 3 at step 99999." in svg


def test_a_training_of_one_step_has_a_curve() -> None:
    assert "polyline" in pictures.steps_curve(
        made_up().metrics[:1], lambda m: m.loss, "Loss", 200, smooth=True
    )


@pytest.mark.parametrize("bad", [(4,), tuple(range(9))])
def test_a_loss_that_is_not_finite_is_left_out_of_the_curve(bad: tuple[int, ...]) -> None:
    metrics = [
        line.model_copy(update={"loss": float("nan")}) if index in bad else line
        for index, line in enumerate(made_up().metrics[:9])
    ]
    svg = pictures.steps_curve(metrics, lambda m: m.loss, "Loss", 200)
    found = re.search(r'points="([^"]*)"', svg)
    assert found
    assert len(found[1].split()) == 9 - len(bad)
    assert "nan" not in found[1]


def test_a_document_below_the_diagonal_is_drawn_as_better() -> None:
    suite = made_up("reject", champion=False).scores.suites[1]
    svg = pictures.documents(suite, "base")
    worse = sum(item.nats["candidate"] >= item.nats["base"] for item in suite.items)
    assert worse > len(suite.items) / 2
    assert len(re.findall(r'r="2.8" class="worse"', svg)) == worse


def test_attributes_and_text_are_escaped() -> None:
    drawn = element("text", "<b>&", class_='"><script>')
    assert drawn == '<text class="&#34;&gt;&lt;script&gt;">&lt;b&gt;&amp;</text>'
