"""A reverse proxy as nginx is by default: it serves a page below /studio, and sends its own Host.

`python reverse_proxy.py UPSTREAM PORT` serves UPSTREAM at http://127.0.0.1:PORT/studio/.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

PREFIX = "/studio"
_OF_ONE_CONNECTION = {
    "host", "connection", "transfer-encoding", "content-length", "content-encoding", "accept-encoding"
}  # fmt: skip


@contextmanager
def proxied(upstream: str, port: int) -> Iterator[None]:
    """While open, http://127.0.0.1:PORT/studio/ is the page at `upstream`."""
    process = subprocess.Popen([sys.executable, __file__, upstream, str(port)])
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def unused_port() -> int:
    """A port of the loopback address that no program listens on."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def application(upstream: str) -> Starlette:
    """What hands every request on."""
    client = httpx.AsyncClient(base_url=upstream, timeout=None, trust_env=False)

    async def forward(request: Request) -> StreamingResponse:
        kept = {key: value for key, value in request.headers.items() if key not in _OF_ONE_CONNECTION}
        query = f"?{request.url.query}" if request.url.query else ""
        path = request.url.path.removeprefix(PREFIX) + query
        sent = client.build_request(request.method, path, headers=kept, content=await request.body())
        answer = await client.send(sent, stream=True)
        headers = {key: value for key, value in answer.headers.items() if key not in _OF_ONE_CONNECTION}
        end = BackgroundTask(answer.aclose)
        return StreamingResponse(answer.aiter_bytes(), answer.status_code, headers, background=end)

    return Starlette(routes=[Route(PREFIX + "/{path:path}", forward, methods=["GET", "POST", "HEAD"])])


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), port=int(sys.argv[2]), log_level="critical")
