"""Who may speak to a server of this machine: its own pages and programs, never a page that came from elsewhere.

Any web page that is open in a browser here can send requests to 127.0.0.1: read answers where the server allows it, write
where it does not ask, and do both under a name of its own that it points at this machine (DNS rebinding). A browser says
where a request comes from, in headers that a page cannot change; a program that is no browser sends none of them.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")
SAFE = ("GET", "HEAD", "OPTIONS")
SAID = b"refused: this server answers pages and programs of this machine only\n"
SHUT = (
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
"""Nobody's page shows ours in a frame, or loads it as a picture or script."""
Headers = Iterable[tuple[bytes, bytes]]


def may_pass(method: str, path: str, headers: Headers, port: int) -> bool:
    """Whether a request (a WebSocket's first one is a GET) comes from a page of our own or from a program of this machine."""
    sent: dict[str, list[str]] = {}
    for name, value in headers:
        sent.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    if any(len(sent.get(name, [])) > 1 for name in ("host", "origin", "content-type")):
        return False
    head = {name: values[0] for name, values in sent.items()}
    host = head.get("host", "").lower()
    if host not in our_hosts(port):
        return False
    if not (_is_ours(host, head) or _is_visit(method, path, head)):
        return False
    return method in SAFE or not _has_body(head) or _is_json(head.get("content-type", ""))


def our_hosts(port: int) -> set[str]:
    """What the header Host may say."""
    return {f"{name}:{port}" for name in NAMES} | (set(NAMES) if port == 80 else set())


def _is_ours(host: str, head: dict[str, str]) -> bool:
    """No page at all, or one of this very host and port (another port of 127.0.0.1 is another page: same site, not same origin)."""
    return head.get("origin", f"http://{host}").lower() == f"http://{host}" and head.get(
        "sec-fetch-site", "none"
    ) in ("same-origin", "none")


def _is_visit(method: str, path: str, head: dict[str, str]) -> bool:
    """A link to our page that somebody follows: whoever gave the link sees nothing of what is shown."""
    return (
        method in ("GET", "HEAD")
        and "origin" not in head
        and head.get("sec-fetch-mode") == "navigate"
        and head.get("sec-fetch-dest") == "document"
        and not path.startswith("/api")
    )


def _has_body(head: dict[str, str]) -> bool:
    return "transfer-encoding" in head or head.get("content-length", "0").strip("0") != ""


def _is_json(content_type: str) -> bool:
    """A page of elsewhere may not send this type without asking first."""
    return content_type.split(";")[0].strip().lower() == "application/json"


def guarded(app: App, port: int) -> App:
    """An ASGI application that refuses who may not pass, for requests and WebSockets alike."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        if scope["type"] not in ("http", "websocket"):
            return None
        if not may_pass(scope.get("method", "GET"), scope["path"], scope["headers"], port):
            return await _refuse(scope, receive, send)
        if (elsewhere := _page_elsewhere(scope, port)) is not None:
            return await _answer(send, 307, b"", ((b"location", elsewhere),))

        async def shut(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *SHUT]
            await send(message)

        return await app(scope, receive, shut)

    return guard


def _page_elsewhere(scope: Scope, port: int) -> bytes | None:
    """The page has one address: it asks its API at 127.0.0.1, which is another origin than localhost."""
    head = dict(scope["headers"])
    if scope["type"] != "http" or scope["path"].startswith("/api"):
        return None
    if head.get(b"sec-fetch-mode") != b"navigate" or head[b"host"].startswith(b"127.0.0.1"):
        return None
    query = b"?" + scope["query_string"] if scope.get("query_string") else b""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    return f"http://127.0.0.1:{port}/".encode() + path.lstrip(b"/") + query


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await _answer(send, 403, SAID, ((b"content-type", b"text/plain"),))


async def _answer(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length, *SHUT]})
    await send({"type": "http.response.body", "body": body})
