"""Which requests reach the page: only those that the page itself makes, from the page itself."""

import json
import logging
import re
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
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
_TOLD = 20
"""Refused names that are logged."""
_log = logging.getLogger(__name__)


def filter_requests(host: str, allowed_hosts: Sequence[str] = ()) -> list[Middleware]:
    """The middleware of a page that is served on this address, by its own names and the allowed ones of a proxy."""
    return [Middleware(RequestFilter, any_host=host not in LOOPBACK, allowed_hosts=allowed_hosts)]


class RequestFilter:
    """Closes what Gradio opens beside the page (fetching URLs, proxying, direct calls), refuses other sites' pages and
    files that the server would have to fetch, and slows the guessing of passwords.

    `allowed_hosts` are names without a port. A request must come by one of them or by a loopback name, unless
    `any_host` says that the page has a login; a page that sends it must have the same name, or an allowed one.
    """

    def __init__(self, app: ASGIApp, any_host: bool, allowed_hosts: Sequence[str]):
        self._app = app
        self._any_host = any_host
        self._allowed = {name.lower() for name in allowed_hosts}
        self._told: set[str] = set()
        self._tries: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_LOGINS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on; the page has no websockets."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None and scope["type"] == "http" and _EVENT.fullmatch(scope["path"]):
            body = await _body(receive)
            refusal, receive = _refused_event(body), _replayed(body, receive)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._any_host and _name_of(f"//{host}") not in {*LOOPBACK, *self._allowed}:
            name = _name_of(f"//{host}")
            advice = (
                f"start studio ui with --allowed-host {name or 'NAME'}; where visitors open it elsewhere, also with "
                "--root-path and the whole address"
            )
            return self._unknown("Requests for other hosts", name or f"//{host}", advice, 400)
        if origin and origin.partition("//")[2] != host and _name_of(origin) not in self._allowed:
            advice = (
                f"start studio ui with --root-path {_site_of(origin) or 'URL'}, the address at which visitors open it, "
                "with its path if it has one"
            )
            return self._unknown("Requests from other sites", _name_of(origin) or origin, advice, 403)
        if not _OPEN.fullmatch(scope["path"]):
            return PlainTextResponse("There is nothing here.", 404)
        if scope["method"] == "POST" and scope["path"].startswith("/login") and self._too_often(scope):
            return PlainTextResponse("Wait a minute, then log in again.", 429)
        return None

    def _unknown(self, what: str, name: str, advice: str, status: int) -> PlainTextResponse:
        """The refusal, which is also logged once a name: a browser shows none of it."""
        reason = f"{what} are refused, such as {name}. If a proxy serves the page there, {advice}."
        if name not in self._told and len(self._told) < _TOLD:
            self._told.add(name)
            _log.warning("%s", reason)
        return PlainTextResponse(reason, status)

    def _too_often(self, scope: Scope) -> bool:
        tries = self._tries[(scope.get("client") or ("", 0))[0]]
        full = len(tries) == _LOGINS and time.monotonic() - tries[0] < _MINUTE
        tries.append(time.monotonic())
        return full


def _name_of(address: str) -> str:
    """The host of an address in lower case, without its port; empty where it cannot be read."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _site_of(origin: str) -> str:
    """A page's origin in lower case, https://studio.example; empty where it is none."""
    name = _name_of(origin)
    try:
        parts = urlsplit(origin)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    host = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{host}{port}" if name and parts.scheme in ("http", "https") else ""


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
