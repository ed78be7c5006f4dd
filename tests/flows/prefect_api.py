"""A served project's API, asked as Prefect's own clients ask."""

import time
from typing import Any

import httpx


class AskAgain(httpx.HTTPTransport):
    """Ask again after 503: SQLite was locked for a moment, and Prefect's clients ask again too."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + 30
        while (answer := super().handle_request(request)).status_code == 503 and time.monotonic() < deadline:
            answer.close()
            time.sleep(0.5)
        return answer


def api_client(address: str, **settings: Any) -> httpx.Client:
    """A client of the API at `address`, that knows no proxy."""
    return httpx.Client(base_url=address, transport=AskAgain(), trust_env=False, timeout=30, **settings)
