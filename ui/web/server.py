"""The studio in the browser: the page, and how it is served safely."""

import os
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from ui.services.gallery import FOLDER, adopt_former
from ui.services.workflow import Workflow
from ui.web.api import open_api
from ui.web.assets import asset
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
_DARK = "element.querySelector('button').onclick = () => document.body.classList.toggle('dark');"


def build(workflow: Workflow, api: bool = False) -> gr.Blocks:
    """The page, with the verbs as endpoints if `api` says so."""
    with gr.Blocks(title="Concept Studio", analytics_enabled=False, delete_cache=(_HOUR, 24 * _HOUR)) as page:
        gr.HTML(_HEADER, js_on_load=_DARK)
        hands = WorkerSupervisor(workflow.library)
        if api:
            open_api(workflow, hands)  # first, so that no event of the page has the name of an endpoint
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Concepts", id="concepts", elem_id="concepts-tab") as concepts:
                concepts_tab(workflow, hands, tabs, concepts, page)
            with gr.Tab("Train", id="train", elem_id="train-tab") as train:
                train_tab(workflow, hands, train, page)
            with gr.Tab("Generate", id="generate", elem_id="generate-tab") as generate:
                generate_tab(workflow, generate, page)
            with gr.Tab("Compare", id="compare", elem_id="compare-tab"):
                compare_tab(workflow, hands)
            with gr.Tab("Score", id="score", elem_id="score-tab") as score:
                score_tab(workflow, score, page)
    return page.queue(api_open=False, max_size=MOST_WAITING, default_concurrency_limit=1)


def serve(
    workflow: Workflow, host: str, port: int | None, auth: tuple[str, str] | None, api: bool = False
) -> gr.Blocks:
    """Serves the page from an empty folder of its own, and returns at once; `close()` ends it. `api` opens the verbs to
    other programs, behind the same login.

    Served are the page, what it uploads and what its events show, which are pictures of the library.
    """
    root = workflow.library.local
    adopt_former(root)
    work = Path(tempfile.mkdtemp(prefix="concept-studio-"))
    os.environ["GRADIO_TEMP_DIR"] = str(work / "cache")
    tempfile.tempdir = str(work)  # what an event returns from there is served, so nobody else's files may lie there
    (work / "empty").mkdir()
    os.chdir(work / "empty")  # Gradio takes no file below here whose name begins with a dot, as an upload's may
    page = build(workflow, api)
    options: dict[str, Any] = {"app_kwargs": {"middleware": filter_requests(host), "docs_url": None, "redoc_url": None}}
    page.launch(
        server_name=host, server_port=port, auth=auth, prevent_thread_lock=True, quiet=True, share=False,
        inbrowser=False, show_error=False, footer_links=[], run_history=False, enable_monitoring=False,
        max_file_size=MOST_UPLOAD, allowed_paths=[str(root / FOLDER)], ssr_mode=False, mcp_server=False, pwa=False,
        theme=theme(), css=asset("page.css"), state_session_capacity=200, **options,
    )  # fmt: skip
    return page
