"""MLflow's registry on one SQLite file: opened quietly, made atomically, never phoning home."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import MachineFailed, UserError
from tasks.release.registry.releases import repair_command

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_registry(database: Path) -> "MlflowClient":
    """Open the registry, making it first if need be. No telemetry, no migration chatter.

    Raises:
        UserError: the registry is of another MLflow version.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "1"
    # no connection is kept: it would go on in a file that was moved away and rebuilt meanwhile
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _quiet():
            if not database.exists():
                _create_database(database)
            return _open(database)
    except SQLAlchemyError as error:
        raise _unusable(database, error) from error
    except MlflowException as error:
        if isinstance(error.__cause__ or error.__context__, SQLAlchemyError):
            raise _unusable(database, error) from error
        if "schema" not in str(error):
            raise
        raise UserError(
            "the registry was written by another version of MLflow",
            str(database),
            f"copy it as a backup, then run: mlflow db upgrade sqlite:///{database}",
        ) from error


def _unusable(database: Path, error: Exception) -> MachineFailed:
    what = f"the registry of models cannot be opened: {str(error).splitlines()[0]}"
    if "disk" in str(error):  # I/O error, or full: what SQLite says of a write that was cut short
        fix = "free some space (df), or raise the limit of a file's size (ulimit -f); then run the same command again"
    else:
        fix = f"end what holds it and run the same command again, or rebuild it: {repair_command(database.parent)}"
    return MachineFailed(what, str(database), fix)


def _create_database(database: Path) -> None:
    """Migrate a new database under another name: killed half-way, MLflow would refuse it for ever."""
    database.parent.mkdir(parents=True, exist_ok=True)
    temporary = database.with_name(f".{database.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    _open(temporary)
    try:
        os.link(temporary, database)  # unlike a rename, never replaces what another process just made
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        temporary.replace(database)
    temporary.unlink(missing_ok=True)


def _open(database: Path) -> "MlflowClient":
    from mlflow import MlflowClient

    uri = f"sqlite:///{database}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_registered_models(max_results=1)  # the store opens at the first question
    return client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's and Alembic's INFO lines about migrations off the terminal."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "mlflow.store.db.utils", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
