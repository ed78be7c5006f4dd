"""The Prefect server of a run or of `serve`, behind a guard: `python -P -m flows.serving.guarded_server PORT`.

It is what `prefect server start` runs, services included; that has no place where a Host could be checked.
"""

import sys

from flows.environment.surroundings import quiet_environment


def main(port: int) -> None:
    """Serve until SIGTERM, on the loopback interface; settings come from the environment (`flows/serving/server.py`)."""
    quiet_environment()
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    from flows.serving.guard import guarded

    server = get_current_settings().server
    uvicorn.run(
        guarded(create_app(final=True), port),
        host="127.0.0.1",
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        log_level=server.logging_level.lower(),
        proxy_headers=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
