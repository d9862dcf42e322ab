import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from concepts.errors import StudioError
from ui.cli.ui import login_from
from ui.web.request_filter import MOST_EVENT, filter_requests


def client(host: str = "127.0.0.1", *allowed: str) -> TestClient:
    """The request filter before an application that answers everything."""
    answer = Route("/{path:path}", lambda _: PlainTextResponse("in"), methods=["GET", "POST"])
    application = Starlette(routes=[answer], middleware=filter_requests(host, allowed))
    return TestClient(application, base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/queue/data?session_hash=a1", "/gradio_api/upload",
     "/gradio_api/heartbeat/ab12", "/gradio_api/file=/tmp/a.png"],
)  # fmt: skip
def test_what_the_page_needs_is_open(path):
    assert client().get(path).text == "in"


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/file=http://example.org/a", "/gradio_api/file=https:/x", "/gradio_api/file=//etc/passwd",
     "/gradio_api/file=etc/passwd", "/gradio_api/proxy=http://x/", "/gradio_api/run/predict", "/gradio_api/call/x",
     "/gradio_api/api/x", "/monitoring", "/gradio_api/vibe-edit", "/gradio_api/runs", "/gradio_api/process_recording",
     "/gradio_api/component_server", "/gradio_api/mcp", "/docs", "/openapi.json", "/anything"],
)  # fmt: skip
def test_everything_else_is_closed(path):
    assert client().get(path).status_code == 404


def test_other_sites_and_other_names_are_refused():
    page = client()
    assert page.post("/gradio_api/upload", headers={"origin": "http://127.0.0.1:7860"}).text == "in"
    assert page.post("/gradio_api/upload", headers={"origin": "http://evil.example"}).status_code == 403
    assert page.post("/gradio_api/upload", headers={"origin": "null"}).status_code == 403
    assert page.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client("0.0.0.0").get("/", headers={"host": "studio.example"}).text == "in"


def test_names_of_a_proxy_are_allowed_and_refusals_tell_how(caplog):
    page, proxied = client(), client("127.0.0.1", "Studio.example")
    ways = ("--root-path https://studio.example,", "--allowed-host studio.example;")
    for headers, way in zip(({"origin": "https://studio.example"}, {"host": "studio.example:8080"}), ways, strict=True):
        assert proxied.post("/gradio_api/upload", headers=headers).text == "in"
        for _ in range(2):
            assert f"start studio ui with {way}" in page.post("/login", headers=headers).text
        assert proxied.get("/", headers=dict.fromkeys(headers, "https://evil.example")).status_code in (400, 403)
    assert caplog.text.count("studio.example. If a proxy serves the page there") == 1
    for odd in ("http://[", "null", "//", "https://a:b"):
        refusal = page.post("/login", headers={"origin": odd})
        assert (refusal.status_code, "--root-path URL, the address" in refusal.text) == (403, True)


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        ("https://Studio.example", "https://studio.example"),
        ("http://studio.example:8443", "http://studio.example:8443"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_a_proxy_that_passes_on_no_host_is_told_what_works(origin: str, site: str):
    assert f"--root-path {site}, the address" in client().post("/login", headers={"origin": origin}).text


@pytest.mark.parametrize(
    ("body", "status"),
    [(b'{"data": ["a", {"path": "/tmp/a.png"}]}', 200), (b'{"data": [[{"a": {"path": "http://example.org/a"}}]]}', 403),
     (b'{"data": [{"path": "ht\\u0074ps://example.org/a"}]}', 403), (b"no JSON", 400), (b"[" * 100_000, 400),
     (b" " * (MOST_EVENT + 1), 413)],
)  # fmt: skip
def test_no_event_makes_the_server_fetch_an_address(body, status):
    echo = Route("/gradio_api/queue/join", _echo, methods=["POST"])
    page = TestClient(
        Starlette(routes=[echo], middleware=filter_requests("127.0.0.1")), base_url="http://127.0.0.1:7860"
    )
    answer = page.post("/gradio_api/queue/join", content=body)
    assert answer.status_code == status
    assert (answer.content == body) == (status == 200)


async def _echo(request: Request) -> Response:
    return Response(await request.body())


def test_passwords_cannot_be_tried_quickly():
    page = client()
    assert {page.post("/login").status_code for _ in range(10)} == {200}
    assert page.post("/login").status_code == 429


def test_other_addresses_demand_a_login():
    assert login_from("127.0.0.1", None) is None
    assert login_from("0.0.0.0", "ada:correct horse") == ("ada", "correct horse")
    with pytest.raises(StudioError, match="Give --auth"):
        login_from("0.0.0.0", None)
    for weak in ("ada", "ada:", ":long enough", "ada:short"):
        with pytest.raises(StudioError, match="8 characters"):
            login_from("127.0.0.1", weak)
