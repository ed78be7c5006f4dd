"""Start a server again that has ended; what asks it meanwhile asks again, and nothing that works is disturbed."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from schemas.errors import UserError
from tasks.storage.signals import say

Server = subprocess.Popen[bytes]
SECONDS_BETWEEN = 0.5
LONGEST_PAUSE = 60.0


@contextmanager
def kept_running(
    first: Server, again: Callable[[], Server], stop: Callable[[Server], None]
) -> Iterator[None]:
    """Watch over a server, and start it anew with `again` whenever it has ended; `stop` is called on the last one.

    All by one thread: a child asks the kernel to be killed with the *thread* that started it.
    """
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(first, again, stop, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(
    server: Server, again: Callable[[], Server], stop: Callable[[Server], None], ended: threading.Event
) -> None:
    pause = SECONDS_BETWEEN
    while not ended.wait(pause):
        if (code := server.poll()) is None:
            pause = SECONDS_BETWEEN
            continue
        say(f"Prefect's server has ended (code {code}): starting it again; what runs goes on meanwhile")
        with suppress(OSError, UserError):  # the disk is full, say: the next time perhaps
            server = again()
        pause = min(2 * pause + 1, LONGEST_PAUSE)  # one that cannot start is not tried without end
    stop(server)
