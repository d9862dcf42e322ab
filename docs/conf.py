"""The configuration of Sphinx: `sphinx-build -W docs build/docs` builds the site and needs no network."""

import os
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

project = "Concept Studio"
author = "Concept Studio founders"
project_copyright = f"2026, {author}"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["pages"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = project
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False

autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

_CODE = re.compile(r"(`[^`]+`)")
_SPECIAL = re.compile(r"([\\*|]|_(?!\w))")


def plain(app: Any, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """Lets Sphinx read a docstring as the plain text that it is: only what stands in backticks becomes code."""
    lines[:] = [
        "".join(f"`{part}`" if part.startswith("`") else _SPECIAL.sub(r"\\\1", part) for part in _CODE.split(line))
        for line in lines
    ]


def setup(app: Any) -> None:
    """Connects what reads docstrings."""
    app.connect("autodoc-process-docstring", plain)
