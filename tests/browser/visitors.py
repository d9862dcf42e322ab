"""The page's own events over HTTP, as its script calls them."""

import json
from typing import Any
from uuid import uuid4

import httpx


class Session:
    """One visitor of a page."""

    def __init__(self, address: str):
        self.http = httpx.Client(base_url=address, timeout=120)
        self.hash = uuid4().hex
        config = self.http.get("/config").raise_for_status().json()
        self.events = {event["api_name"]: event["id"] for event in config["dependencies"]}

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Uploads a file; what a component then holds of it."""
        answer = self.http.post("/gradio_api/upload", files={"files": (name, data)}).raise_for_status()
        return {"path": answer.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def call(self, name: str, *values: Any) -> list[Any]:
        """The outputs of an event, by its function's name. Raises RuntimeError where the server failed."""
        body = {"data": values, "fn_index": self.events[name], "session_hash": self.hash}
        self.http.post("/gradio_api/queue/join", json=body).raise_for_status()
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.hash}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(f"{name}: {message['output']}")
                    return message["output"]["data"]
        raise RuntimeError(f"{name}: the server said nothing")
