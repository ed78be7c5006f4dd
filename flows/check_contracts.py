"""The flow `check-contracts`: hold raw files against a contract, by hand or on a schedule."""

from pathlib import Path
from typing import Annotated

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from data_contracts.contract import SUFFIX
from data_contracts.report import to_lines, verdict
from flows.orchestration.form import field
from flows.run.check import check
from schemas.errors import UserError
from schemas.results.artifacts import GateReport
from schemas.visible import printable
from tasks.data.validate.sources import require_passed
from tasks.page import show_contracts
from tasks.stage import RETRIES, RETRY_DELAY_SECONDS, machine_failed, result_of, stopped

DATA_HINT = (
    "Files or globs, one each, such as data/*.jsonl, relative to the folder where Rootstock is served."
)


@flow(name="check-contracts", flow_run_name="check {contract}")
def check_contracts(
    contract: Annotated[str, field("Contract", "Name of a contract, or the path of an .odcs.yaml file.")],
    data: Annotated[list[str], field("Data", DATA_HINT)],
) -> State[GateReport]:
    """Check data against its contract, without training anything.

    Fails if a critical rule is broken; the table names every rule and the first places that break it, never their text.
    """
    try:
        report: GateReport = result_of(check_files(contract, data))
        require_passed([report])
    except UserError as error:
        return stopped(error)
    return Completed(message=verdict(report), data=report)


@task(
    name="check", task_run_name="check", cache_policy=NO_CACHE,
    retries=RETRIES, retry_delay_seconds=RETRY_DELAY_SECONDS, retry_condition_fn=machine_failed,
)  # fmt: skip
def check_files(contract: str, data: list[str]) -> State[GateReport]:
    """Read, validate and gate the files; nothing is kept."""
    try:
        report = check(contract, data)
    except UserError as error:
        return stopped(error)
    logger = get_run_logger()
    for line in to_lines(report):
        logger.info(printable(line))
    show_contracts(Path(contract).name.removesuffix(SUFFIX), (report,))
    return Completed(data=report)
