"""The model card: README.md in the model folder, so that a model on its own still says what it is."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from schemas.reading.load import is_hub_id
from schemas.results.scores import YARDSTICKS
from tasks.release.pages import method_told, pictures
from tasks.release.pages.markdown import code, inline
from tasks.release.pages.report import ReportData
from tasks.release.pages.shown_scores import models_scored, score_columns
from tasks.release.pages.templates import count, share, short, size
from tasks.storage.atomic import write_atomic


def write_card(path: Path, report: ReportData) -> None:
    """Write the card (`model/README.md`): base, data, method, scores, verdict, and whose licences apply.

    The card is not part of the weights' hash, so it may be written after the decision.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown: every piece of data goes through `code` or `inline`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        code=code, inline=inline, count=count, share=share, short=short, size=size, signed=pictures.signed
    )
    text = environment.get_template("card.md.j2").render(
        r=report,
        who=models_scored(report.scores),
        columns=score_columns(report.scores),
        measure=report.scores.measure,
        kept=report.scores.measure_of(report.scores.suites[-1]),  # the domain's comes first
        called=report.scores.called,
        yardsticks=YARDSTICKS,
        method=method_told.told(report.method),
        long=method_told.LONG,
        hub_base=report.spec.base
        if isinstance(report.spec.base, str) and is_hub_id(report.spec.base)
        else None,
    )
    write_atomic(path, text.encode("utf-8", "backslashreplace"))
