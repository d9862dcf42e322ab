"""A reverse proxy as nginx is by default: it serves a page below a path, and sends its own Host."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from threading import Thread

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

_HOP = {"host", "connection", "transfer-encoding", "content-length", "content-encoding", "accept-encoding"}


@contextmanager
def proxied(upstream: str, port: int) -> Iterator[None]:
    """While open, http://127.0.0.1:PORT/studio/ is the page at `upstream`."""
    client = httpx.AsyncClient(base_url=upstream, timeout=None, trust_env=False)

    async def forward(request: Request) -> StreamingResponse:
        kept = {key: value for key, value in request.headers.items() if key not in _HOP}
        query = f"?{request.url.query}" if request.url.query else ""
        path = request.url.path.removeprefix("/studio") + query
        sent = client.build_request(request.method, path, headers=kept, content=await request.body())
        answer = await client.send(sent, stream=True)
        headers = {key: value for key, value in answer.headers.items() if key not in _HOP}
        return StreamingResponse(_chunks(answer), answer.status_code, headers, background=BackgroundTask(answer.aclose))

    route = Route("/studio/{path:path}", forward, methods=["GET", "POST", "HEAD"])
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[route]), port=port, log_level="error"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for chunk in answer.aiter_bytes():
        yield chunk


def unused_port() -> int:
    """A port of the loopback address that no program listens on."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])
