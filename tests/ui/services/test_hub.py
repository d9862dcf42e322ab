"""Pushing and pulling against a stand-in for the hub's HTTP interface on this machine.

It answers what huggingface_hub asks for when files go into the commit itself. The real hub has large and binary files
uploaded to its own storage first; that, and logging in, are huggingface_hub's and are not seen here.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from PIL import Image

from concepts import Library, LibraryError
from concepts.errors import StudioError
from studio.models.generation_request import GenerationRequest
from ui.services import hub
from ui.services.workflow import Workflow

COMMIT = "1" * 40


class StandIn(BaseHTTPRequestHandler):
    """One model repository a name, kept in `repositories`: file contents by path."""

    repositories: dict[str, dict[str, bytes]] = {}  # noqa: RUF012

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, document: Any = None, status: int = 200, data: bytes | None = None, **headers: str) -> None:
        body = json.dumps(document).encode() if data is None else data
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        """Makes a repository, says how files are uploaded, and takes a commit."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlparse(self.path).path
        if path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked.get('organization', 'me')}/{asked['name']}"
            if repository.startswith("forbidden/"):
                return self._answer({"error": "You may not write here"}, 403)
            self.repositories.setdefault(repository, {})
            return self._answer({"url": f"http://{self.headers['Host']}/{repository}"})
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        repository = "/".join(path.split("/")[3:5])
        if "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.repositories[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"http://{self.headers['Host']}/{repository}/commit/{COMMIT}"
        return self._answer({"success": True, "commitOid": COMMIT, "commitUrl": url})

    def do_GET(self) -> None:
        """Lists a repository and gives its files."""
        pieces = unquote(urlparse(self.path).path).strip("/").split("/")
        api = pieces[:2] == ["api", "models"]
        repository = "/".join(pieces[2:4] if api else pieces[:2])
        if repository not in self.repositories:
            return self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        files = self.repositories[repository]
        if api and "tree" in pieces:
            return self._answer(
                [
                    {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for p, d in files.items()
                ]
            )
        if api:
            siblings = [{"rfilename": path} for path in files]
            return self._answer({"id": repository, "sha": COMMIT, "siblings": siblings})
        data = files.get("/".join(pieces[4:]))
        if data is None:
            return self._answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
        return self._answer(data=data, ETag=f'"{_digest(data)}"', X_Repo_Commit=COMMIT)

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def endpoint(monkeypatch, tmp_path: Path) -> Iterator[str]:
    """The stand-in's address."""
    monkeypatch.setattr(StandIn, "repositories", {})
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_there_and_back(workflow: Workflow, endpoint: str):
    address = hub.push(workflow, "rex", "me/rex", licence="cc-by-4.0", endpoint=endpoint)
    assert address.endswith("/me/rex")
    files = StandIn.repositories["me/rex"]
    assert set(files) >= {
        "README.md", "concept.safetensors", "pictures.png", "pytorch_lora_weights.safetensors",
        "pytorch_lora_weights.tokens.safetensors", "studio.json",
    }  # fmt: skip
    card = files["README.md"].decode()
    for said in ("license: cc-by-4.0", "`<rex>`", "spectral_additive", "pictures.png", "load_lora_weights", "rank"):
        assert said in card
    assert Image.open(BytesIO(files["pictures.png"])).size[0] > 0
    concept = hub.pull(workflow, "me/rex", "again", endpoint)
    assert (concept.class_word, concept.result and concept.result.adapter) == ("dog", "spectral_additive")
    pulled, own = workflow.trained("again"), workflow.trained("rex")
    assert pulled.tokens.keys() == {"<again>"}
    assert all((pulled.adapters[s][k] == t).all() for s, state in own.adapters.items() for k, t in state.items())
    assert concept.columns[0].shared_with == ("rex",)
    assert len(workflow.generate(GenerationRequest(prompt="a photo of <again>", num_images=1))) == 1


def test_a_name_that_is_taken_and_an_unknown_repository(
    workflow: Workflow, endpoint: str, library: Library, state: Callable
):
    hub.push(workflow, "lora", "me/lora", endpoint=endpoint)
    before = state(library)
    with pytest.raises(LibraryError, match="already"):
        hub.pull(workflow, "me/lora", endpoint=endpoint)
    with pytest.raises(StudioError, match="Nothing could be downloaded from me/none"):
        hub.pull(workflow, "me/none", endpoint=endpoint)
    StandIn.repositories["me/other"] = {"README.md": b"hello"}
    with pytest.raises(StudioError, match="Nothing could be downloaded from me/other"):
        hub.pull(workflow, "me/other", endpoint=endpoint)
    StandIn.repositories["me/bad"] = {**StandIn.repositories["me/lora"], "concept.safetensors": b"torn"}
    with pytest.raises(StudioError, match="is damaged"):
        hub.pull(workflow, "me/bad", "fresh", endpoint)
    assert state(library) == before


def test_another_base_is_refused(workflow: Workflow, endpoint: str, library: Library, xl_folder: Path):
    hub.push(workflow, "lora", "me/lora", endpoint=endpoint)
    with pytest.raises(StudioError, match="Give that base with --base"):
        hub.pull(Workflow(library.root, str(xl_folder)), "me/lora", "fresh", endpoint)


def test_the_hub_may_refuse(workflow: Workflow, endpoint: str):
    with pytest.raises(StudioError, match="Hub refused forbidden/rex"):
        hub.push(workflow, "rex", "forbidden/rex", endpoint=endpoint)
