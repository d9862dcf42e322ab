"""What the browser keeps of the page over a reload: the open tab, and what stood in the forms."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

_KEY = "concept-studio"
_SAVE = "(...values) => window.filledIn?.includes('{form}') ? [values] : new Promise(() => {{}})"
"""Nothing is saved as the page is built, when controls report changes, too."""
_FILLED_IN = "() => {{ window.filledIn = [...(window.filledIn || []), '{form}']; }}"
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def remember(page: gr.Blocks, form: str, controls: Sequence[Any]) -> None:
    """Keeps the values of a form's controls in the browser, without asking the server, and fills them in again.

    Call it outside of the tabs: what is in a tab is built when the tab is opened. Values that another version of the
    page kept, of another number of controls, are let go.
    """
    state = gr.BrowserState([], storage_key=f"{_KEY}-{form}", secret=_KEY)
    changes = [control.change for control in controls]
    gr.on(changes, None, list(controls), [state], js=_SAVE.format(form=form), trigger_mode="multiple", **_QUIET)

    def fill_in(saved: list[Any] | None) -> list[Any]:
        return saved if saved and len(saved) == len(controls) else [gr.skip()] * len(controls)

    loaded = page.load(fill_in, [state], list(controls), **_QUIET)
    loaded.then(None, js=_FILLED_IN.format(form=form), **_QUIET)


def remember_tab(page: gr.Blocks, tabs: gr.Tabs, by_id: Mapping[str, gr.Tab]) -> None:
    """Opens the tab again that was open."""
    state = gr.BrowserState("", storage_key=f"{_KEY}-tab", secret=_KEY)
    for name, tab in by_id.items():
        tab.select(None, None, [state], js=f"() => [{name!r}]", **_QUIET)

    def opened(name: str) -> Any:
        return gr.Tabs(selected=name) if name in by_id else gr.skip()

    page.load(opened, [state], [tabs], **_QUIET)
