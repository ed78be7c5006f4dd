"""The picture of a replay choice says what its numbers say."""

import re
from dataclasses import replace
from pathlib import Path

from schemas.results.replay_choice import CurvePoint, ForgettingCurve, ProxyPoint, ReplayChoice
from tasks.release.pages.replay_picture import replay_curve
from tasks.release.pages.report import write_report
from tests.release.made_up import made_up

BAND = ((0.0, 0.9, 1.2), (0.1, 0.3, 0.4), (0.2, 0.15, 0.22), (0.25, 0.1, 0.16))


def choice(ratio: float | None = 0.2) -> ReplayChoice:
    points = tuple(
        ProxyPoint(
            replay_ratio=r,
            domain_tokens=tokens,
            replay_tokens=0,
            steps=9,
            seed=1,
            forgetting=f,
            standard_error=0.01,
        )
        for r, f in ((0.0, 0.8), (0.1, 0.28), (0.25, 0.11))
        for tokens in (1000, 2000)
    )
    curve = ForgettingCurve(
        suite="<general> & old", documents=40, clusters=40, tokens=900, floor=0.1, scale=0.8, eps=0.05, gamma=1,
        floor_slope=0, scale_slope=0.1, reference_tokens=2000, relative_noise=0.04, points=points,
        band=tuple(CurvePoint(replay_ratio=r, estimate=e, low=e / 2, high=h) for r, e, h in BAND),
    )  # fmt: skip
    return ReplayChoice(
        budget=0.25, confidence=0.95, replay_ratio=ratio, suite=curve.suite, estimate=0.15, high=0.22,
        domain_tokens=8000, curves=(curve,),
    )  # fmt: skip


def test_every_proxy_is_a_dot_and_the_shorter_ones_are_hollow():
    svg = replay_curve(choice().curves[0], choice())
    assert svg.count("<circle") == 6
    assert svg.count('class="proxy short"') == 3


def test_the_choice_and_the_budget_stand_where_the_numbers_say():
    svg = str(replay_curve(choice().curves[0], choice()))
    assert "chosen 0.2" in svg
    assert "budget 0.25" in svg
    place = re.search(r'<line x1="([\d.]+)%" x2="[\d.]+%" y1="0"[^>]*class="chosen"', svg)
    assert place
    assert float(place[1]) == round(100 * (0.02 + 0.96 * (0.2 / 0.25) ** 0.5), 2)


def test_nothing_is_marked_as_chosen_if_nothing_was():
    svg = str(replay_curve(choice(None).curves[0], choice(None)))
    assert "chosen" not in svg.replace("no replay", "")
    assert "no replay ratio up to 25% keeps forgetting within 0.25" in svg


def test_a_report_shows_the_choice_only_if_there_was_one(tmp_path: Path):
    write_report(tmp_path / "with.html", replace(made_up(), choice=choice()))
    write_report(tmp_path / "without.html", made_up())
    shown, plain = ((tmp_path / f"{name}.html").read_text() for name in ("with", "without"))
    assert "Why this much replay" in shown
    assert "Why this much replay" not in plain
    assert "&lt;general&gt; &amp; old" in shown
    assert "<general>" not in shown
