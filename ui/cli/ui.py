"""`studio ui`: the web UI."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from concepts.errors import StudioError
from ui.cli.options import DEFAULT_LIBRARY, BaseOption, JsonOption, LibraryOption, errors, report

_SHORTEST_PASSWORD = 8


def ui(
    host: Annotated[
        str, typer.Option(help="The address to listen on; --auth is required unless it is a loopback address.")
    ] = ("127.0.0.1"),
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The port, 0 for any free one; the first free one from 7860 if unset."),
    ] = None,
    auth: Annotated[
        str | None, typer.Option(envvar="STUDIO_AUTH", help="NAME:PASSWORD, which the browser asks for.")
    ] = None,
    api: Annotated[
        bool, typer.Option("--api", help="Also serve the API, for gradio_client and other programs.")
    ] = False,
    allowed_host: Annotated[
        list[str],
        typer.Option("--allowed-host", help="The name by which a proxy's visitors reach the page, without the port."),
    ] = [],  # noqa: B006
    root_path: Annotated[
        str,
        typer.Option(
            help="Where a proxy serves the page: a path, /studio, or the whole URL, where it does not pass on the Host."
        ),
    ] = "",
    library: LibraryOption = DEFAULT_LIBRARY,
    base: BaseOption = "toybox",
    as_json: JsonOption = False,
) -> None:
    """Start the web UI and print its address."""
    login = login_from(host, auth)
    from ui.web.launch_environment import free_port, private_folder, without_proxies

    port = free_port(host, port)
    private_folder()  # before Gradio is imported
    errors.print("Loading …")
    from ui.services.workflow import Workflow

    with without_proxies():
        from ui.web.server import Address, serve

    folder = str(Path(base).resolve()) if Path(base).exists() else base
    page = serve(Workflow(library, folder), Address(host, port, login, allowed_host, root_path), api)
    report({"address": page.local_url}, as_json, lambda: typer.echo(f"Open {page.local_url} in a browser."))
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        page.close(verbose=False)


def login_from(host: str, auth: str | None) -> tuple[str, str] | None:
    """Name and password; StudioError where they are required and missing."""
    from ui.web.request_filter import LOOPBACK

    if auth is None:
        if host not in LOOPBACK:
            raise StudioError("Other machines can reach this address. Give --auth NAME:PASSWORD, or set STUDIO_AUTH.")
        return None
    name, _, password = auth.partition(":")
    if not name or len(password) < _SHORTEST_PASSWORD:
        raise StudioError(
            f"--auth is invalid. Give NAME:PASSWORD with a password of at least {_SHORTEST_PASSWORD} characters."
        )
    return name, password
