"""The flow `look-for-data`: look at a growing specification's files, and tell Prefect if there is something to learn."""

from pathlib import Path

from prefect import State, flow
from prefect.states import Completed

from data_contracts.contract import list_contracts
from flows.orchestration.events import announce_data
from flows.orchestration.form import SpecFile, StateFolder
from schemas.errors import UserError
from schemas.reading.load import load_spec
from tasks.stage import stopped


@flow(name="look-for-data", flow_run_name="look for data of {spec}")
def look_for_data(spec: SpecFile, state: StateFolder = ".rootstock") -> State[str | None]:
    """Look at the files of a specification with increments. If some are new, `continual-training-on-new-data` starts.

    Give it a schedule here, or call it (or `rootstock announce`) when your pipeline has written its files.
    """
    try:
        told = announce_data(load_spec(Path(spec), [], list_contracts()), spec, Path(state))
    except UserError as error:
        return stopped(error)
    if told is None:
        return Completed(name="NoNewData", message="every file was decided on before")
    return Completed(name="DataArrived", message=told, data=told)
