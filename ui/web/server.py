"""The studio in the browser: the page, and how it is served safely."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from ui.services.gallery import FOLDER, adopt_former
from ui.services.workflow import Workflow
from ui.web.api import open_api
from ui.web.assets import asset
from ui.web.launch_environment import bypass_proxies, free_port, private_folder, without_proxies
from ui.web.remembering import remember, remember_tab
from ui.web.request_filter import filter_requests
from ui.web.tabs.compare import compare_tab
from ui.web.tabs.concepts import concepts_tab
from ui.web.tabs.generate import generate_tab
from ui.web.tabs.score import score_tab
from ui.web.tabs.train import train_tab
from ui.web.theme import theme
from ui.web.worker_supervisor import WorkerSupervisor

MOST_UPLOAD = "128mb"
MOST_WAITING = 200
_HOUR = 3600
_HEADER = """
<div class="top"><h1>Concept Studio</h1>
<p>Teach a model new concepts from a few pictures, and generate them together.</p>
<button type="button" class="small-button" aria-label="Switch between light and dark">◐</button></div>
"""


def build(workflow: Workflow, api: bool = False) -> gr.Blocks:
    """The page, with the verbs as endpoints if `api` says so."""
    with gr.Blocks(title="Concept Studio", analytics_enabled=False, delete_cache=(_HOUR, 24 * _HOUR)) as page:
        gr.HTML(_HEADER, js_on_load=asset("theme.js") + asset("feedback.js") + asset("viewer.js"))
        hands = WorkerSupervisor(workflow.library)
        if api:
            open_api(workflow, hands)  # first, so that no event of the page has the name of an endpoint
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Concepts", id="concepts", elem_id="concepts-tab") as concepts:
                concepts_tab(workflow, hands, tabs, concepts, page)
            with gr.Tab("Train", id="train", elem_id="train-tab") as train:
                training = train_tab(workflow, hands, train, page)
            with gr.Tab("Generate", id="generate", elem_id="generate-tab") as generate:
                generation = generate_tab(workflow, generate, page)
            with gr.Tab("Compare", id="compare", elem_id="compare-tab") as comparison:
                compare_tab(workflow, hands)
            with gr.Tab("Score", id="score", elem_id="score-tab") as score:
                score_tab(workflow, score, page)
        by_id = {"concepts": concepts, "train": train, "generate": generate, "compare": comparison, "score": score}
        remember_tab(page, tabs, by_id)
        remember(page, "train", training)
        remember(page, "generate", generation)
    return page.queue(api_open=False, max_size=MOST_WAITING, default_concurrency_limit=1)


@dataclass(frozen=True)
class Address:
    """Where the page is served, and by which names a proxy before it is reached.

    `root_path` is the path, or the whole URL, below which the proxy serves the page; a URL's host is an allowed one. A
    login is a name and a password.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    login: tuple[str, str] | None = None
    allowed_hosts: Sequence[str] = ()
    root_path: str = ""


def serve(workflow: Workflow, address: Address, api: bool = False) -> gr.Blocks:
    """Serves the page from an empty folder of its own, and returns at once; `close()` ends it. `api` opens the verbs to
    other programs, behind the same login.

    Served are the page, what it uploads and what its events show, which are pictures of the library. Raises StudioError
    for an address that cannot be listened on.
    """
    root = workflow.library.local
    adopt_former(root)
    bypass_proxies(address.host)
    empty = private_folder() / "empty"
    empty.mkdir(exist_ok=True)
    os.chdir(empty)  # Gradio takes no file below here whose name begins with a dot, as an upload's may
    page = build(workflow, api)
    outside = urlsplit(address.root_path).hostname
    filters = filter_requests(address.host, [*address.allowed_hosts, *([outside] if outside else [])])
    options: dict[str, Any] = {"app_kwargs": {"middleware": filters, "docs_url": None, "redoc_url": None}}
    with without_proxies():
        page.launch(
            server_name=address.host, server_port=free_port(address.host, address.port), auth=address.login,
            root_path=address.root_path, prevent_thread_lock=True, quiet=True, share=False,
            inbrowser=False, show_error=False, footer_links=[], run_history=False, enable_monitoring=False,
            max_file_size=MOST_UPLOAD, allowed_paths=[str(root / FOLDER)], ssr_mode=False, mcp_server=False, pwa=False,
            theme=theme(), css=asset("page.css") + asset("viewer.css"), state_session_capacity=200, **options,
        )  # fmt: skip
    return page
