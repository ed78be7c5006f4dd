"""Who may speak to a server of this machine."""

import asyncio
from typing import Any

import pytest

from flows.serving.guard import guarded, may_pass

PORT = 4200
OURS = {"host": "127.0.0.1:4200"}
JSON = {"content-type": "application/json", "content-length": "2"}


def passes(method: str = "GET", path: str = "/api/flows", *more: tuple[str, str], **headers: str) -> bool:
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return may_pass(method, path, [(n.encode(), v.encode()) for n, v in [*sent, *more]], PORT)


@pytest.mark.parametrize("host", ["127.0.0.1:4200", "localhost:4200", "LocalHost:4200", "[::1]:4200"])
def test_a_program_of_this_machine_passes(host: str) -> None:
    assert passes(host=host)
    assert passes("POST", host=host, content_type="application/json; charset=utf-8", content_length="2")
    assert passes("POST", host=host)
    assert passes("DELETE", host=host, content_length="0")


@pytest.mark.parametrize(
    "host", ["", "evil.test", "evil.test:4200", "127.0.0.1", "127.0.0.1:4201", "127.0.0.1:4200.evil.test", "localhost.:4200", "127.1:4200", "0.0.0.0:4200", "[::ffff:127.0.0.1]:4200", "127.0.0.1:4200@evil.test"]
)  # fmt: skip
def test_a_foreign_host_is_refused_whatever_else_is_said(host: str) -> None:
    assert not passes(host=host)
    assert not passes("GET", "/", host=host, sec_fetch_site="none", sec_fetch_mode="navigate", sec_fetch_dest="document")  # fmt: skip
    assert not passes(host=host, origin=f"http://{host}", sec_fetch_site="same-origin")
    assert not passes()
    assert not passes("GET", "/api/flows", ("Host", host), **OURS)


def test_our_own_page_passes() -> None:
    assert passes("POST", origin="http://127.0.0.1:4200", sec_fetch_site="same-origin", **OURS, **dict_(JSON))
    assert passes("GET", "/ui-settings", sec_fetch_site="same-origin", **OURS)


def dict_(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    "origin", ["null", "", "http://evil.test", "http://evil.test:4200", "https://127.0.0.1:4200", "http://127.0.0.1:4201", "http://127.0.0.1", "http://localhost:4200", "http://127.0.0.1:4200.evil.test"]
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
def test_another_origin_is_refused(method: str, origin: str) -> None:
    assert not passes(method, origin=origin, **OURS, **dict_(JSON))
    assert not passes(method, "/api/flows", ("origin", "http://127.0.0.1:4200"), origin=origin, **OURS)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
def test_what_a_page_of_elsewhere_loads_without_an_origin_is_refused(site: str) -> None:
    for mode, dest in (
        ("no-cors", "image"),
        ("no-cors", "script"),
        ("navigate", "iframe"),
        ("cors", "empty"),
    ):
        assert not passes("GET", "/", sec_fetch_site=site, sec_fetch_mode=mode, sec_fetch_dest=dest, **OURS)


def test_a_link_to_the_page_may_be_followed_one_to_the_api_may_not() -> None:
    visit = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert passes("GET", "/runs", **OURS, **visit)
    assert not passes("GET", "/api/flows", **OURS, **visit)
    assert not passes("POST", "/runs", **OURS, **visit)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; application/json", "application/jsonx", "application/json, text/plain"]
)  # fmt: skip
def test_a_body_that_is_not_json_is_refused(kind: str) -> None:
    assert not passes("POST", content_length="7", content_type=kind, **OURS)
    assert not passes("PATCH", transfer_encoding="chunked", content_type=kind, **OURS)
    assert not passes("POST", content_length="7", **OURS)


def answer(kind: str, **headers: str) -> list[Any]:
    """What the guard sends for a request, in front of an application that answers everything with 200."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": kind, "path": "/runs", "raw_path": b"//runs", "query_string": b"a=1", "headers": [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]}  # fmt: skip
    if kind == "http":
        scope["method"] = "GET"
    asyncio.run(guarded(app, PORT)(scope, receive, send))
    return sent


def test_a_socket_of_elsewhere_is_closed_before_it_opens() -> None:
    assert answer("websocket", host="evil.test:4200") == [{"type": "websocket.close", "code": 1008}]
    assert answer("websocket", origin="http://evil.test", **OURS) == [{"type": "websocket.close", "code": 1008}]  # fmt: skip
    assert answer("websocket", **OURS)[0]["status"] == 200


def test_the_page_has_one_address_and_is_shown_in_no_frame() -> None:
    [moved, _] = answer("http", host="localhost:4200", sec_fetch_mode="navigate")
    assert (moved["status"], moved["headers"][0]) == (307, (b"location", b"http://127.0.0.1:4200/runs?a=1"))
    [shown] = answer("http", **OURS)
    assert (b"x-frame-options", b"DENY") in shown["headers"]
    assert [m.get("status") for m in answer("http", host="evil.test")] == [403, None]


def test_an_unknown_kind_of_connection_reaches_nothing() -> None:
    assert answer("webtransport", **OURS) == []
