"""The page of a choice of replay that was made without a run."""

from pathlib import Path

from schemas.results.replay_choice import ReplayChoice
from tasks.release.pages.replay_picture import replay_curve
from tasks.release.pages.templates import html_templates
from tasks.storage.atomic import write_atomic


def write_choice_page(folder: Path, name: str, choice: ReplayChoice) -> None:
    """Write `replay_choice.json` and `index.html`; self-contained, every piece of data escaped."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "replay_choice.json", choice.model_dump_json(indent=1))
    template = html_templates().get_template("replay_choice.html.j2")
    page = template.render(name=name, choice=choice, replay_curve=replay_curve)
    write_atomic(folder / "index.html", page.encode("utf-8", "backslashreplace"))
