"""Run the journey's plain stages as Prefect tasks, and give a flow run its name."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from prefect import State
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.utilities.annotations import opaque

from flows.environment.processes import note_process
from flows.run.journey import conclude
from tasks import evaluate, prepare, promote, train
from tasks.data.prepare import prepare as plain_prepare
from tasks.data.prepare import tokenize as plain_tokenize
from tasks.evaluation.scoring.score_model import score_model as plain_score_model
from tasks.stage import result_of
from tasks.training.models.base_model import provide_base as plain_provide_base
from tasks.training.train import train as plain_train

TASKS: dict[Callable[..., Any], Callable[..., State[Any]]] = {
    plain_prepare: prepare.prepare,
    plain_provide_base: prepare.provide_base,
    plain_tokenize: prepare.tokenize,
    plain_score_model: evaluate.score_model,
    plain_train: train.train,
    conclude: partial(promote.conclude, conclude),
}


def call_as_task(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Run a stage as its Prefect task; a mistake is raised as it was.

    All but paths are opaque: Prefect would otherwise look for futures in every document of every suite.
    """
    task = TASKS[function]
    return result_of(
        task(*map(_as_it_is, arguments), **{name: _as_it_is(value) for name, value in settings.items()})
    )


def _as_it_is(value: Any) -> Any:
    return value if isinstance(value, Path) else opaque(value)


def label_run(name: str, tags: list[str]) -> None:
    """Give the flow run its name and add tags; known only once its specification has been read."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    flow_run = context.flow_run
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:  # a name costs no run
        client.update_flow_run(flow_run.id, name=name, tags=sorted({*flow_run.tags, *tags}))
    flow_run.name = name  # its log lines carry it
    if home := os.environ.get("PREFECT_HOME"):
        note_process(Path(home), str(flow_run.id))  # `rootstock serve` ends what says it runs, and does not
