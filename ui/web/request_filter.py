"""Which requests reach the page: only those that the page itself makes, from the page itself."""

import json
import re
import time
from collections import defaultdict, deque
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OPEN = re.compile(
    r"/(?:config|login|logout|theme\.css|favicon\.ico|manifest\.json|robots\.txt)?/?"
    r"|/(?:assets|static|svelte)/.*"
    r"|/gradio_api/(?:app_id|cancel|heartbeat/[\w-]+|info|login_check|queue/(?:data|join)|reset|startup-events"
    r"|theme\.css|token|upload|upload_progress|user|file=(?:/(?!/)|[A-Za-z]:[\\/]).*)/?"
)
_EVENT = re.compile(r"/gradio_api/queue/join/?")
MOST_EVENT = 8 * 2**20
"""Bytes of what an event of the page may hold; files are uploaded apart from it."""
_LOGINS, _MINUTE = 10, 60.0


def filter_requests(host: str) -> list[Middleware]:
    """The middleware of a page that is served on this address."""
    hosts = ["127.0.0.1", "localhost", "[::1]"] if host in LOOPBACK else ["*"]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(RequestFilter)]


class RequestFilter:
    """Closes what Gradio opens beside the page (fetching URLs, proxying, direct calls), refuses other sites' pages and
    files that the server would have to fetch, and slows the guessing of passwords.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._tries: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_LOGINS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None and scope["type"] == "http" and _EVENT.fullmatch(scope["path"]):
            body = await _body(receive)
            refusal, receive = _refused_event(body), _replayed(body, receive)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != headers.get("host"):
            return PlainTextResponse("Requests from other sites are refused. Open the web UI itself.", 403)
        if not _OPEN.fullmatch(scope["path"]):
            return PlainTextResponse("There is nothing here.", 404)
        if scope["method"] == "POST" and scope["path"].startswith("/login") and self._too_often(scope):
            return PlainTextResponse("Wait a minute, then log in again.", 429)
        return None

    def _too_often(self, scope: Scope) -> bool:
        tries = self._tries[(scope.get("client") or ("", 0))[0]]
        full = len(tries) == _LOGINS and time.monotonic() - tries[0] < _MINUTE
        tries.append(time.monotonic())
        return full


async def _body(receive: Receive) -> bytes:
    """A request's body, as far as it is not much too long."""
    body, more = b"", True
    while more and len(body) <= MOST_EVENT:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What receives this body again, and then what comes after it."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


def _refused_event(body: bytes) -> PlainTextResponse | None:
    if len(body) > MOST_EVENT:
        return PlainTextResponse("Send less at a time.", 413)
    try:
        fetches = _names_an_address(json.loads(body))
    except (ValueError, RecursionError):
        return PlainTextResponse("The request is not valid JSON.", 400)
    return PlainTextResponse("URLs are not fetched. Upload the file.", 403) if fetches else None


def _names_an_address(value: Any) -> bool:
    """Whether any file in an event's data lies at an address, from where Gradio would fetch it."""
    if isinstance(value, list):
        return any(map(_names_an_address, value))
    if not isinstance(value, dict):
        return False
    path = value.get("path")
    return (isinstance(path, str) and "://" in path) or any(map(_names_an_address, value.values()))
