"""Which requests reach the page: only those that the page itself makes, from the page itself."""

import re
import time
from collections import defaultdict, deque
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OPEN = re.compile(
    r"/(?:config|login|logout|theme\.css|favicon\.ico|manifest\.json|robots\.txt)?/?"
    r"|/(?:assets|static|svelte)/.*"
    r"|/gradio_api/(?:app_id|cancel|heartbeat/[\w-]+|info|login_check|queue/(?:data|join)|reset|startup-events"
    r"|theme\.css|token|upload|upload_progress|user|file=(?:/(?!/)|[A-Za-z]:[\\/]).*)/?"
)
_LOGINS, _MINUTE = 10, 60.0


def doors(host: str) -> list[Middleware]:
    """The middleware of a page that is served on this address."""
    hosts = ["127.0.0.1", "localhost", "[::1]"] if host in LOOPBACK else ["*"]
    return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Doors)]


class Doors:
    """Closes what Gradio opens beside the page (fetching URLs, proxying, direct calls), refuses other sites' pages, and
    slows the guessing of passwords.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._tries: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_LOGINS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc != headers.get("host"):
            return PlainTextResponse("Open the studio's own page.", 403)
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
