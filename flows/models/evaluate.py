"""Score any model on a specification's suites, or let it continue a prompt."""

from pathlib import Path
from typing import Any, NamedTuple

from flows.growing.effective import effective, laid_out
from flows.progress.terminal import Pieces
from flows.progress.watch import Console, Watch
from flows.run.journey import Call, assemble, call_plainly
from schemas.results.scores import Scores
from schemas.spec.run import RunSpec
from tasks.data.prepare import Tokenized, prepare, tokenize
from tasks.data.tokens.prompts import prompt_encoder, read_frame
from tasks.data.tokens.tokenizer import load_auto_tokenizer
from tasks.evaluation.scoring.score_model import score_model
from tasks.evaluation.suites.build import build_suites
from tasks.evaluation.suites.items import Suite
from tasks.release.pages.shown_scores import score_columns
from tasks.release.registry import versions as registry
from tasks.storage.workers import map_in_processes, one_pool
from tasks.training.models.load import load_model
from tasks.training.models.weights import find_model


def evaluate_model(
    spec: RunSpec, state: Path, model: str, watch: Watch | None = None, call: Call = call_plainly
) -> list[dict[str, Any]]:
    """One row per suite: documents, every score there is, and the floor (unigram, or always the same answer)."""
    watch = watch or Console()
    folder = find_model(model)
    suites = prepare_suites(spec, state, folder, watch, call)
    with watch.stage("score"):
        scores = score_on_suites(spec, state, suites, folder, watch, call)
    return [
        {
            "suite": suite.name,
            "kind": suite.kind,
            "documents": len(suite.items),
            **{column.title: column.value(suite, "candidate") for column in score_columns(scores)},
            "floor" if scores.measure_of(suite).higher_is_better else "unigram floor": suite.floor,
        }
        for suite in scores.suites
    ]


class PreparedSuites(NamedTuple):
    """A specification's suites, and what they were tokenised with."""

    suites: list[Suite]
    tokenized: Tokenized


def prepare_suites(
    spec: RunSpec, state: Path, folder: Path, watch: Watch, call: Call = call_plainly, turn: int | None = None
) -> PreparedSuites:
    """The suites of a specification for a model, and for any other with the same tokenizer.

    `base_from: champion` means the present one, unless the specification is the effective one of a run. `turn`: see
    `build_suites`.
    """
    champion = registry.champion(state, spec.name) if spec.base_from is not None else None
    spec = effective(spec, state, None if champion is None else champion.model_folder, watch)
    with watch.stage("data"), one_pool(map_in_processes) as pool:
        prepared = call(prepare, state, spec, map_shards=pool, note=watch.note)
        tokenized = call(tokenize, state, laid_out(spec), prepared, folder, map_shards=pool, note=watch.note)
        return PreparedSuites(build_suites(spec, prepared, tokenized, turn), tokenized)


def score_on_suites(
    spec: RunSpec,
    state: Path,
    prepared: PreparedSuites,
    folder: Path,
    watch: Watch,
    call: Call = call_plainly,
) -> Scores:
    """Scores of a model, as `candidate`, on every suite."""
    step = call(score_model, state, spec, prepared.suites, folder, on_progress=watch.scored)
    return assemble(spec, prepared.suites, {"candidate": step}, prepared.tokenized)


def generate_text(
    model: str, prompt: str, max_new_tokens: int, temperature: float, top_p: float, seed: int
) -> None:
    """Print the prompt and the model's continuation as it comes; a model for instructions is asked as it was trained."""
    from transformers.utils import logging

    from tasks.evaluation.scoring.generate import generate
    from tasks.training.device import find_device

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = find_model(model)
    device = find_device()
    loaded = load_model(folder, device.frozen_dtype, "language_modeling").to(device.name)
    frame, tokenizer = read_frame(folder), load_auto_tokenizer(folder)
    pieces = Pieces()
    pieces.say(prompt if frame is None else f"{prompt}\n")
    generate(
        loaded,
        tokenizer,
        prompt,
        max_new_tokens,
        temperature,
        top_p,
        seed,
        pieces.say,
        None if frame is None else prompt_encoder(folder, frame)([(prompt.strip(), "")])[0],
    )
    pieces.say("\n", last=True)
