"""What this machine has, and what that means for a run."""

import importlib.metadata
import os
import platform
import pwd
import shutil
from pathlib import Path
from typing import Any


def examine(state: Path) -> list[dict[str, Any]]:
    """One row per thing worth knowing: name, what was found, what it means."""
    rows = [
        _row("python", platform.python_version(), "3.11 or newer is needed"),
        *(
            _library(name)
            for name in ("torch", "transformers", "peft", "prefect", "great-expectations", "mlflow-skinny")
        ),
        _library("fastapi", "prefect 3.8 fails on 0.151 and newer"),
        _library("bitsandbytes", "needed for 4-bit and 8-bit weights (extra: gpu)", needed=False),
        _library("prefect-dask", "needed for --dask (extra: dask)", needed=False),
    ]
    return rows + _devices() + _resources() + _surroundings() + _state(state)


def _row(name: str, found: Any, meaning: str) -> dict[str, Any]:
    return {"what": name, "found": str(found), "means": meaning}


def _library(name: str, meaning: str = "", needed: bool = True) -> dict[str, Any]:
    try:
        return _row(name, importlib.metadata.version(name), meaning)
    except importlib.metadata.PackageNotFoundError:
        return _row(
            name, "MISSING" if needed else "not installed", meaning or "run make run to install everything"
        )


def _devices() -> list[dict[str, Any]]:
    import torch

    from tasks.training.device import find_device

    device = find_device()
    if device.name == "cpu":
        return [
            _row("device", "CPU", "fp32; tiny models only: name a machine with a GPU for models from the Hub")
        ]
    gpu = torch.cuda.get_device_properties(0)
    precision = (
        "bf16 with fp32 masters" if device.autocast else "fp32 (this GPU has no bf16; fp16 is not used)"
    )
    return [_row("device", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB", precision)]


def _resources() -> list[dict[str, Any]]:
    import psutil

    from tasks.storage.cores import num_cores

    free = shutil.disk_usage(".").free / 2**30
    return [
        _row("cores", num_cores(), "worker processes of the data stages"),
        _row(
            "memory",
            f"{psutil.virtual_memory().available / 2**30:.1f} GiB free",
            "data stages need well under 2 GiB",
        ),
        _row("disk", f"{free:.0f} GiB free", "a run keeps its tokens, two checkpoints and its model"),
    ]


def _surroundings() -> list[dict[str, Any]]:
    from flows.environment.surroundings import SIZES
    from flows.serving.given_server import PROXIES, without_secret

    others = [
        user.pw_name for user in pwd.getpwall() if 1000 <= user.pw_uid < 60000 and user.pw_uid != os.getuid()
    ]
    rows = [
        _row(
            "users",
            f"{len(others)} others with an account",
            "whoever has one reaches the page of `rootstock serve`, and can start runs: use --password-file"
            if others
            else "nobody else: `rootstock serve` needs no --password-file",
        )
    ]
    if address := os.environ.get("PREFECT_API_URL"):
        rows.append(
            _row(
                "PREFECT_API_URL", without_secret(address), "this server is used; unset it for one of our own"
            )
        )
    for name in sorted(name for name in os.environ if name.lower() in PROXIES and os.environ[name]):
        rows.append(
            _row(name, without_secret(os.environ[name]), "for the Hub only; 127.0.0.1 is reached without it")
        )
    for name in (name for name in SIZES if os.environ.get(name, "1") not in ("", "1")):
        rows.append(
            _row(name, os.environ[name], "left by a launcher: unset it, Rootstock trains in one process")
        )
    return rows


def _state(state: Path) -> list[dict[str, Any]]:
    """How large the state folder is, and whether its registry is in order."""
    from schemas.errors import UserError
    from tasks.release.registry.releases import repair_command
    from tasks.release.registry.soundness import require_sound
    from tasks.storage.space import size_of, told_size

    if not state.is_dir():
        return [_row("state folder", f"none at {state}", "the first run makes it")]
    parts = {name: size_of(state / name) for name in ("data", "runs")}
    told = ", ".join(f"{name} {told_size(size)}" for name, size in parts.items())
    rows = [
        _row(
            "state folder",
            f"{told_size(size_of(state))} ({told})",
            "rootstock clean says what may go",
        )
    ]
    try:
        found = "in order" if require_sound(state) else "none yet"
        return [*rows, _row("registry of models", found, "which model is in use")]
    except UserError as error:
        return [*rows, _row("registry of models", error.what, f"run: {repair_command(state)}")]


def told_removable(found: list[Any]) -> list[dict[str, Any]]:
    """What may go, by kind, and in all."""
    from tasks.storage.space import told_size

    kinds = {one.kind: [other.size for other in found if other.kind == one.kind] for one in found}
    rows = [{"what": kind, "folders": len(s), "frees": told_size(sum(s))} for kind, s in kinds.items()]
    total = {"what": "in all", "folders": len(found), "frees": told_size(sum(one.size for one in found))}
    return [*rows, total]
