"""What a process of ours takes from its surroundings: set before any library is imported, and passed on to its children."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from flows.environment.found_settings import ignore_found_settings
from schemas.errors import UserError
from tasks.storage.children import isolate_children
from tasks.storage.cores import limit_threads

LOOPBACK = ("127.0.0.1", "localhost", "::1")
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "true",
}
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""How many processes a launcher started: torchrun, accelerate, MPI."""
PLACES = (
    "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT",
    "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE",
)  # fmt: skip
"""Which of them this is, and where the others are; torch waits for those others as soon as one is set."""
PLANS = ("ACCELERATE_", "TORCHELASTIC_", "FSDP_", "PARALLELISM_CONFIG_")
"""How they would share the work: transformers' trainer obeys, and wraps the model, also in a single process."""


def quiet_environment() -> None:
    """No telemetry, no network unless a Hub id is named, nothing taken from files that lie about, no proxy to ourselves."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    limit_threads()
    # bitsandbytes and transformers fetch kernels from the Hub, unasked, where this package is installed
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]
    _keep_to_ourselves()
    _pin_prefect()
    ignore_found_settings()
    isolate_children()
    _forget_working_directory()


def leave_launcher() -> None:
    """Be one process on its own, whatever a launcher of several left in the environment.

    Raises:
        UserError: it says that there are several processes; each of them would train the same.
    """
    for name in SIZES:
        if (size := os.environ.get(name, "1").strip()) not in ("", "1"):
            there = [one for one in (*SIZES, *PLACES) if one in os.environ]
            raise UserError(
                f"a launcher of several processes is asked for ({name}={size}), but Rootstock trains in one",
                f"environment variable {name}",
                f"start rootstock without torchrun, accelerate launch or mpirun; if none is meant: unset {' '.join(there)}",
            )
    for name in list(os.environ):
        if name in (*SIZES, *PLACES) or name.startswith(PLANS):
            del os.environ[name]


def _keep_to_ourselves() -> None:
    """Take the loopback interface out of whatever proxy is set: our own server is nobody's business."""
    for name in ("no_proxy", "NO_PROXY"):
        given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        hosts = [host.strip() for host in given.split(",") if host.strip()]
        if "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])


def _pin_prefect() -> None:
    """Name Prefect's own files: those of a state folder may come from somebody else, and run code when they are read."""
    if (found := find_spec("prefect")) is None or found.origin is None:
        return  # `rootstock doctor` says so
    prefect = Path(found.origin).parent
    os.environ.setdefault("PREFECT_PROFILES_PATH", str(prefect / "settings" / "profiles.toml"))
    os.environ.setdefault("PREFECT_LOGGING_SETTINGS_PATH", str(prefect / "logging" / "logging.yml"))


def _forget_working_directory() -> None:
    """Import nothing that lies beside the data: `python -m flows.cli.main` looks there first, and Alembic puts it there again."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return  # it was removed: nothing lies there
    if here == Path(__file__).parents[2]:
        return  # the source tree itself
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).absolute() != here]

    def refuse(entry: str) -> _FindsNothing:
        """Take the place of the finder of a relative folder or of the working directory; leave others to their own."""
        if Path(entry).is_absolute() and Path(entry) != here:
            raise ImportError
        return _FindsNothing()

    sys.path_hooks.insert(0, refuse)
    for entry in list(sys.path_importer_cache):
        if not Path(entry).is_absolute() or Path(entry) == here:
            del sys.path_importer_cache[entry]


class _FindsNothing:
    """A finder of modules in a folder where none is looked for."""

    def find_spec(self, name: str, target: object = None) -> None:
        """No module is there."""
