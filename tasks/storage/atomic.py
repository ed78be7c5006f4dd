"""Files and folders that appear complete or not at all, whatever kills the process."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `final` when the block ends without an error."""
    temporary = final.with_name(f".{final.name}.tmp")
    remove(temporary)  # left by a killed process
    temporary.mkdir(parents=True)
    yield temporary
    publish_folder(temporary, final)


def publish_folder(temporary: Path, final: Path) -> None:
    """Make everything below `temporary` durable, then rename it to `final`."""
    for path in sorted(temporary.rglob("*")):
        if path.is_file():
            follow_umask(path)
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        else:
            sync_folder(path)
    sync_folder(temporary)
    retired = final.with_name(f".{final.name}.old")
    remove(retired)  # left by a killed process
    if os.path.lexists(final):
        final.rename(retired)  # removing takes long; seen by others, the folder is the old one or the new one
    temporary.rename(final)
    sync_folder(final.parent)
    with suppress(OSError):
        remove(retired)


def remove(path: Path) -> None:
    """Remove whatever is there: a file, a link, a folder with all that is in it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def follow_umask(path: Path) -> None:
    """Let others read a file as they may read any new file: safetensors makes its files for the owner alone."""
    status = Path("/proc/self/status").read_text().split()  # os.umask would change it for all threads
    path.chmod(0o666 & ~int(status[status.index("Umask:") + 1], 8))


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
