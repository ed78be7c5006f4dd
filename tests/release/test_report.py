"""The report: everything in one file, nothing from elsewhere, nothing that data could break."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest

from flows.progress.notes import mixture_line
from schemas.results.artifacts import FileLedger, LabelShare, Ledger, Scores, Verdict
from schemas.results.scores import LabelScore, LabelSuite
from tasks.release.pages.report import ReportData, spec_yaml, write_report
from tasks.release.pages.shown_scores import incumbent
from tasks.release.pages.templates import commands, duration, short, size
from tests.release.made_up import made_up, suites

HOSTILE = "data/<script>alert(1)</script>&\"'>中文.jsonl"


class Page(HTMLParser):
    """Elements with their attributes, and whether every opened element was closed in order."""

    _VOID = ("meta", "link", "br", "wbr")

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def render(tmp_path: Path, report: ReportData) -> str:
    write_report(tmp_path / "report.html", report)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def words(html: str) -> str:
    """The text a reader sees, runs of white space as one blank."""
    return re.sub(
        r"\s+", " ", re.sub(r"<(?:style|title|desc)\b.*?</\w+>|<wbr>|<[^>]+>", " ", html, flags=re.DOTALL)
    )


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_the_verdict_stands_in_the_banner_as_word_and_sentence(tmp_path: Path, verdict: Verdict) -> None:
    report = made_up(verdict)
    html = render(tmp_path, report)
    banner = html[html.index(f'<div class="banner {verdict}"') : html.index("<main>")]
    assert "<svg" in banner
    assert f"{verdict.capitalize()} {report.decision.sentence}" in words(banner)


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_rule_is_shown_with_numbers_and_outcome(tmp_path: Path, verdict: Verdict) -> None:
    report = made_up(verdict)
    html = render(tmp_path, report)
    shown = [words(part) for part in html.split('<div class="rule">')[1:]]
    assert len(shown) == len(report.decision.rules) == 6
    for rule, text in zip(report.decision.rules, shown, strict=True):
        sign = -1 if rule.rule == "gain" else 1
        assert f"{sign * rule.estimate:+.3f}".replace("-", "\u2212") in text
        for part in (rule.suite, f"against the {rule.against}", rule.outcome, rule.reason):
            assert part in text
    if verdict == "inconclusive":
        assert "about 158 would decide" in shown[2]


def test_what_to_do_next_is_said(tmp_path: Path) -> None:
    report = made_up("inconclusive")
    text = words(render(tmp_path, report))
    assert report.decision.next_action in text
    assert "rootstock rollback" not in text
    assert "rootstock rollback medical" in words(render(tmp_path, made_up("promote")))
    assert "rootstock rollback" not in words(render(tmp_path, made_up("promote", champion=False)))


def test_commands_in_the_advice_are_set_as_code_and_all_of_it_is_escaped() -> None:
    assert commands("try `a <b>` or ` & so") == "try <code>a &lt;b&gt;</code> or ` &amp; so"


def test_a_model_that_waits_for_approval_names_the_command_that_promotes_it(tmp_path: Path) -> None:
    report = made_up()
    spec = report.spec.model_copy(
        update={"promotion": report.spec.promotion.model_copy(update={"approval": "manual"})}
    )
    assert "rootstock promote medical-3f9a1c20b7d4" in words(render(tmp_path, replace(report, spec=spec)))


def test_the_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    html = render(tmp_path, made_up())
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "img", "base", "form")
        for name in ("src", "srcset", "href", "xlink:href", "action", "poster", "data"):
            assert attributes.get(name) in (None, "data:,")
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in html
    assert "url(" not in html
    assert "http:" not in html
    assert "https:" not in html
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_page_is_well_formed(tmp_path: Path) -> None:
    html = render(tmp_path, made_up())
    assert html.lstrip().startswith("<!doctype html>")
    assert Page(html).open == []


def test_hostile_names_are_shown_and_never_run(tmp_path: Path) -> None:
    report = made_up()
    ledger = Ledger(files=(FileLedger(file=HOSTILE, role="domain", source=0, read=3, accepted=3),))
    gate = report.gates[1].model_copy(update={"dataset": HOSTILE})
    broken = report.gates[0].rules[3].model_copy(update={"places": (HOSTILE + ":1",)})
    first = report.gates[0].model_copy(update={"rules": (broken,)})
    suite = report.scores.suites[0].model_copy(
        update={
            "name": HOSTILE,
            "items": (report.scores.suites[0].items[0].model_copy(update={"id": HOSTILE}),),
        }
    )
    rule = report.decision.rules[0].model_copy(update={"suite": HOSTILE, "reason": HOSTILE})
    hostile = replace(
        report,
         run=HOSTILE, device=HOSTILE, ledger=ledger, gates=[first, gate],
        scores=Scores(suites=(suite,)),
        decision=report.decision.model_copy(update={"rules": (rule,), "sentence": HOSTILE, "next_action": HOSTILE}),
        lineage=report.lineage.model_copy(update={"data": {HOSTILE: "0"}, "base_name": HOSTILE}),
        seconds={HOSTILE: 1.0},
        samples=[(HOSTILE, HOSTILE, HOSTILE)],
    )  # fmt: skip
    html = render(tmp_path, hostile)
    assert "<script" not in html.lower()
    page = Page(html)
    assert page.open == []
    assert not any(tag == "script" for tag, _ in page.elements)
    assert "&lt;script&gt;alert(1)" in html
    assert "中文.jsonl" in html


def test_a_file_name_that_is_not_unicode_does_not_break_the_page(tmp_path: Path) -> None:
    name = b"data/\xff.txt".decode("utf-8", "surrogateescape")
    ledger = Ledger(files=(FileLedger(file=name, role="domain", source=0, read=1, accepted=1),))
    assert "\\udcff.txt" in render(tmp_path, replace(made_up(), ledger=ledger))


def test_the_ledger_shows_every_file_and_exact_totals(tmp_path: Path) -> None:
    report = made_up()
    text = words(render(tmp_path, report))
    for file in report.ledger.files:
        assert f"{file.read:,} {file.accepted:,} {file.held_out:,} {file.duplicate:,}" in text
    assert "All files 17,772 15,940 1,033 502 45 252" in text
    assert "empty_text 201" in text


def test_a_ledger_of_very_many_files_shows_the_worst_and_counts_the_rest(tmp_path: Path) -> None:
    files = [FileLedger(file=f"{n}.txt", role="domain", source=0, read=9, accepted=9) for n in range(250)]
    bad = FileLedger(
        file="bad.txt", role="domain", source=0, read=9, quarantined=9, reasons={"empty_text": 9}
    )
    text = words(render(tmp_path, replace(made_up(), ledger=Ledger(files=(*files, bad)))))
    assert "bad.txt" in text
    assert "and 151 more files" in text
    assert "All files 2,259" in text


def test_contract_results_name_places(tmp_path: Path) -> None:
    html = render(tmp_path, made_up())
    assert "<code>data/medical/guidelines-2024.jsonl:17</code>" in html
    assert "and 127 more" in words(html)
    assert html.count('<details class="card gate" open>') == 1


def test_scores_stand_in_three_units_for_every_model(tmp_path: Path) -> None:
    report = made_up()
    text = words(render(tmp_path, report))
    suite = report.scores.suites[0]
    nats = " ".join(f"{suite.nats_per_token(who):.3f}" for who in ("base", "champion", "candidate"))
    bits = " ".join(f"{suite.bits_per_byte(who):.3f}" for who in ("base", "champion", "candidate"))
    assert f"medical domain 211 {nats} {bits}" in text
    assert (
        "champion"
        not in words(render(tmp_path, made_up(champion=False))).split("Scores")[1].split("Training")[0]
    )


def test_documents_are_compared_with_the_model_that_would_be_replaced() -> None:
    assert incumbent(made_up(champion=True).scores) == "champion"
    assert incumbent(made_up(champion=False).scores) == "base"


def test_every_picture_and_table_speaks_to_a_screen_reader(tmp_path: Path) -> None:
    html = render(tmp_path, made_up())
    drawings = re.findall(r'<svg class="plot.*?>(.*?)</desc>', html, flags=re.DOTALL)
    assert len(drawings) > 20
    assert all(re.match(r"<title>.+</title><desc>.+", drawing, flags=re.DOTALL) for drawing in drawings)
    assert all("scope" in attributes for tag, attributes in Page(html).elements if tag == "th")


def test_a_run_without_metrics_samples_gates_or_an_older_model_still_has_a_report(tmp_path: Path) -> None:
    report = made_up(champion=False)
    alone = tuple(
        suite.model_copy(
            update={
                "items": tuple(
                    i.model_copy(update={"nats": {"candidate": i.nats["candidate"]}}) for i in suite.items
                )
            }
        )
        for suite in report.scores.suites
    )
    bare = replace(report, metrics=[], samples=[], gates=[], seconds={}, scores=Scores(suites=alone))
    text = words(render(tmp_path, bare))
    assert "No dataset of this run was checked." in text
    assert "Training loss" not in text
    assert f"{alone[0].nats_per_token('candidate'):.3f}" in text


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    assert render(tmp_path, made_up()) == render(tmp_path, made_up())


def test_the_specification_is_shown_as_yaml_that_reads_back() -> None:
    from schemas.reading.yaml_reader import parse_yaml
    from schemas.spec.run import RunSpec

    spec = made_up().spec
    assert RunSpec.model_validate(parse_yaml(spec_yaml(spec), "shown").value) == spec


def test_units_are_readable() -> None:
    assert [short(n) for n in (0, 999, 1234, 999_900, 596_049_920)] == ["0", "999", "1.23 k", "1 M", "596 M"]
    assert [duration(s) for s in (0.6, 59.9, 203, 7260)] == ["0.6 s", "59.9 s", "3 min 23 s", "2 h 01 min"]
    assert [size(b) for b in (12, 20_214_112, 1_840_000_000)] == ["12 B", "20.2 MB", "1.84 GB"]


def test_many_documents_stay_a_small_page(tmp_path: Path) -> None:
    import random

    report = made_up()
    (suite, *_) = suites(random.Random(1), "promote", True)
    large = suite.model_copy(update={"items": suite.items * 100})
    assert len(render(tmp_path, replace(report, scores=Scores(suites=(large,))))) < 500_000


def test_an_interval_without_bounds_is_shown_as_infinite(tmp_path: Path) -> None:
    report = made_up("inconclusive")
    rules = list(report.decision.rules)
    rules[2] = rules[2].model_copy(
        update={"low": float("-inf"), "high": float("inf"), "clusters_needed": None}
    )
    boundless = report.decision.model_copy(update={"rules": tuple(rules)})
    html = render(tmp_path, replace(report, decision=boundless))
    assert "\u2212\u221e to +\u221e" in words(html)
    assert "no number would decide" in words(html)
    assert not re.search(r'="[^"]*(nan|inf)%', html)


def test_the_specification_keeps_its_order() -> None:
    keys = [line.split(":")[0] for line in spec_yaml(made_up().spec).splitlines() if re.match("[a-z]", line)]
    assert keys[:3] == ["name", "base", "objective"]


def with_head(yardstick: str | None = "majority class") -> ReportData:
    """A classifier's report: one label is hostile."""
    names = ["ham", HOSTILE]
    items = tuple(
        LabelScore(id=f"{HOSTILE}:{n}", group=str(n), gold=names[n % 2], predicted={"base": "ham", "candidate": names[n % 2 if n % 5 else 0]})
        for n in range(1, 61)
    )  # fmt: skip
    suites_ = tuple(LabelSuite(name=name, kind=kind, floor=0.5, items=items) for name, kind in (("domain", "domain"), ("old", "general")))  # fmt: skip
    scores = Scores(unit="accuracy", yardstick=yardstick, suites=suites_)
    return replace(made_up(champion=False), scores=scores, labels={"ham": 90, HOSTILE: 70})


def test_a_head_is_reported_in_fractions_with_its_labels_and_its_yardstick(tmp_path: Path) -> None:
    html = render(tmp_path, with_head())
    page, text = Page(html), words(html)
    assert page.open == []
    assert not any(tag == "script" for tag, _ in page.elements)
    assert "Domain accuracy 0.500 → 0.900 majority class to candidate; macro F1" in text
    assert "Higher is better everywhere" in text
    assert "better: accuracy rises" in html
    assert "against the majority class" in text
    assert "against the base" not in text
    assert "ham 90" in text
    assert "right only now 24" in text
    assert "Nats per label, domain" in text
    assert (
        "nats per token"
        not in text.replace(made_up("promote").decision.sentence, "").split("Gain and forgetting")[0]
    )
    named = words(render(tmp_path, with_head(yardstick=None)))
    assert "against the base" in named
    assert "has no head" not in named


def test_labels_that_are_drawn_more_often_are_shown_with_what_is_repeated(tmp_path: Path) -> None:
    plain = made_up()
    assert "Times through Label" not in words(render(tmp_path, plain))
    assert "documents of rare labels" not in words(render(tmp_path, plain))
    shares = (
        LabelShare(label="ham", documents=900, trained_documents=900),
        LabelShare(label=HOSTILE, documents=100, trained_documents=450),
        LabelShare(label="old", documents=0, trained_documents=0),
    )
    tokens = plain.ledger.tokens
    assert tokens is not None
    ledger = plain.ledger.model_copy(update={"tokens": tokens.model_copy(update={"repeated": 4321})})
    mixture = plain.mixture.model_copy(update={"labels": shares})
    html = render(tmp_path, replace(plain, ledger=ledger, mixture=mixture))
    assert Page(html).open == []
    assert "<script>alert" not in html
    assert "ham 900 900 1.00" in words(html)
    assert "100 450 4.50" in words(html)
    assert "old 0 0" in words(html)
    assert "Each pass over the domain has 4,321 more: documents of rare labels are repeated." in words(html)
    assert mixture_line(mixture).endswith(
        f"% full; ham 900 from 900 documents; {HOSTILE} 450 from 100 documents; old 0 from 0 documents"
    )
    assert mixture_line(plain.mixture).endswith("% full")
