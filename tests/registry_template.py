"""A registry's tables are made by MLflow's own migrations once in a process of tests; every further state gets a copy of them."""

import os
import shutil
from pathlib import Path

from tasks.release.registry import mlflow_store

_create_database = mlflow_store._create_database


def reuse_migrations(template: Path) -> None:
    """Create new registries as copies of the file `template`, which the first makes: migrations take as long as a tiny run."""

    def create(database: Path) -> None:
        if not template.is_file():
            made = template.with_name(f"{template.name}.{os.getpid()}.db")
            _create_database(made)
            made.replace(template)
        database.parent.mkdir(parents=True, exist_ok=True)
        if not database.exists():
            copied = database.with_name(f".{database.name}.{os.getpid()}")
            shutil.copyfile(template, copied)
            copied.replace(database)

    mlflow_store._create_database = create
